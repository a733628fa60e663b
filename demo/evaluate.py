"""Score a checkpoint against a CSV: `python -m demo.evaluate --csv FILE [--model REF]`.

Prints the report with its *predict nothing* row; `--json` and `--predictions` write it and the arrays behind it.
Counts known cells only. Changes nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from demo import splits, tables
from demo.checkpoint import Checkpoint, load_checkpoint
from demo.dataset import batched, read_pixels
from demo.durable import put
from demo.errors import EXIT_DONE, BadInput, TableError, command
from demo.flags import parse_flags
from demo.metrics import Figures, report
from demo.progress import Bar
from demo.tagger import Tagger


@dataclass(frozen=True)
class Photos:
    """N photos of a CSV. targets: (N, L) float32 of 1, 0, -1 for unknown. is_valid: (N,) bool."""

    paths: list[Path]
    file_names: list[str]
    targets: np.ndarray
    is_valid: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def where(self, rows: np.ndarray) -> Photos:
        """The photos that a bool array (N,) picks."""
        picked = np.flatnonzero(rows)
        return Photos(
            [self.paths[row] for row in picked],
            [self.file_names[row] for row in picked],
            self.targets[picked],
            self.is_valid[picked],
        )


def read_rows(csv: Path) -> list[tables.Merged]:
    """The images of a CSV, each with its rows; notes go to stderr. Raises TableError for any bad row."""
    table = tables.read_table(csv)
    tables.require_good(table)
    return merged(table)


def merged(table: tables.Table) -> list[tables.Merged]:
    """The images of a table's good rows, each with its rows; notes go to stderr."""
    for note in table.notes:
        print(f"note: {note}", file=sys.stderr)
    return tables.merge_rows(table.rows)


def photos_of(
    rows: list[tables.Merged],
    csv: Path,
    names: Sequence[str],
    model_names: Sequence[str],
    origins: Mapping[str, Sequence[str]] | None = None,
) -> Photos:
    """Targets for the L labels `names`, and who is held out: the rows marked `is_valid`.

    Without that column a fifth of the photos is held out, stratified over what the CSV itself names: the same ones
    whatever model is asked.
    model_names: the labels that `reviewed` = `all` speaks of where the row's model left none beside the CSV.
    origins: old labels by new one; what the CSV says of the old ones it then says of the new one.
    """
    if note := tables.disagreements(rows, model_names, csv.parent):
        print(f"note: {note}", file=sys.stderr)
    renamed = tables.renamed(rows, origins, model_names, csv.parent) if origins else rows
    targets = tables.targets(renamed, names, model_names, csv.parent)
    marked = [image.is_valid for image in rows]
    if all(side is None for side in marked):
        named = sorted(tables.labels_in(rows), key=lambda name: name.replace(" ", "_"))  # in whichever spelling
        facts = tables.targets(rows, named, (), csv.parent)
        held_out = splits.held_out(facts, hashes([image.path for image in rows]))
    else:
        held_out = np.array([bool(side) for side in marked])
    return Photos([image.path for image in rows], [image.file_name for image in rows], targets, held_out)


def hashes(paths: Sequence[Path]) -> list[str]:
    """The sha256 of each file; raises BadInput with the name of one that cannot be read."""

    def of(path: Path) -> str:
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BadInput(f"{path} cannot be read.", f"{error.strerror}.") from error

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(of, paths))


def score_paths(
    tagger: Tagger, paths: Sequence[Path], batch_size: int, title: str = "scoring", stop: Callable[[], None] = bool
) -> np.ndarray:
    """Scores (N, L) float32 of image files; `stop` may raise between batches.

    Raises BadInput naming the first image that cannot be decoded or prepared.
    """
    parts = [np.zeros((0, len(tagger.checkpoint.labels)), np.float32)]
    with Bar(title, len(paths), "image") as bar:
        for rows in batched(len(paths), batch_size):
            pixels = [read_pixels(path, tagger.checkpoint.preprocess) for path in paths[rows]]
            parts.append(tagger.forward(torch.stack(pixels)))
            bar.step(rows.stop - rows.start)
            stop()
    return np.concatenate(parts)


def evaluation(
    checkpoint: Checkpoint, csv: str, split: str, scores: np.ndarray, targets: np.ndarray, threshold: float
) -> dict:
    """The JSON of `demo.evaluate`: figures of scores (N, L) on targets (N, L) at a threshold."""
    return {
        "model": checkpoint.identity,
        "csv": csv,
        "split": split,
        "images": len(scores),
        "threshold": threshold,
        **report(scores, targets, checkpoint.labels.names, threshold),
    }


def show(rows: dict[str, Figures]) -> str:
    """A table of one line per row name, for the terminal."""
    figures = (
        "map",
        "micro_f1",
        "macro_f1",
        "sample_f1",
        "micro_precision",
        "micro_recall",
        "hamming_loss",
        "accuracy",
    )
    lines = [f"{'':<16}" + "".join(f"{name.replace('micro_p', 'p').replace('micro_r', 'r'):>13}" for name in figures)]
    for title, values in rows.items():
        cells = (values.get(name) for name in figures)
        lines.append(f"{title:<16}" + "".join(f"{'-' if cell is None else f'{cell:.4f}':>13}" for cell in cells))
    return "\n".join(lines)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    flags = parse_flags("evaluate", arguments, description="Score a checkpoint against a CSV, on known cells.")
    to_json, to_arrays = (Path(path) if path else None for path in (flags.json, flags.predictions))
    for flag, path in (("--json", to_json), ("--predictions", to_arrays)):
        with _writing(path):
            if path and path.is_dir():
                raise BadInput(f"{flag} {path} is a folder.", next_step="Name a file.")
            if path and not path.parent.is_dir():
                raise BadInput(f"{flag} {path} lies in no folder.", next_step="Make the folder first.")
    csv = Path(flags.csv)
    rows = read_rows(csv)
    checkpoint = load_checkpoint(flags.model)
    names = checkpoint.labels.names
    rows = tables.respelled(rows, names)
    foreign = [name for name in tables.labels_in(rows) if name not in checkpoint.labels.positions]
    if foreign:
        shown = ", ".join(foreign[:5]) + (" …" if len(foreign) > 5 else "")
        print(f"note: {len(foreign)} labels of {csv} are not the model's and count nowhere: {shown}", file=sys.stderr)
    photos = photos_of(rows, csv, names, names)
    if flags.split != "all":
        photos = photos.where(photos.is_valid if flags.split == "valid" else ~photos.is_valid)
    if not len(photos):
        raise TableError(f"{csv} has no rows in the split {flags.split!r}.", next_step="Try --split all.")
    scores = score_paths(Tagger(checkpoint, flags.device), photos.paths, flags.batch_size)
    result = evaluation(checkpoint, flags.csv, flags.split, scores, photos.targets, checkpoint.threshold)
    print(f"{result['model']} on {result['images']} images, {result['known_cells']} known cells,")
    print(f"at the threshold {result['threshold']:.3f}:")
    print(show({"model": result["metrics"], "predict nothing": result["predict_nothing"]}))
    if to_json:
        with _writing(to_json):
            put(to_json, (json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode())
    if to_arrays:
        arrays = io.BytesIO()
        np.savez_compressed(arrays, scores=scores, targets=photos.targets, file_names=np.array(photos.file_names))
        with _writing(to_arrays):
            put(to_arrays, arrays.getvalue())
    return EXIT_DONE


@contextmanager
def _writing(path: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"{path} could not be written.", f"{error.strerror or error}.", "Name another place.") from error


if __name__ == "__main__":
    sys.exit(main())
