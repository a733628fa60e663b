"""The fine-tune from a CSV to a checkpoint that loads, on a model of 67,000 weights."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from demo import evaluate, finetune, splits
from demo.checkpoint import load_checkpoint, save_checkpoint
from demo.errors import CheckpointError, Interrupted
from demo.outcome import Scores
from demo.progress import PROGRESS
from demo.run_folder import Stop, stop_file
from demo.tagger import Tagger
from tests.conftest import NAMES

ROOT = Path(__file__).parents[1]
QUICK = ["--device", "cpu", "--workers", "0", "--batch-size", "8"]


def write_rows(path: Path, rows: list[dict]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def row(
    file_name: object, labels: list[str], rejected: list[str] = (), is_valid: bool = False, reviewed: str = "listed"
):
    return {
        "file_name": str(file_name),
        "labels": json.dumps(labels),
        "rejected": json.dumps(list(rejected)),
        "reviewed": reviewed,
        "is_valid": str(is_valid),
    }


@pytest.fixture
def corrections(tmp_path, make_image):
    """Twenty-four pictures; blue-ish noise seeds decide `cat` and `dog`, everything else is unknown."""
    rows = []
    for seed in range(24):
        path = tmp_path / f"{seed}.png"
        path.write_bytes(make_image(seed))
        present, absent = ("cat", "dog") if seed % 2 else ("dog", "cat")
        rows.append(row(path.name, [present], [absent], is_valid=seed % 5 == 0))
    return write_rows(tmp_path / "corrections.csv", rows)


def run(corrections, out, model, *more) -> int:
    return finetune.main(["--csv", str(corrections), "--out", str(out), "--model", str(model), *QUICK, *more])


def test_the_corrected_cells_are_learned_and_the_rest_stays(corrections, tmp_path, tiny_checkpoint):
    assert run(corrections, tmp_path / "out", tiny_checkpoint, "--blend", "1") == 0
    old, new = load_checkpoint(tiny_checkpoint), load_checkpoint(tmp_path / "out")
    assert new.labels.names == old.labels.names
    assert not torch.equal(new.model.head.weight, old.model.head.weight)
    for name, tensor in old.model.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(tensor, new.model.state_dict()[name])
    common = ["--csv", str(corrections), "--split", "train", "--json"]
    evaluate.main([*common, str(tmp_path / "old.json"), "--model", str(tiny_checkpoint)])
    evaluate.main([*common, str(tmp_path / "new.json"), "--model", str(tmp_path / "out")])
    before, after = (json.loads((tmp_path / f"{which}.json").read_text())["metrics"] for which in ("old", "new"))
    assert after["map"] > before["map"] + 0.1


def test_the_metrics_file_is_what_evaluate_measures(corrections, tmp_path, tiny_checkpoint):
    assert run(corrections, tmp_path / "out", tiny_checkpoint, "--half") == 0
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    arguments = ["--csv", str(corrections), "--model", str(tmp_path / "out"), "--json", str(tmp_path / "again.json")]
    assert evaluate.main([*arguments, "--predictions", str(tmp_path / "p.npz")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    for key in ("model", "split", "images", "known_cells", "threshold"):
        assert again[key] == stored[key]
    for key in ("metrics", "predict_nothing"):
        assert again[key] == pytest.approx(stored[key], abs=1e-6)
    assert stored["comparison"]["by"] == "folds"  # there are five held-out photos
    assert stored["comparison"]["images"] == 24
    assert set(stored["old_model"]) == set(stored["metrics"])
    assert len(stored["curve"]["threshold"]) == len(stored["curve"]["f1"])
    with np.load(tmp_path / "p.npz") as arrays:
        assert arrays["scores"].shape == arrays["targets"].shape == (stored["images"], 12)
        assert len(arrays["file_names"]) == stored["images"]


def test_confirmations_alone_draw_no_curve_and_no_threshold(tmp_path, make_image, tiny_checkpoint):
    rows = []
    for seed in range(24):
        (tmp_path / f"{seed}.png").write_bytes(make_image(seed))
        rows.append(row(f"{seed}.png", ["cat"], is_valid=seed % 5 == 0))
    assert run(write_rows(tmp_path / "c.csv", rows), tmp_path / "out", tiny_checkpoint) == 0
    old, new = load_checkpoint(tiny_checkpoint), load_checkpoint(tmp_path / "out")
    assert (new.curve, new.threshold, new.labels.thresholds) == (None, old.threshold, ())
    assert "Too few images say what is absent" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("train", ["norm", "full"])
def test_the_backbone_moves_as_far_as_train_says(train, corrections, tmp_path, tiny_checkpoint):
    assert (
        run(corrections, tmp_path / "out", tiny_checkpoint, "--train", train, "--epochs", "2", "--mosaic", "0.5") == 0
    )
    old, new = (load_checkpoint(folder).model.state_dict() for folder in (tiny_checkpoint, tmp_path / "out"))
    matrices = [name for name, tensor in old.items() if tensor.ndim > 1 and "head" not in name]
    assert any(not torch.equal(old[name], new[name]) for name in matrices) == (train == "full")
    assert not torch.equal(old["norm.weight"], new["norm.weight"])


def test_the_same_seed_gives_the_same_metrics(corrections, tmp_path, tiny_checkpoint):
    for name in ("a", "b"):
        assert (
            run(corrections, tmp_path / name, tiny_checkpoint, "--train", "full", "--epochs", "1", "--seed", "5") == 0
        )
    first, second = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("a", "b"))
    assert first.pop("model").rpartition("@")[2] == second.pop("model").rpartition("@")[2]
    assert first == second


def test_a_label_that_the_model_lacks_becomes_a_new_row(corrections, tmp_path, tiny_checkpoint):
    text = corrections.read_text().replace("dog", "axolotl")
    corrections.write_text(text)
    assert run(corrections, tmp_path / "out", tiny_checkpoint) == 0
    new = load_checkpoint(tmp_path / "out")
    assert new.labels.names[-1] == "axolotl"
    assert len(new.labels) == 13


def test_new_labels_can_be_an_error_or_skipped(corrections, tmp_path, tiny_checkpoint, capsys):
    corrections.write_text(corrections.read_text().replace("dog", "axolotl"))
    assert run(corrections, tmp_path / "out", tiny_checkpoint, "--new-labels", "error") == 2
    assert "axolotl" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run(corrections, tmp_path / "out", tiny_checkpoint, "--new-labels", "skip") == 0
    assert len(load_checkpoint(tmp_path / "out").labels) == 12


def test_a_new_label_that_was_only_ever_confirmed_is_not_learned_as_always_there(
    corrections, tmp_path, tiny_checkpoint
):
    lines = corrections.read_text().splitlines()
    lines[2] = lines[2].replace('""cat""', '""axolotl""', 1)
    corrections.write_text("\n".join(lines) + "\n")
    assert run(corrections, tmp_path / "out", tiny_checkpoint) == 0
    new = load_checkpoint(tmp_path / "out")
    pictures = [Image.open(path).convert("RGB") for path in sorted(tmp_path.glob("*.png"))]
    assert Tagger(new, "cpu").scores(pictures)[:, new.labels.positions["axolotl"]].mean() < 0.5


def test_a_label_that_nobody_decided_waits_for_its_first_corrections(corrections, tmp_path, tiny_checkpoint):
    vocabulary = tmp_path / "labels.json"
    vocabulary.write_text(json.dumps({"cat": ["cat"], "bird": ["bird"], "castle": []}))
    assert (
        run(corrections, tmp_path / "first", tiny_checkpoint, "--labels", str(vocabulary), "--new-labels", "skip") == 0
    )
    untaught = load_checkpoint(tmp_path / "first")
    castle = untaught.labels.positions["castle"]
    assert not untaught.model.head.weight[castle].any()
    rows = [row(f"{seed}.png", ["castle"] * (seed % 2), ["castle"] * (1 - seed % 2)) for seed in range(24)]
    castles = write_rows(tmp_path / "castles.csv", rows)
    assert run(castles, tmp_path / "second", tmp_path / "first", "--lr-head", "0") == 0
    taught = load_checkpoint(tmp_path / "second")
    images = [Image.open(tmp_path / f"{seed}.png").convert("RGB") for seed in range(24)]
    assert Tagger(taught, "cpu").scores(images)[:, castle].mean() == pytest.approx(0.5, abs=0.15)


def measured(monkeypatch) -> list[Scores]:
    """What the saved share of each fine-tune from here on said, in their order."""
    kept, measure = [], finetune.measure

    def keeping(new, old, photos, scores, *more, **named):
        kept.append(scores)
        return measure(new, old, photos, scores, *more, **named)

    monkeypatch.setattr(finetune, "measure", keeping)
    return kept


def half_decided(folder: Path, label: str, flip: int = -1) -> Path:
    """A CSV of twenty of the pictures, of which every other one decides a label; the row `flip` says the opposite."""
    rows = []
    for number in range(20):
        said = [label] if number % 4 and number % 2 == 0 else []
        denied = [label] if number % 4 == 0 else []
        cat = ["cat"] if number % 2 else []
        said, denied = (denied, said) if number == flip else (said, denied)
        rows.append(row(f"{number}.png", said + cat, denied))
    return write_rows(folder / "half.csv", rows)


def test_a_label_that_waits_for_corrections_is_learned_as_one_that_the_model_lacks(
    corrections, tmp_path, tiny_checkpoint, make_checkpoint, monkeypatch
):
    waiting = make_checkpoint(names=(*NAMES, "castle"))
    lacking = load_checkpoint(tiny_checkpoint)
    with torch.no_grad():
        waiting.model.load_state_dict(lacking.model.state_dict() | {
            "head.weight": torch.cat([lacking.model.head.weight, torch.zeros(1, 48)]),
            "head.bias": torch.cat([lacking.model.head.bias, torch.tensor([-2.0])]),
        })  # fmt: skip
    save_checkpoint(tmp_path / "waiting", waiting)
    kept, csv_path = measured(monkeypatch), half_decided(tmp_path, "castle")
    for name, model in (("a", tmp_path / "waiting"), ("b", tiny_checkpoint)):
        assert run(csv_path, tmp_path / name, model) == 0
    one, other = (load_checkpoint(tmp_path / name).model.state_dict() for name in "ab")
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name
    assert all(np.isnan(scores.old[:, 12]).all() for scores in kept)


def test_what_judges_a_photo_learned_nothing_that_came_of_its_decisions(
    corrections, tmp_path, tiny_checkpoint, monkeypatch
):
    """Of a label that the model lacks, other photos' unknown cells are expected by heads that saw this photo."""
    monkeypatch.setattr(splits, "folds", lambda targets, *_, **__: np.arange(len(targets)) % 5)
    kept, flipped = measured(monkeypatch), 6
    for name, flip in (("as it was", -1), ("flipped", flipped)):
        csv_path = half_decided(tmp_path, "castle", flip)
        assert run(csv_path, tmp_path / name, tiny_checkpoint, "--blend", "0.9") == 0
    before, after = (scores.unseen for scores in kept)
    np.testing.assert_array_equal(before[flipped], after[flipped])
    assert np.abs(before - after)[:, 12].max() > 1e-3


