"""python -m demo.tag on a tiny seeded checkpoint and generated pictures."""

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
from safetensors.torch import save_file

from demo import batches, tag
from demo.checkpoint import load_checkpoint
from demo.tagger import Tagger
from demo.thresholds import mcut

ROOT = Path(__file__).parent.parent
LABELS = ["cat", "null", "dining-table", 'näher, "quoted"']


TUNED = 'cat,,0.5\nnull,,\ndining-table,,0.4\n"näher, ""quoted""",,0.6\n'


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A one-block ViT for 32 px with random weights of a fixed seed."""
    return build(tmp_path_factory.mktemp("checkpoint"))


def build(folder: Path, tags: str = "") -> Path:
    torch.manual_seed(7)
    shape = {"img_size": 32, "depth": 1, "embed_dim": 48, "num_heads": 3}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=len(LABELS), **shape)
    torch.nn.init.normal_(model.head.weight, std=1.0)
    save_file(model.state_dict(), folder / "model.safetensors")
    cfg = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0, "interpolation": "bilinear"}
    config = {"architecture": "vit_tiny_patch16_224", "label_names": LABELS, "model_args": shape, "pretrained_cfg": cfg}
    config["problem_type"] = "multi_label_classification"
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if tags:
        (folder / "selected_tags.csv").write_text("name,category,best_threshold\n" + tags, encoding="utf-8")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number in range(7):
        values = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / ("more" if number % 2 else "") / f"{number}.png")
    return folder


def run(photos: Path, checkpoint: Path, *flags: object, out: str = "tags.csv") -> int:
    return tag.main(
        [
            str(photos),
            "--model",
            str(checkpoint),
            "--out",
            str(photos.parent / out),
            "--device",
            "cpu",
            *map(str, flags),
        ]
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def expected(photos: Path, checkpoint: Path) -> dict[str, np.ndarray]:
    tagger = Tagger(load_checkpoint(checkpoint), "cpu")
    files = sorted(photos.rglob("*.png"))
    scores = tagger.scores([Image.open(file).convert("RGB") for file in files])
    return {file.relative_to(photos.parent).as_posix(): own for file, own in zip(files, scores, strict=True)}


def test_every_image_gets_a_row_with_its_labels_in_falling_score(photos: Path, checkpoint: Path) -> None:
    assert run(photos, checkpoint, "--threshold", 0.3, "--batch-size", 3) == 0
    table, truth = rows(photos.parent / "tags.csv"), expected(photos, checkpoint)
    assert [row["file_name"] for row in table] == sorted(truth)
    assert list(table[0]) == ["file_name", "labels", "scores"]
    for row in table:
        labels, scores = json.loads(row["labels"]), json.loads(row["scores"])
        own = truth[row["file_name"]]
        assert scores == sorted(scores, reverse=True)
        assert scores == pytest.approx([own[LABELS.index(label)] for label in labels], abs=1e-5)
        assert {LABELS[place] for place in np.flatnonzero(own >= 0.3)} == set(labels)


@pytest.mark.parametrize(("threshold", "count"), [(0, 4), (1, 0)])
def test_the_threshold_decides_how_many_labels_are_written(
    photos: Path, checkpoint: Path, threshold: float, count: int
) -> None:
    assert run(photos, checkpoint, "--threshold", threshold) == 0
    assert {len(json.loads(row["labels"])) for row in rows(photos.parent / "tags.csv")} == {count}


def test_without_a_threshold_the_checkpoints_own_counts(photos: Path, checkpoint: Path) -> None:
    run(photos, checkpoint)
    run(photos, checkpoint, "--threshold", load_checkpoint(checkpoint).threshold, out="same.csv")
    assert rows(photos.parent / "tags.csv") == rows(photos.parent / "same.csv")


def test_tuned_uses_each_labels_threshold_and_the_recommended_one_for_the_rest(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "tuned").mkdir()
    checkpoint = build(tmp_path / "tuned", TUNED)
    assert run(photos, checkpoint, "--threshold", "tuned") == 0
    truth = expected(photos, checkpoint)
    for row in rows(photos.parent / "tags.csv"):
        wanted = np.flatnonzero(truth[row["file_name"]] >= np.float32([0.5, 0.5, 0.4, 0.6]))
        assert set(json.loads(row["labels"])) == {LABELS[place] for place in wanted}


RATED = 'cat,rating,0.5\nnull,rating,\ndining-table,,0.4\n"näher, ""quoted""",,0.6\n'


