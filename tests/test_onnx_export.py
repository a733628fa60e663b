"""What an ONNX file scores and says is what the checkpoint does, also to a reader that has neither us nor PyTorch."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from demo import checkpoint, export, onnx_export
from demo.checkpoint import Checkpoint, load_checkpoint
from demo.errors import EXIT_BAD_INPUT, EXIT_DONE, BadInput, CheckpointError
from demo.flags import parse_flags
from demo.images import decode
from demo.layouts import DANBOORU
from demo.preprocessing import Preprocess
from demo.settings import EMBEDDED_CHECKPOINT, EXAMPLES, ROOT
from demo.tagger import Tagger
from docs import onnx_tag
from tests.conftest import NAMES
from tests.families import CATEGORIES, FAMILIES, LABELS, THRESHOLDS, timm_model
from tests.test_layouts import PICTURES

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # of PyTorch 2.10, about itself

FAST = ("WD v3", "BEiT", "Swin", "timm, bare")
HOSTILE = ("null", "nan", 'say "hi"', "a\nb", "a\x00b", "ünïcode", "猫 😺", "</b>", "\\", " ", "\u2028")


def eva(folder: Path) -> None:
    """As EVA-02, whose positions are turned into the attention, smaller."""
    args = {"img_size": 56, "embed_dim": 48, "depth": 2, "num_heads": 3}
    names = {"label_names": list(LABELS), "problem_type": "multi_label_classification"}
    cfg = {"input_size": [3, 56, 56], "crop_mode": "squash", "crop_pct": 1.0}
    timm_model(
        folder,
        {"architecture": "eva02_tiny_patch14_224", "num_classes": 8, "model_args": args, "pretrained_cfg": cfg} | names,
        8,
    )


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checkpoint]:
    """A function that gives the small checkpoint of a family."""
    folder = tmp_path_factory.mktemp("onnx")

    def load(name: str) -> Checkpoint:
        if not (folder / name).exists():
            (FAMILIES | {"EVA": eva})[name](folder / name)
        return load_checkpoint(folder / name)

    return load


def read(path: Path) -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    return onnx_tag.load(path)


@pytest.mark.parametrize(
    "name",
    [*FAST, "EVA", *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES if name not in FAST)],
)
def test_scores_of_any_number_of_images_are_those_of_the_checkpoint(
    load: Callable[[str], Checkpoint], tmp_path: Path, make_image: Callable[..., bytes], name: str
) -> None:
    difference = onnx_export.write(load(name), tmp_path / "model.onnx")
    assert difference <= 1e-4
    tagger, (session, metadata) = Tagger(load(name), "cpu"), read(tmp_path / "model.onnx")
    images = [decode(make_image(seed, (90 + seed, 70))) for seed in range(5)]
    expected = tagger.scores(images)
    pixels = np.stack([tagger.checkpoint.preprocess(image).numpy() for image in images])
    for count in (1, 5):
        (found,) = session.run(["scores"], {"pixels": pixels[:count]})
        assert np.abs(found - expected[:count]).max() <= 1e-4
    assert expected.std(0).max() > 1e-4  # it did look at the images
    by_label = onnx_tag.scores(session, metadata, images[1])
    assert list(by_label) == list(tagger.checkpoint.labels.names)
    assert np.abs(np.array(list(by_label.values())) - expected[1]).max() <= 1e-4


@pytest.mark.parametrize("name", FAMILIES)
def test_the_steps_in_the_file_make_the_pixels_of_the_checkpoint(load: Callable[[str], Checkpoint], name: str) -> None:
    checkpoint = load(name)
    told = json.loads(json.dumps(onnx_export.metadata(checkpoint)["preprocessing"]))
    for data in [data for files in PICTURES.values() for data in files]:
        pixels = onnx_tag.prepare(decode(data), told)
        assert pixels.dtype == np.float32
        assert np.abs(pixels - checkpoint.preprocess(decode(data)).numpy()).max() <= 1e-5


@pytest.mark.parametrize("mode", ["center", "squash", "border", None])
@pytest.mark.parametrize("size", [(32, 32), (31, 47)])
@pytest.mark.parametrize("share", [0.875, 1.0])
def test_timms_own_transform_is_spelled_out(
    loaded_tiny: Checkpoint, mode: str | None, size: tuple[int, int], share: float
) -> None:
    data = {"input_size": (3, *size), "interpolation": "bicubic", "mean": (0.5, 0.4, 0.6), "std": (0.3, 0.2, 0.25)}
    preprocess = Preprocess(data | {"crop_pct": share, "crop_mode": mode})
    told = json.loads(json.dumps(onnx_export.metadata(replace(loaded_tiny, preprocess=preprocess))["preprocessing"]))
    for image in [decode(data) for files in PICTURES.values() for data in files]:
        assert np.abs(onnx_tag.prepare(image, told) - preprocess(image).numpy()).max() <= 1e-5


def test_the_file_says_what_its_labels_are_and_when_they_count(
    load: Callable[[str], Checkpoint], tmp_path: Path
) -> None:
    card = "---\nlicense: other\nlicense_name: mine\nlicense_link: https://example.org\n---\n"
    assert onnx_export.write(replace(load("animetimm"), card=card), tmp_path / "model.onnx") <= 1e-4
    _, metadata = read(tmp_path / "model.onnx")
    assert metadata["labels"] == list(LABELS)
    assert metadata["categories"] == [DANBOORU[str(number)] for number in CATEGORIES]
    assert metadata["exclusive"] == ["rating"]
    assert metadata["thresholds"] == list(THRESHOLDS)
    assert (metadata["threshold"], metadata["activation"]) == (0.36, "sigmoid")
    assert metadata["model"] == load("animetimm").identity
    assert metadata["architecture"] == "test_resnet"
    licence = (metadata["license"], metadata["license_name"], metadata["license_link"])
    assert licence == ("other", "mine", "https://example.org")
    steps = metadata["preprocessing"].pop("steps")
    assert [step["type"] for step in steps] == ["pad_to_size", "resize", "center_crop", "to_tensor", "normalize"]
    assert metadata["preprocessing"] == {
        "transparency": "white",
        "size": [40, 40],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "interpolation": "bicubic",
        "crop_mode": "center",
        "crop_pct": 1.0,
    }


def test_labels_of_any_spelling_come_back_and_no_path_of_this_machine_is_in_the_file(
    make_checkpoint: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    checkpoint = replace(make_checkpoint(names=HOSTILE), identity="local:\udcff@000000000000")
    onnx_export.write(checkpoint, tmp_path / "model.onnx")
    session, metadata = read(tmp_path / "model.onnx")
    assert tuple(metadata["labels"]) == HOSTILE
    assert metadata["model"] == checkpoint.identity
    assert "license" not in metadata
    assert [(node.name, node.shape) for node in session.get_inputs()] == [("pixels", ["N", 3, 32, 32])]
    assert [(node.name, node.shape) for node in session.get_outputs()] == [("scores", ["N", len(HOSTILE)])]
    content = (tmp_path / "model.onnx").read_bytes()
    for place in (str(ROOT), str(Path(torch.__file__).parents[1]), ".py"):
        assert place.encode() not in content


def test_the_command_writes_a_file_that_tags_photos_without_this_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, photo = tmp_path / "model.onnx", EXAMPLES / "polar-bear.jpg"
    assert export.main(["--model", str(EMBEDDED_CHECKPOINT), "--out", str(out)]) == EXIT_DONE
    told = capsys.readouterr()
    assert told.out == f"61 labels: {out}\n"
    assert "note: scores differ from PyTorch's by at most " in told.err
    command = [sys.executable, str(ROOT / "docs" / "onnx_tag.py"), str(out), str(photo)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    checkpoint = load_checkpoint()
    scores = Tagger(checkpoint, "cpu").scores([decode(photo.read_bytes())])[0]
    best = np.argsort(-scores)[: (scores >= checkpoint.threshold).sum()]
    assert done.stdout == f"{photo}\t" + ", ".join(f"{checkpoint.labels.names[i]} {scores[i]:.2f}" for i in best) + "\n"
    assert "bear" in done.stdout
    assert list(tmp_path.iterdir()) == [out]
    example = re.search(r"```python\n(import onnx_tag\n.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)[1]
    shutil.copy(photo, tmp_path / "photo.jpg")
    beside = os.environ | {"PYTHONPATH": str(ROOT / "docs")}
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, cwd=tmp_path, env=beside)
    assert done.stderr == ""
    assert list(ast.literal_eval(done.stdout)) == [checkpoint.labels.names[i] for i in sorted(best)]


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_package_that_is_missing_is_named_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert export.main(["--model", "owner/not-fetched", "--out", str(tmp_path / "model.onnx")]) == EXIT_BAD_INPUT
    assert capsys.readouterr().err == (
        f"error: An ONNX file is written by {package}, not installed here. pip install onnx onnxscript onnxruntime\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_without_onnx_runtime_the_file_is_written_and_said_to_be_unchecked(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export.main(["--model", str(tiny_checkpoint), "--out", str(tmp_path / "model.onnx")]) == EXIT_DONE
    assert "not checked against PyTorch: that takes pip install onnxruntime" in capsys.readouterr().err
    monkeypatch.undo()
    assert read(tmp_path / "model.onnx")[1]["labels"] == list(NAMES)


class Drifting(torch.nn.Module):
    """Scores otherwise each time."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits = self.model(pixels)
        return logits + torch.rand_like(logits)