def test_a_label_map_starts_a_new_vocabulary(corrections, tmp_path, tiny_checkpoint):
    (tmp_path / "map.json").write_text(json.dumps({"cat": ["cat", "bird"], "dog": ["dog"], "fresh": []}))
    assert run(corrections, tmp_path / "out", tiny_checkpoint, "--labels", str(tmp_path / "map.json")) == 0
    assert load_checkpoint(tmp_path / "out").labels.names == ("cat", "dog", "fresh")


def test_a_label_map_with_a_label_that_is_not_there_is_refused(corrections, tmp_path, tiny_checkpoint, capsys):
    (tmp_path / "map.json").write_text('{"cat": ["cta"]}')
    assert run(corrections, tmp_path / "out", tiny_checkpoint, "--labels", str(tmp_path / "map.json")) == 2
    assert "'cta'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row("missing.png", ["cat"])], "missing.png"),
        ([row("0.png", ["cat"], ["cat"])], "line 2"),
        ([row("0.png", ["cat"], is_valid=True)], "held out"),
        ([row("broken.png", ["cat"])], "broken.png"),
    ],
)
def test_bad_rows_stop_it_before_anything_is_written(rows, said, corrections, tmp_path, tiny_checkpoint, capsys):
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    bad = write_rows(tmp_path / "bad.csv", rows)
    assert run(bad, tmp_path / "out", tiny_checkpoint) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_model_that_ends_in_a_sigmoid_is_refused_with_the_reason(
    corrections, tmp_path, tiny_checkpoint, monkeypatch, capsys
):
    forward = timm.models.VisionTransformer.forward_head

    def squashed(self, x, pre_logits=False):
        return forward(self, x, pre_logits) if pre_logits else forward(self, x).sigmoid()

    monkeypatch.setattr(timm.models.VisionTransformer, "forward_head", squashed)
    assert evaluate.main(["--csv", str(corrections), "--model", str(tiny_checkpoint)]) == 2
    assert "already went through a sigmoid" in capsys.readouterr().err