@pytest.mark.parametrize("threshold", [0, 0.35, 1, "tuned", "mcut"])
def test_of_labels_that_exclude_each_other_the_best_alone_is_written(
    photos: Path, tmp_path: Path, threshold: float | str
) -> None:
    (tmp_path / "rated").mkdir()
    checkpoint = build(tmp_path / "rated", RATED)
    assert run(photos, checkpoint, "--threshold", threshold) == 0
    for name, own in expected(photos, checkpoint).items():
        written = next(json.loads(r["labels"]) for r in rows(photos.parent / "tags.csv") if r["file_name"] == name)
        assert {*written} & {"cat", "null"} == {LABELS[own[:2].argmax()]}
        level = {"tuned": np.float32([0.4, 0.6]), "mcut": mcut(own)}.get(threshold, threshold)
        assert {*written} & {*LABELS[2:]} == {LABELS[place + 2] for place in np.flatnonzero(own[2:] >= level)}


def test_mcut_cuts_each_image_at_its_widest_gap(photos: Path, checkpoint: Path) -> None:
    assert run(photos, checkpoint, "--threshold", "mcut") == 0
    truth = expected(photos, checkpoint)
    for row in rows(photos.parent / "tags.csv"):
        own = truth[row["file_name"]]
        assert len(json.loads(row["labels"])) == (own >= mcut(own)).sum()


def test_the_scores_file_holds_every_score_in_the_tables_order(photos: Path, checkpoint: Path) -> None:
    assert run(photos, checkpoint, "--scores", photos.parent / "scores.npz", "--batch-size", 2) == 0
    truth = expected(photos, checkpoint)
    with np.load(photos.parent / "scores.npz", allow_pickle=False) as packed:
        assert packed["labels"].tolist() == LABELS
        assert packed["file_names"].tolist() == [row["file_name"] for row in rows(photos.parent / "tags.csv")]
        assert (packed["scores"].dtype, packed["scores"].shape) == (np.float32, (7, 4))
        assert np.allclose(packed["scores"], np.stack([truth[name] for name in packed["file_names"]]), atol=1e-5)
    assert not (photos.parent / "scores.npz.part").exists()


