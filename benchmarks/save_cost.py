"""What one save costs at 100 and at 100,000 rows, beside gradio's CSVLogger: python -m benchmarks.save_cost

Ours stores the image too and syncs image, row and folder to the disk; CSVLogger is given text only and syncs
nothing. Measures first saves by one writer; re-saves rewrite the file and are not measured.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from demo.corrections import Corrections
from demo.rows import HEADER, Correction, to_line

LABELS = [f"label number {number}" for number in range(12)]
ROW_COUNTS = (100, 100_000)
SAVES = 200


def filled(folder: Path, rows: int) -> Corrections:
    """Corrections with `rows` rows, without the images that belong to them."""
    lines = [
        to_line(
            Correction(
                file_name=f"images/{number:064x}.png",
                labels=tuple(LABELS[:4]),
                rejected=tuple(LABELS[4:6]),
                reviewed="listed",
                is_valid=number % 5 == 0,
                model_labels=tuple(LABELS[:6]),
                threshold=0.35,
                model="owner/name@0123456789ab",
                annotator="",
                saved_at="2026-01-01T00:00:00.000+00:00",
            )
        )
        for number in range(rows)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "corrections.csv").write_bytes(HEADER + b"".join(lines))
    return Corrections(folder)


def save_one(corrections: Corrections) -> None:
    """A first save of an image of 20 kB."""
    corrections.save(
        os.urandom(20_000),
        "png",
        labels=LABELS[:4],
        rejected=LABELS[4:6],
        reviewed="listed",
        model_labels=LABELS[:6],
        threshold=0.35,
        model="owner/name@0123456789ab",
    )


def milliseconds(calls: Sequence[Callable[[], object]], repeats: int = SAVES) -> list[list[float]]:
    """Sorted durations of each call; they take turns, so that a busy moment hits them all."""
    durations: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, times in zip(calls, durations, strict=True):
            start = time.perf_counter()
            call()
            times.append((time.perf_counter() - start) * 1e3)
    return [sorted(times) for times in durations]


def percentile(durations: Sequence[float], share: float) -> float:
    """Of sorted durations."""
    return durations[min(len(durations) - 1, int(len(durations) * share))]


def csv_logger(folder: Path, rows: int) -> Callable[[], object]:
    """A save of the same row through gradio's CSVLogger, with `rows` rows in its file."""
    import gradio

    logger = gradio.CSVLogger(verbose=False)
    cells = ["images/x.png", *[str(LABELS[:4])] * 3, "listed", "False", "0.35", "owner/name@0123456789ab", ""]
    logger.setup([gradio.Textbox(label=f"column {number}") for number in range(len(cells))], folder)
    logger.flag(cells)
    with Path(logger.dataset_filepath).open("r+", encoding="utf-8", newline="") as file:
        line = file.read().splitlines(keepends=True)[-1]
        file.write(line * (rows - 1))
    return lambda: logger.flag(cells)


def main() -> None:
    """Print p50 and p95 of both and what the rows cost."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        ours = [filled(Path(folder) / f"ours-{rows}", rows) for rows in ROW_COUNTS]
        theirs = [csv_logger(Path(folder) / f"theirs-{rows}", rows) for rows in ROW_COUNTS]
        for name, calls, repeats in (
            ("TagLoop (synced, with image)", [lambda store=store: save_one(store) for store in ours], SAVES),
            ("gradio CSVLogger (not synced)", theirs, SAVES // 10),
        ):
            few, many = milliseconds(calls, repeats)
            for rows, durations in zip(ROW_COUNTS, (few, many), strict=True):
                p50, p95 = percentile(durations, 0.5), percentile(durations, 0.95)
                print(f"{name:30} {rows:>7,} rows   p50 {p50:8.2f} ms   p95 {p95:8.2f} ms")
            print(f"{name:30} ratio of p50 {percentile(many, 0.5) / percentile(few, 0.5):.2f}")


if __name__ == "__main__":
    main()