def test_an_empty_csv_is_refused(tmp_path, tiny_checkpoint, capsys):
    (tmp_path / "empty.csv").write_text("")
    assert run(tmp_path / "empty.csv", tmp_path / "out", tiny_checkpoint) == 2
    assert "empty" in capsys.readouterr().err


def test_a_folder_with_something_in_it_is_never_written_to(corrections, tmp_path, tiny_checkpoint, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    for more in ([], ["--resume"]):
        assert run(corrections, tmp_path / "out", tiny_checkpoint, *more) == 2
        assert "--out" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_out_may_be_the_folder_one_is_in(corrections, tmp_path, tiny_checkpoint, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    assert run(corrections, ".", tiny_checkpoint) == 0
    load_checkpoint(tmp_path / "out")


def test_a_stop_file_ends_what_hears_no_signal_and_nothing_else(tmp_path):
    stop_file(tmp_path / "run").touch()
    with Stop(tmp_path / "run") as stop:
        stop()  # in the main thread: a file that was left there keeps nobody from a run

    def stopped() -> bool:
        with pytest.raises(Interrupted), Stop(tmp_path / "run") as stop:
            stop()
        return True

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(stopped).result(60)


def plain_pictures(folder: Path) -> list[dict]:
    """Rows of sixty plain pictures, reds that are cats and blues that are dogs, every third held out."""
    rng, rows = np.random.default_rng(0), []
    for number in range(60):
        strong, weak = rng.integers(150, 256), rng.integers(0, 60)
        colour = (strong, weak, weak) if number % 2 else (weak, weak, strong)
        Image.new("RGB", (32, 32), tuple(int(value) for value in colour)).save(folder / f"{number}.png")
        present, absent = ("cat", "dog") if number % 2 else ("dog", "cat")
        rows.append(row(f"{number}.png", [present], [absent], is_valid=number % 3 == 0))
    return rows


@pytest.fixture
def coloured(tmp_path) -> list[dict]:
    return plain_pictures(tmp_path)


def test_the_old_model_is_measured_at_its_own_size_and_threshold(coloured, tmp_path, tiny_checkpoint):
    csv_path = write_rows(tmp_path / "c.csv", coloured)
    assert run(csv_path, tmp_path / "out", tiny_checkpoint, "--image-size", "64") == 0
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (
        evaluate.main(["--csv", str(csv_path), "--model", str(tiny_checkpoint), "--json", str(tmp_path / "e.json")])
        == 0
    )
    alone = json.loads((tmp_path / "e.json").read_text())
    assert stored["old_model"] == pytest.approx(alone["metrics"], abs=1e-6)
    assert stored["comparison"]["threshold"]["old"] == alone["threshold"]
    assert load_checkpoint(tmp_path / "out").data["input_size"] == (3, 64, 64)


def test_copies_of_an_image_on_both_sides_are_told(coloured, tmp_path, tiny_checkpoint, capsys):
    (tmp_path / "0.png").write_bytes((tmp_path / "1.png").read_bytes())  # 0 is held out, 1 is not
    assert run(write_rows(tmp_path / "c.csv", coloured), tmp_path / "out", tiny_checkpoint) == 0
    assert "1 held-out images are copies of training images" in capsys.readouterr().err


def test_a_target_precision_goes_into_the_checkpoint(coloured, tmp_path, tiny_checkpoint):
    csv_path = write_rows(tmp_path / "c.csv", coloured)
    more = ["--lr-head", "0.05", "--target-precision", "0.9"]
    assert run(csv_path, tmp_path / "out", tiny_checkpoint, *more) == 0
    new = load_checkpoint(tmp_path / "out")
    assert new.metrics["metrics"]["micro_precision"] >= 0.9
    assert new.labels.thresholds[0] < 0.5  # ten cats are held out, all of them told apart
    assert new.labels.thresholds[2] is None


def test_a_dry_run_walks_one_photo_through_and_draws_what_is_learned_from(
    corrections, tmp_path, tiny_checkpoint, capsys
):
    corrections.write_text(corrections.read_text().replace("dog", "<b>d\\u2028og" + "g" * 300))
    assert run(corrections, tmp_path / "out", tiny_checkpoint, "--check", "--mosaic", "0.5") == 0
    said = capsys.readouterr().out
    assert "0 of 24 rows cannot be used" in said
    for step in ("decoded", "pixels", "augmented pixels", "features", "old logits", "old scores", "targets", "loss"):
        assert f"  {step} " in said
    assert "(3, 32, 32) float32, -" in said
    assert "2 known, 11 soft, 0 unused" in said
    assert not (tmp_path / "out").exists()
    with Image.open(tmp_path / "out-check.png") as picture:
        assert picture.width == 4 * 240


def test_a_dry_run_lists_every_bad_row_with_its_line_and_goes_on_with_the_others(
    corrections, tmp_path, tiny_checkpoint, capsys
):
    lines = corrections.read_text().splitlines()
    gone = [lines[1].replace("0.png", f"gone{number}.png") for number in range(12)]
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    broken = lines[1].replace("0.png", "broken.png")
    corrections.write_text("\n".join([*lines[:3], *gone, *lines[3:], broken]) + "\n")
    assert run(corrections, tmp_path / "out", tiny_checkpoint, "--check") == 2
    told = capsys.readouterr()
    for line in [*range(4, 16), 38]:
        assert f"line {line}: " in told.err
    assert "13 of 37 rows cannot be used" in told.err
    assert "  loss " in told.out
    corrections.write_text("\n".join([lines[0], *gone]) + "\n")
    assert run(corrections, tmp_path / "out", tiny_checkpoint, "--check") == 2
    assert "decides no cell" in capsys.readouterr().err


def test_a_dry_run_refuses_with_the_same_words_what_the_run_would_refuse(
    corrections, tmp_path, tiny_checkpoint, capsys
):
    """All held out, nothing decided, a folder of something else; and images that cannot be replayed."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.txt").write_text("keep")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1.png").write_bytes(b"not a picture")
    held_out = write_rows(tmp_path / "held.csv", [row("0.png", ["cat"], is_valid=True), row("1.png", [])])
    undecided = write_rows(tmp_path / "nothing.csv", [row("0.png", []), row("1.png", ["cat"], is_valid=True)])
    cases = [
        (held_out, "out", []),
        (undecided, "out", []),
        (corrections, "mine", []),
        (corrections, "mine", ["--resume"]),
        (corrections, "mine/mine.txt", []),
    ]
    for csv_path, out, more in cases:
        said = []
        for check in ([], ["--check"]):
            assert run(csv_path, tmp_path / out, tiny_checkpoint, *more, *check) == 2, (csv_path, out, more)
            said.append(next(line for line in capsys.readouterr().err.splitlines() if not line.startswith("note:")))
        assert said[0] == said[1]
        assert not (tmp_path / "out").exists()
    assert run(corrections, tmp_path / "out", tiny_checkpoint, "--check", "--replay", str(tmp_path / "broken")) == 2
    assert str(tmp_path / "broken" / "1.png") in capsys.readouterr().err
    assert run(corrections, tmp_path / "new" / "out", tiny_checkpoint, "--check") == 0
    assert not (tmp_path / "new" / "out").exists()


def test_a_dry_run_shows_the_cells_that_training_would_have(corrections, tmp_path, tiny_checkpoint, capsys):
    """The first photo does not decide the label that the model lacks: another one does."""
    rows = [row("1.png", ["cat"]), row("2.png", ["castle"])]
    csv_path = write_rows(tmp_path / "two.csv", rows)
    assert run(csv_path, tmp_path / "out", tiny_checkpoint, "--check") == 0
    assert "1 known, 12 soft, 0 unused" in capsys.readouterr().out
    old = Tagger(load_checkpoint(tiny_checkpoint), "cpu").scores([Image.open(tmp_path / "1.png").convert("RGB")])[0]
    for share, highest in (("0", 1.0), ("1", old.max())):
        assert run(csv_path, tmp_path / "out", tiny_checkpoint, "--check", "--teacher-share", share) == 0
        assert f"targets           (13,) float32, 0 to {highest:.3g};" in capsys.readouterr().out


def test_where_the_moved_backbone_was_not_judged_that_is_said(corrections, tmp_path, tiny_checkpoint, capsys):
    for train, count in (("full", 1), ("head", 0)):
        assert run(corrections, tmp_path / train, tiny_checkpoint, "--train", train, "--epochs", "1") == 0
        assert capsys.readouterr().err.count("before it moved, not by the model that is saved") == count


def test_without_marked_rows_a_fifth_is_held_out_and_evaluate_takes_the_same(corrections, tmp_path, tiny_checkpoint):
    columns = ("file_name", "labels", "rejected")
    table = list(csv.DictReader(corrections.read_text().splitlines()))
    bare = write_rows(tmp_path / "bare.csv", [{key: line[key] for key in columns} for line in table])
    assert run(bare, tmp_path / "out", tiny_checkpoint, "--seed", "3") == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["images"] == 4
    arguments = ["--csv", str(bare), "--model", str(tmp_path / "out"), "--predictions", str(tmp_path / "p.npz")]
    assert evaluate.main(arguments) == 0
    with np.load(tmp_path / "p.npz") as arrays:
        assert 2 <= (arrays["targets"][:, 0] == 1).sum() <= 3  # half the photos are cats


@pytest.mark.parametrize("unknown", ["distill", "ignore", "negative"])
@pytest.mark.parametrize("loss", ["bce", "asl"])
def test_every_way_with_unknown_cells_trains(unknown, loss, corrections, tmp_path, tiny_checkpoint):
    assert run(corrections, tmp_path / "out", tiny_checkpoint, "--unknown", unknown, "--loss", loss) == 0
    scores = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert scores["metrics"]["map"] is not None


def test_distillation_keeps_what_nobody_corrected_better_than_assuming_absence(corrections, tmp_path, tiny_checkpoint):
    pictures = [Image.open(path).convert("RGB") for path in sorted(tmp_path.glob("*.png"))]
    old = Tagger(load_checkpoint(tiny_checkpoint), "cpu").scores(pictures)
    drift = {}
    for unknown in ("distill", "negative"):
        assert run(corrections, tmp_path / unknown, tiny_checkpoint, "--unknown", unknown) == 0
        new = Tagger(load_checkpoint(tmp_path / unknown), "cpu").scores(pictures)
        drift[unknown] = np.abs(new - old)[:, 2:].mean()
    assert drift["distill"] < drift["negative"] / 2


def test_an_interrupted_run_is_no_checkpoint_and_goes_on_to_the_same_result(
    corrections, tmp_path, tiny_checkpoint, monkeypatch, capsys
):
    arguments = ["--train", "full", "--epochs", "3"]
    assert run(corrections, tmp_path / "whole", tiny_checkpoint, *arguments) == 0
    original, calls = finetune.Stop.__call__, []

    def stop_in_the_second_epoch(self):
        state = tmp_path / "part" / "state.json"
        if state.exists() and json.loads(state.read_text())["epoch"] == 1 and not calls:
            calls.append(1)
            raise Interrupted("Interrupted.")
        original(self)

    monkeypatch.setattr(finetune.Stop, "__call__", stop_in_the_second_epoch)
    assert run(corrections, tmp_path / "part", tiny_checkpoint, *arguments) == 130
    with pytest.raises(CheckpointError, match="not finished"):
        load_checkpoint(tmp_path / "part")
    assert json.loads((tmp_path / "part" / PROGRESS).read_text())["state"] == "interrupted"
    assert run(corrections, tmp_path / "part", tiny_checkpoint, *arguments) == 2
    assert "--resume" in capsys.readouterr().err
    assert run(corrections, tmp_path / "part", tiny_checkpoint, *arguments, "--seed", "9", "--resume") == 2
    assert run(corrections, tmp_path / "part", tiny_checkpoint, *arguments, "--resume") == 0
    whole, part = (load_checkpoint(tmp_path / name) for name in ("whole", "part"))
    for name, tensor in whole.model.state_dict().items():
        assert torch.allclose(tensor, part.model.state_dict()[name], atol=1e-6), name
    assert not (tmp_path / "part" / "state.safetensors").exists()


def test_a_run_that_died_while_saving_goes_on(corrections, tmp_path, tiny_checkpoint, monkeypatch, capsys):
    arguments = ["--train", "full", "--epochs", "1"]

    def full_disk(folder, *_, **__):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "save_checkpoint", full_disk)
        assert run(corrections, tmp_path / "out", tiny_checkpoint, *arguments) == 2
    assert "No space left" in capsys.readouterr().err
    assert run(corrections, tmp_path / "out", tiny_checkpoint, *arguments, "--resume") == 0
    load_checkpoint(tmp_path / "out")


def test_another_photo_of_the_same_name_is_another_run(
    corrections, tmp_path, tiny_checkpoint, make_image, monkeypatch, capsys
):
    arguments = ["--train", "full", "--epochs", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "blend", lambda *_: (_ for _ in ()).throw(Interrupted("Interrupted.")))
        assert run(corrections, tmp_path / "out", tiny_checkpoint, *arguments) == 130
    kept = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(make_image(300))
    assert run(corrections, tmp_path / "out", tiny_checkpoint, *arguments, "--resume") == 2
    assert "was begun with other flags, another model or other corrections" in capsys.readouterr().err
    (tmp_path / "3.png").write_bytes(kept)
    assert run(corrections, tmp_path / "out", tiny_checkpoint, *arguments, "--resume") == 0


def test_another_label_map_is_another_run(corrections, tmp_path, tiny_checkpoint, monkeypatch):
    labels = tmp_path / "map.json"
    labels.write_text('{"cat": ["cat"], "dog": ["dog"]}')
    arguments = ["--train", "full", "--epochs", "1", "--labels", str(labels)]
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "blend", lambda *_: (_ for _ in ()).throw(Interrupted("Interrupted.")))
        assert run(corrections, tmp_path / "out", tiny_checkpoint, *arguments) == 130
    labels.write_text('{"dog": ["dog"], "cat": ["cat"]}')
    assert run(corrections, tmp_path / "out", tiny_checkpoint, *arguments, "--resume") == 2


def test_a_learning_rate_of_zero_for_the_backbone_leaves_the_head_its_own(corrections, tmp_path, tiny_checkpoint):
    more = ["--train", "full", "--epochs", "2", "--head-epochs", "0", "--lr-backbone", "0"]
    assert run(corrections, tmp_path / "out", tiny_checkpoint, *more) == 0
    old, new = (load_checkpoint(folder).model.state_dict() for folder in (tiny_checkpoint, tmp_path / "out"))
    assert torch.equal(old["blocks.0.attn.qkv.weight"], new["blocks.0.attn.qkv.weight"])
    assert not torch.equal(old["head.weight"], new["head.weight"])


def test_sigterm_ends_with_130_and_a_resumable_folder(corrections, tmp_path, tiny_checkpoint):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "demo.finetune", "--csv", str(corrections), "--out", str(out)]
    command += ["--model", str(tiny_checkpoint), *QUICK, "--train", "full", "--epochs", "5000"]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONWARNINGS": ""}
    )
    deadline = time.monotonic() + 120
    while not (out / "state.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in error
    assert "Traceback" not in error
    assert not (out / "config.json").exists()


def test_old_labels_of_the_csv_speak_for_the_label_that_joins_them(corrections, tmp_path, tiny_checkpoint):
    labels = tmp_path / "map.json"
    labels.write_text('{"pet": ["cat", "dog"], "bird": ["bird"]}')
    assert run(corrections, tmp_path / "out", tiny_checkpoint, "--labels", str(labels)) == 0
    new = load_checkpoint(tmp_path / "out")
    assert new.labels.names == ("pet", "bird")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["labels"]["pet"]["support"] == metrics["known_cells"] == 5  # each picture has one of the two


def test_replayed_images_keep_what_nobody_corrected(corrections, tmp_path, tiny_checkpoint, make_image, capsys):
    """Without replay the other labels drift further on images like the replayed ones."""
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    for seed in range(100, 160):
        (earlier / f"{seed}.png").write_bytes(make_image(seed))
    images = [Image.open(path).convert("RGB") for path in sorted(earlier.iterdir())]
    common = ["--blend", "1", "--lr-head", "0.01", "--distill-weight", "1"]

    def scores(folder):
        return Tagger(load_checkpoint(folder), "cpu").scores(images)

    assert run(corrections, tmp_path / "alone", tiny_checkpoint, *common) == 0
    assert run(corrections, tmp_path / "replayed", tiny_checkpoint, *common, "--replay", str(earlier)) == 0
    assert "60 of 60 images" in capsys.readouterr().err
    before = scores(tiny_checkpoint)
    drift = {which: np.abs(scores(tmp_path / which) - before).mean() for which in ("alone", "replayed")}
    assert drift["replayed"] < 0.95 * drift["alone"]


def test_a_copy_of_a_photo_of_the_csv_is_not_replayed(corrections, tmp_path, tiny_checkpoint, make_image, capsys):
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    for seed in (0, 1, 2):  # the first is held out
        (earlier / f"copy-{seed}.png").write_bytes(make_image(seed))
    assert run(corrections, tmp_path / "out", tiny_checkpoint, "--replay", str(earlier)) == 2
    assert "no image that the CSV does not name" in capsys.readouterr().err
    (earlier / "new.png").write_bytes(make_image(100))
    assert run(corrections, tmp_path / "out", tiny_checkpoint, "--replay", str(earlier)) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["images"], metrics["trained_images"]) == (5, 19)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--replay", "no/such/folder"], "not a folder"),
        (["--replay", ".", "--unknown", "ignore"], "goes with --unknown distill alone"),
        (["--weight", "-1"], "finite numbers from 0"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_bad_input(flags, said, corrections, tmp_path, tiny_checkpoint, capsys):
    assert run(corrections, tmp_path / "out", tiny_checkpoint, *flags) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_label_that_weighs_nothing_is_not_learned(corrections, tmp_path, tiny_checkpoint):
    (tmp_path / "weights.json").write_text('{"cat": 0}')
    more = ["--blend", "1", "--unknown", "ignore", "--weight", str(tmp_path / "weights.json")]
    assert run(corrections, tmp_path / "out", tiny_checkpoint, *more) == 0
    old, new = (load_checkpoint(folder).model.head.weight for folder in (tiny_checkpoint, tmp_path / "out"))
    assert torch.equal(old[0], new[0])
    assert not torch.equal(old[1], new[1])


@pytest.mark.slow  # as tests/test_distributed.py, by the command
def test_two_processes_share_a_fine_tune_and_come_to_what_one_does(corrections, tmp_path, tiny_checkpoint):
    more = ["--model", str(tiny_checkpoint), *QUICK, "--train", "full", "--epochs", "2", "--mosaic", "0.3"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "demo.finetune", "--csv", str(corrections), "--out", str(tmp_path / "two"), *more]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=280, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("verdict:") == 1
    assert finetune.main(["--csv", str(corrections), "--out", str(tmp_path / "one"), *more]) == 0
    one, two = (load_checkpoint(tmp_path / name) for name in ("one", "two"))
    start = load_checkpoint(tiny_checkpoint)

    def apart(a, b):
        pairs = zip(a.model.parameters(), b.model.parameters(), strict=True)
        return sum(float((one - other).detach().square().sum()) for one, other in pairs) ** 0.5

    assert apart(one, two) < 0.1 * apart(one, start)  # sums of half-precision products in another order
    for key in ("map", "micro_f1", "hamming_loss"):
        assert two.metrics["metrics"][key] == pytest.approx(one.metrics["metrics"][key], abs=1e-3)
    assert two.metrics["images"] == one.metrics["images"] == 5