class Choosing(Drifting):
    """Does one thing or the other, by what it sees."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model(pixels) if pixels.sum() > 0 else -self.model(pixels)


@pytest.mark.parametrize(
    ("broken", "message"),
    [(Drifting, "does not score as the checkpoint"), (Choosing, "vit_tiny_patch16_224 cannot be written as ONNX")],
)
def test_a_file_that_is_not_the_model_is_not_kept(
    make_checkpoint: Callable[..., Checkpoint],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: type[Drifting],
    message: str,
) -> None:
    tiny = make_checkpoint()
    monkeypatch.setattr(checkpoint, "load_checkpoint", lambda ref: replace(tiny, model=broken(tiny.model)))
    assert export.main(["--model", "tiny", "--out", str(tmp_path / "model.onnx")]) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_one_file_cannot_hold_is_refused_at_once(
    loaded_tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "MAX_BYTES", 1000)
    with pytest.raises(CheckpointError, match="One ONNX file holds 2 GB"):
        onnx_export.write(loaded_tiny, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "exactly one of --csv and --model is needed"),
        (["--csv", "c.csv", "--model", "m", "--format", "json"], "exactly one of --csv and --model is needed"),
        (["--csv", "c.csv"], "--format is missing"),
        (["--model", "m", "--format", "json"], "--format goes with --csv"),
    ],
)
def test_what_is_to_be_exported_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert export.main([*arguments, "--out", str(tmp_path / "out")]) == EXIT_BAD_INPUT
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_the_command_line_names_wins_over_a_variable_for_the_other() -> None:
    environment = {"TAGLOOP_MODEL": "owner/name"}
    flags = parse_flags("export", ["--csv", "c.csv", "--format", "json", "--out", "o"], environment)
    assert (flags.csv, flags.model) == ("c.csv", None)
    assert parse_flags("export", ["--out", "o"], environment).model == "owner/name"
    with pytest.raises(BadInput, match="exactly one"):
        parse_flags("export", ["--out", "o"], environment | {"TAGLOOP_CSV": "c.csv"})
