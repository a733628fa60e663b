"""Wrong labels in the CSV: a fine-tune warns, lists the cells that look wrong, and a worse model is not offered.

The planted implementation is a fine-tune that suspects nothing and judges nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from demo import finetune, outcome
from demo.checkpoint import load_checkpoint
from demo.corrections import Corrections
from demo.errors import EXIT_DONE
from demo.models import Models, ref_of
from demo.retrain import Retraining, Run
from demo.settings import EMBEDDED_CHECKPOINT, EXAMPLES, Settings
from demo.ui.desk import Desk
from demo.ui.retrain_tab import RetrainTab
from tests import loops
from tests.faults.table import demand, planted
from tests.test_finetune import plain_pictures, row, write_rows

Cell = tuple[str, str]
"""A file name and a label."""

THERE = {
    "astronaut": {"person"},
    "autumn-trees": {"trees"},
    "cat": {"cat"},
    "coffee": {"cup"},
    "dogs": {"dog"},
    "nuthatch": {"bird"},
    "polar-bear": {"bear"},
    "snowy-mountains": {"mountain"},
    "sunset": {"sunset"},
    "wine": {"wine glass"},
}
"""What is to be seen on example photos."""

PHOTOS = 160
QUICK = ["--device", "cpu", "--workers", "0", "--batch-size", "8", "--lr-head", "0.05"]


def turned(line: dict) -> dict:
    return line | {"labels": line["rejected"], "rejected": line["labels"]}


def pairs_of_photos(folder: Path) -> list[dict]:
    """Rows of random pieces of two example photos side by side: what is there, and as many labels that are not."""
    rng, rows = np.random.default_rng(0), []
    photos = {name: Image.open(EXAMPLES / f"{name}.jpg").convert("RGB") for name in THERE}
    every = sorted(set().union(*THERE.values()))
    for number in range(PHOTOS):
        sheet, present = Image.new("RGB", (448, 224)), set()
        for side, name in enumerate(rng.choice(list(photos), 2, replace=False)):
            photo, share = photos[name], rng.uniform(0.75, 1)
            size = int(share * min(photo.size))
            left, top = (int(rng.integers(0, length - size + 1)) for length in photo.size)
            piece = photo.crop((left, top, left + size, top + size)).resize((224, 224))
            sheet.paste(
                piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else piece, (224 * side, 0)
            )
            present |= THERE[name]
        sheet.save(folder / f"{number}.jpg", quality=90)
        absent = rng.choice(sorted(set(every) - present), len(present), replace=False).tolist()
        rows.append(row(f"{number}.jpg", sorted(present), absent, is_valid=number % 5 == 0))
    for photo in photos.values():
        photo.close()
    return rows


def poison(rows: list[dict], share: float) -> tuple[list[dict], set[Cell]]:
    """The rows with that share of their cells turned over, drawn at random, and which those are."""
    rng = np.random.default_rng(1)
    cells = [
        (line["file_name"], name) for line in rows for key in ("labels", "rejected") for name in json.loads(line[key])
    ]
    wrong = {cells[place] for place in rng.choice(len(cells), round(share * len(cells)), replace=False)}
    poisoned = []
    for line in rows:
        labels, rejected = (set(json.loads(line[key])) for key in ("labels", "rejected"))
        here = {name for file_name, name in wrong if file_name == line["file_name"]}
        lists = {"labels": labels ^ here, "rejected": rejected ^ here}
        poisoned.append(line | {key: json.dumps(sorted(names)) for key, names in lists.items()})
    return poisoned, wrong


class Trial:
    """A fine-tune and what becomes of it. said: what it wrote to stderr."""

    def __init__(self, csv: Path, out: Path, model: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> None:
        self.folder, self.model = out, model
        capsys.readouterr()
        assert finetune.main(["--csv", str(csv), "--out", str(out), "--model", str(model), *flags]) == EXIT_DONE
        self.said = capsys.readouterr().err
        self.metrics = json.loads((out / "metrics.json").read_text())

    @property
    def suspects(self) -> set[Cell]:
        return {(cell["file_name"], cell["label"]) for cell in self.metrics["suspects"]["cells"]}

    @property
    def fall(self) -> float:
        """Points of mAP lost."""
        return -100 * self.metrics["comparison"]["difference"]["map"]["value"]

    def is_offered(self) -> bool:
        """Whether the page would have it, by its button or by what stands behind that."""
        settings = Settings(model=str(self.model), corrections=self.folder.parent / "corrections", device="cpu")
        run, models = Run(state="done", out=str(self.folder), metrics=self.metrics), Models(settings)
        ended = type("Ended", (Retraining,), {"status": lambda _: run})(settings)

        async def built() -> RetrainTab:
            with gr.Blocks():
                return RetrainTab(models, Corrections(settings.corrections), ended, gr.State())

        tab = loops.run(built())  # or gradio makes an event loop and leaves it open
        desk = Desk(lambda: ref_of(models.own))
        taken = tab._use(desk, gr.EventData(None, _data={"name": run.name}))
        return bool(tab.value(desk)["offer"] or not taken["error"] or desk.chosen)

    def wrong(self, poisoned: set[Cell]) -> list[str]:
        """What of the demand is not so."""
        report = (self.folder / "report.html").read_text(encoding="utf-8")
        return [
            *["no warning"] * (bool(poisoned) and "decided cells" not in self.said),
            *["not in the report"] * (bool(poisoned) and "Likely label errors" not in report),
            *["not listed"] * (bool(poisoned) and len(poisoned & self.suspects) < len(poisoned) / 2),
            *["a worse model is offered"] * (self.fall > 1 and self.is_offered()),
        ]


@pytest.fixture
def poisoned_csv(tmp_path: Path) -> tuple[Path, set[Cell]]:
    """Sixty plain pictures, one in twenty with its labels the wrong way round."""
    rows, bad = plain_pictures(tmp_path), (7, 20, 43)
    rows = [turned(line) if number in bad else line for number, line in enumerate(rows)]
    return write_rows(tmp_path / "c.csv", rows), {
        (f"{number}.png", label) for number in bad for label in ("cat", "dog")
    }


@pytest.fixture
def worse(tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[], Trial]:
    """A function that fine-tunes a model that knows cats on rows that call them dogs, held-out ones excepted."""
    rows = plain_pictures(tmp_path)
    good = write_rows(tmp_path / "good.csv", rows)
    bad = write_rows(tmp_path / "bad.csv", [line if line["is_valid"] == "True" else turned(line) for line in rows])
    first = Trial(good, tmp_path / "first", tiny_checkpoint, capsys, *QUICK)
    assert first.metrics["verdict"] == "better"
    assert first.is_offered()
    return lambda: Trial(bad, tmp_path / "second", first.folder, capsys, *QUICK)


@demand("poisoned labels")
def test_poisoned_labels_are_warned_of_and_listed(
    poisoned_csv: tuple[Path, set[Cell]], tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv, poisoned = poisoned_csv
    trial = Trial(csv, tmp_path / "out", tiny_checkpoint, capsys, *QUICK)
    assert trial.wrong(poisoned) == []
    assert trial.suspects == poisoned


@demand("poisoned labels")
def test_a_model_that_lost_more_than_a_point_is_written_and_not_offered(
    worse: Callable[[], Trial], figure: Callable[[str], None]
) -> None:
    trial = worse()
    figure(f"confused on purpose: mAP fell by {trial.fall:.1f} points, {trial.metrics['verdict']}, not offered")
    assert trial.wrong(set()) == []
    assert (trial.fall > 1, trial.metrics["verdict"]) == (True, "worse")
    change = trial.metrics["comparison"]["difference"]["map"]
    assert change["low"] <= change["value"] <= change["high"] < 0
    assert "warning: mAP fell by" in trial.said
    load_checkpoint(trial.folder)


@pytest.mark.faults
@demand("poisoned labels")
@pytest.mark.timeout(900)
def test_of_random_labels_on_photos_most_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], figure: Callable[[str], None]
) -> None:
    rows, poisoned = poison(pairs_of_photos(tmp_path), 0.05)
    csv = write_rows(tmp_path / "c.csv", rows)
    trial = Trial(
        csv, tmp_path / "out", EMBEDDED_CHECKPOINT, capsys, "--device", "cpu", "--workers", "0", "--train", "head"
    )
    found = poisoned & trial.suspects
    recall, precision = len(found) / len(poisoned), len(found) / len(trial.suspects)
    figure(
        f"5 % random cells on {PHOTOS} photos: {len(found)} of {len(poisoned)} listed, {precision:.0%} of what is "
        f"listed is wrong, mAP {-trial.fall:+.1f} points, {trial.metrics['verdict']}"
    )
    assert trial.wrong(poisoned) == []
    assert recall > 0.6
    assert precision > 0.5


@planted("poisoned labels")
def test_the_check_of_poisoned_labels_catches_a_fine_tune_that_suspects_nothing(
    poisoned_csv: tuple[Path, set[Cell]],
    tmp_path: Path,
    tiny_checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outcome, "find_suspects", lambda *_: [])
    csv, poisoned = poisoned_csv
    trial = Trial(csv, tmp_path / "out", tiny_checkpoint, capsys, *QUICK)
    assert trial.wrong(poisoned) == ["no warning", "not in the report", "not listed"]


@planted("poisoned labels")
def test_the_check_of_worse_models_catches_a_fine_tune_that_judges_nothing(
    worse: Callable[[], Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "verdict", lambda comparison: "same")
    assert worse().wrong(set()) == ["a worse model is offered"]