def test_files_that_cannot_be_read_are_named_and_the_rest_is_tagged(
    photos: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (photos / "empty.png").touch()
    (photos / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    os.mkfifo(photos / "pipe.png")
    assert run(photos, checkpoint, "--batch-size", 2) == 3
    said = capsys.readouterr()
    assert len(rows(photos.parent / "tags.csv")) == 7
    for name in ("broken.jpg", "empty.png", "phone.heic", "pipe.png"):
        assert f"skipped {photos / name}: " in said.err
    assert "4 files skipped" in said.err
    assert said.out == ""


def test_only_unreadable_files_still_leave_a_table_with_a_header(photos: Path, checkpoint: Path) -> None:
    (photos / "empty.png").touch()
    out = photos.parent / "tags.csv"
    assert tag.main([str(photos / "empty.png"), "--model", str(checkpoint), "--out", str(out)]) == 3
    assert out.read_text(encoding="utf-8") == "file_name,labels,scores\n"


def test_images_outside_the_tables_folder_are_named_by_their_whole_path(photos: Path, checkpoint: Path) -> None:
    (photos.parent / "elsewhere").mkdir()
    assert run(photos, checkpoint, out="elsewhere/tags.csv") == 0
    assert {Path(row["file_name"]).is_absolute() for row in rows(photos.parent / "elsewhere/tags.csv")} == {True}


def test_an_image_named_in_two_ways_gets_one_row(photos: Path, checkpoint: Path) -> None:
    paths = [str(photos), str(photos / "0.png"), f"{photos}/more/../0.png"]
    assert tag.main([*paths, "--model", str(checkpoint), "--out", str(photos.parent / "tags.csv")]) == 0
    assert len(rows(photos.parent / "tags.csv")) == 7


def test_any_file_name_comes_back_whole(photos: Path, checkpoint: Path) -> None:
    names = ['a,b "c".png', "ä ö.png", "line\nbreak.png", "-dash.png"]
    for name in names:
        os.link(photos / "0.png", photos / name)
    assert run(photos, checkpoint) == 0
    assert {f"photos/{name}" for name in names} <= {row["file_name"] for row in rows(photos.parent / "tags.csv")}


@pytest.mark.parametrize(
    "flags",
    [
        ["--threshold", "1.5"],
        ["--threshold", "often"],
        ["--batch-size", "0"],
        ["--unknown-flag"],
        ["--model", "/nowhere/at/all"],
        ["--scores", "/nowhere/scores.npz"],
    ],
)
def test_bad_flags_are_bad_input_and_write_nothing(photos: Path, checkpoint: Path, flags: list[str]) -> None:
    assert run(photos, checkpoint, *flags) == 2
    assert not (photos.parent / "tags.csv").exists()


def test_a_missing_path_or_a_folder_without_images_is_bad_input(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in ("nowhere", "empty"):
        assert run(tmp_path / path, checkpoint) == 2


def test_tuned_is_bad_input_where_the_checkpoint_has_no_thresholds(photos: Path, checkpoint: Path) -> None:
    assert run(photos, checkpoint, "--threshold", "tuned") == 2


def test_a_table_that_is_there_is_left_alone_without_resume(
    photos: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photos.parent / "tags.csv"
    out.write_text("mine\n", encoding="utf-8")
    assert run(photos, checkpoint) == 2
    assert "--resume" in capsys.readouterr().err
    assert run(photos, checkpoint, "--resume") == 2
    assert out.read_text(encoding="utf-8") == "mine\n"


@pytest.mark.parametrize("scores", [False, True])
def test_resume_after_any_cut_of_the_table_ends_as_an_uninterrupted_run(
    photos: Path, checkpoint: Path, scores: bool
) -> None:
    flags = ["--scores", photos.parent / "scores.npz"] if scores else []
    run(photos, checkpoint, *flags)
    out = photos.parent / "tags.csv"
    whole, cuts = out.read_bytes(), np.random.default_rng(3).integers(0, out.stat().st_size, 4)
    for cut in [0, 5, len(whole) - 1, *cuts]:
        out.write_bytes(whole[:cut])
        assert run(photos, checkpoint, "--resume", *flags) == 0
        assert out.read_bytes() == whole
    if scores:
        with np.load(photos.parent / "scores.npz") as packed:
            assert packed["scores"].shape == (7, 4)


def test_resume_does_not_score_what_the_table_has(
    photos: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, checkpoint)
    monkeypatch.setattr(tag, "read", lambda path: pytest.fail(f"{path} was read"))
    assert run(photos, checkpoint, "--resume") == 0


def test_ctrl_c_keeps_what_was_done_and_resume_finishes_it(
    photos: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--scores", photos.parent / "scores.npz", "--batch-size", 2]
    run(photos, checkpoint, "--scores", photos.parent / "whole.npz", "--batch-size", 2, out="whole.csv")
    with monkeypatch.context() as patch:
        add, calls = tag.Output.add, []

        def interrupted(*arguments: object) -> None:
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            add(*arguments)

        patch.setattr(tag.Output, "add", interrupted)
        assert run(photos, checkpoint, *flags) == 130
    assert len(rows(photos.parent / "tags.csv")) == 4
    assert "--resume" in capsys.readouterr().err
    assert run(photos, checkpoint, "--resume", *flags) == 0
    assert rows(photos.parent / "tags.csv") == rows(photos.parent / "whole.csv")
    with np.load(photos.parent / "scores.npz") as resumed, np.load(photos.parent / "whole.npz") as whole:
        assert resumed["file_names"].tolist() == whole["file_names"].tolist()
        assert np.allclose(resumed["scores"], whole["scores"], atol=1e-5)


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_stopped_process_ends_with_130_and_whole_rows(photos: Path, checkpoint: Path, how: signal.Signals) -> None:
    for number in range(2000):
        os.link(photos / "0.png", photos / f"copy{number}.png")
    out = photos.parent / "tags.csv"
    command = [sys.executable, "-m", "demo.tag", photos, "--model", checkpoint, "--out", out, "--batch-size", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not out.exists() or out.read_bytes().count(b"\n") < 5:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "image/s" in said
    assert 4 <= len(rows(out)) < 2007
    assert out.read_bytes().endswith(b"\n")


def test_work_runs_ahead_of_the_model_but_only_so_far() -> None:
    begun: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        ahead = batches._ahead(pool, begun.append, range(20), 4)
        first = [next(ahead)[0] for _ in range(3)]
        time.sleep(0.1)
        assert first == [0, 1, 2]
        assert sorted(begun) == list(range(7))
        assert [item for item, _ in ahead] == list(range(3, 20))


def test_a_full_disk_is_an_error_that_keeps_whole_rows(
    photos: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tag, "_append", full)
    assert run(photos, checkpoint) == 2
    assert rows(photos.parent / "tags.csv") == []


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        tag.main(["--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    for flag in ("--model", "--threshold", "--out", "--scores", "--batch-size", "--workers", "--device", "--resume"):
        assert flag in said
