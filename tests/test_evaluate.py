"""`python -m demo.evaluate` and where it may write; its figures are in test_metrics.py and test_finetune.py."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from demo import evaluate


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
