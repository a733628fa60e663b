"""`python -m demo.evaluate` and where it may write; its figures are in test_metrics.py and test_finetune.py."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from demo import evaluate, finetune
from demo.checkpoint import Checkpoint, save_checkpoint
from demo.preprocessing import TIMM


@pytest.fixture
def arguments(tmp_path: Path, make_image: Callable[..., bytes], tiny_checkpoint: Path) -> list[str]:
    (tmp_path / "one.png").write_bytes(make_image(1))
    (tmp_path / "rows.csv").write_text('file_name,labels\none.png,"[""cat""]"\n')
    return ["--csv", str(tmp_path / "rows.csv"), "--model", str(tiny_checkpoint), "--split", "all"]


@pytest.mark.parametrize("flag", ["--json", "--predictions"])
@pytest.mark.parametrize(
    ("name", "said"), [("", "is a folder"), ("none/out", "lies in no folder"), ("x" * 300, "too long")]
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_scored(
    arguments: list[str], tmp_path: Path, flag: str, name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([*arguments, flag, str(tmp_path / name)]) == 2
    came = capsys.readouterr()
    assert said in came.err
    assert came.out == ""


@pytest.mark.parametrize("flag", ["--json", "--predictions"])
def test_what_the_disk_refuses_is_told_after_the_figures(
    arguments: list[str], tmp_path: Path, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused, (before, most) = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, most))
    try:
        assert evaluate.main([*arguments, flag, str(refused)]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    came = capsys.readouterr()
    assert f"{refused} could not be written. File too large." in came.err
    assert "predict nothing" in came.out
    assert {path.name for path in tmp_path.iterdir()} == {"one.png", "rows.csv"}


def test_the_same_photos_are_held_out_whatever_the_model_and_its_names_for_labels(
    tmp_path: Path, make_image: Callable[..., bytes]
) -> None:
    lines = ["file_name,labels,rejected,reviewed,model"]
    for seed in range(40):
        (tmp_path / f"{seed}.png").write_bytes(make_image(seed))
        name = ("cat", "kitten", "fox")[seed % 3]
        lines.append(f'{seed}.png,"[""{name}""]",[],{"all" if seed % 2 else "listed"},m')
    csv = tmp_path / "rows.csv"
    csv.write_text("\n".join(lines) + "\n")
    rows = evaluate.read_rows(csv)

    def held_out(names: list[str], origins: dict[str, list[str]] | None = None) -> list[bool]:
        return evaluate.photos_of(rows, csv, names, ["cat", *names], origins).is_valid.tolist()

    before = held_out(["cat", "dog"])
    assert 6 <= sum(before) <= 10
    assert held_out(["cat", "kitten", "fox"]) == before
    assert held_out(["animal"], {"animal": ["cat", "kitten", "fox"]}) == before


def test_a_photo_too_long_for_the_model_is_named(
    tmp_path: Path, make_checkpoint: Callable[..., Checkpoint], capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_checkpoint()
    padding = replace(made.preprocess, steps=({"type": "pad_to_square"}, TIMM))
    save_checkpoint(tmp_path / "model", replace(made, preprocess=padding))
    Image.new("L", (12_000, 20)).save(tmp_path / "panorama.png")
    (tmp_path / "rows.csv").write_text('file_name,labels,is_valid\npanorama.png,"[""cat""]",False\n')
    both = ["--csv", str(tmp_path / "rows.csv"), "--model", str(tmp_path / "model"), "--device", "cpu"]
    for command, more in (
        (evaluate.main, ["--split", "all"]),
        (finetune.main, ["--out", str(tmp_path / "out")]),
        (finetune.main, ["--out", str(tmp_path / "out"), "--check"]),
    ):
        assert command([*both, *more]) == 2
        said = capsys.readouterr().err
        assert "panorama.png cannot be used" in said
        assert "Traceback" not in said
