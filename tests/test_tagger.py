"""The tagger: scores of images, the same however they are asked for."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from demo.checkpoint import Checkpoint, load_checkpoint
from demo.errors import BadInput
from demo.tagger import NotComputed, Tagger, choose_device, choose_precision
from tests.conftest import NAMES

SIZES = ((96, 64), (64, 96), (32, 32), (7, 300), (300, 7), (1, 1), (33, 31))


@pytest.fixture(scope="module")
def pictures(make_image: Callable[..., bytes]) -> list[Image.Image]:
    return [Image.open(io.BytesIO(make_image(seed, size))).convert("RGB") for seed, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def tagger(loaded_tiny: Checkpoint) -> Tagger:
    return Tagger(loaded_tiny, "cpu")


def test_scores_are_float32_probabilities_one_row_an_image(tagger: Tagger, pictures: list[Image.Image]) -> None:
    scores = tagger.scores(pictures)
    assert scores.shape == (len(pictures), len(NAMES))
    assert scores.dtype == np.float32
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert np.ptp(scores, axis=0).max() > 0.1, "all images score alike, so the tests here say nothing"


def test_no_images_give_no_rows(tagger: Tagger) -> None:
    scores = tagger.scores([])
    assert scores.shape == (0, len(NAMES))
    assert scores.dtype == np.float32


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_an_image_scores_the_same_alone_and_in_a_batch(
    tagger: Tagger, pictures: list[Image.Image], batch_size: int
) -> None:
    alone = np.stack([tagger.tag(picture).scores for picture in pictures])
    assert np.abs(tagger.scores(pictures, batch_size) - alone).max() < 1e-5


def test_one_image_comes_with_the_models_time(tagger: Tagger, pictures: list[Image.Image]) -> None:
    tagged = tagger.tag(pictures[0])
    assert tagged.scores.shape == (len(NAMES),)
    assert 0 < tagged.milliseconds < 60_000


def by_hand(checkpoint: Checkpoint, pictures: list[Image.Image]) -> np.ndarray:
    transform = create_transform(**checkpoint.data, is_training=False)
    with torch.inference_mode():
        return checkpoint.model(torch.stack([transform(picture) for picture in pictures])).sigmoid().numpy()


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"mean": [0.1, 0.2, 0.3], "std": [0.2, 0.3, 0.4]},
        {"crop_pct": 0.5},
        {"crop_mode": "squash", "crop_pct": 1.0},
        {"crop_mode": "border"},
        {"interpolation": "bilinear"},
    ],
    ids=["its own", "mean and std", "crop_pct", "squash", "border", "interpolation"],
)
def test_images_are_prepared_as_the_checkpoint_says(
    tiny_checkpoint: Path, tmp_path: Path, pictures: list[Image.Image], tagger: Tagger, change: dict
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "changed"))
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = load_checkpoint(folder)
    assert {key: checkpoint.data[key] for key in change} == {
        key: tuple(value) if isinstance(value, list) else value for key, value in change.items()
    }
    scores = Tagger(checkpoint, "cpu").scores(pictures)
    assert np.allclose(scores, by_hand(checkpoint, pictures), atol=1e-6)
    if change:
        assert not np.allclose(scores, tagger.scores(pictures), atol=1e-4)


def test_a_softmax_head_gives_scores_that_sum_to_one(tiny_checkpoint: Path, pictures: list[Image.Image]) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    checkpoint.single_label = True
    assert np.allclose(Tagger(checkpoint, "cpu").scores(pictures).sum(1), 1, atol=1e-5)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB."), RuntimeError("no"), MemoryError()],
    ids=["GPU memory", "device", "memory"],
)
@pytest.mark.parametrize("way", ["tag", "scores", "running"])
def test_a_model_that_the_device_does_not_run_is_told_with_what_to_do_and_runs_again_later(
    tiny_checkpoint: Path, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch, error: Exception, way: str
) -> None:
    tagger = Tagger(load_checkpoint(tiny_checkpoint), "cpu")

    def refuse(*_: object) -> None:
        raise error

    def run() -> None:
        with tagger.running() as model:
            model(torch.zeros(1, 3, 32, 32))

    ways = {"tag": lambda: tagger.tag(pictures[0]), "scores": lambda: tagger.scores(pictures), "running": run}
    with monkeypatch.context() as patched:
        patched.setattr(tagger.checkpoint.model, "forward", refuse)
        with pytest.raises(NotComputed) as raised:
            ways[way]()
    assert raised.value.what == f"The model {tagger.checkpoint.identity} could not be run on cpu."
    assert raised.value.why == f"{' '.join(str(error).split()).rstrip('.') or 'MemoryError'}."
    assert "smaller model" in raised.value.next_step
    ways[way]()


def test_many_threads_at_once_each_get_their_own_images_scores(tagger: Tagger, pictures: list[Image.Image]) -> None:
    alone = [tagger.tag(picture).scores for picture in pictures]
    turns = [number % len(pictures) for number in range(64)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda number: tagger.tag(pictures[number]).scores, turns))
    for number, scores in zip(turns, together, strict=True):
        assert np.abs(scores - alone[number]).max() < 1e-5


def test_scoring_keeps_no_gradients(tagger: Tagger, pictures: list[Image.Image]) -> None:
    tagger.tag(pictures[0])
    assert all(parameter.grad is None for parameter in tagger.checkpoint.model.parameters())


def test_a_device_that_is_not_here_is_bad_input_that_names_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in ("cuda", "mps", "tpu"):
        with pytest.raises(BadInput, match=rf"The device {device} is not available\. PyTorch finds: cpu\."):
            choose_device(device)
    assert choose_device() == choose_device("cpu") == "cpu"


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_the_fastest_device(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto") == expected


def test_the_cpu_computes_in_full_precision() -> None:
    assert choose_precision("cpu") == ("fp32", None)
    assert choose_precision("mps") == ("fp16", torch.float16)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA here")
def test_cuda_scores_as_the_cpu_does(tiny_checkpoint: Path, pictures: list[Image.Image], tagger: Tagger) -> None:
    on_gpu = Tagger(load_checkpoint(tiny_checkpoint), "cuda")
    assert on_gpu.precision in ("bf16", "fp16")
    scores = on_gpu.scores(pictures)
    assert scores.dtype == np.float32
    assert np.abs(scores - tagger.scores(pictures)).max() < 0.02


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA here")
def test_cuda_serves_many_threads_at_once(tiny_checkpoint: Path, pictures: list[Image.Image], tagger: Tagger) -> None:
    on_gpu = Tagger(load_checkpoint(tiny_checkpoint), "cuda")
    expected = tagger.scores(pictures)
    turns = [number % len(pictures) for number in range(64)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda number: on_gpu.tag(pictures[number]).scores, turns))
    assert max(np.abs(scores - expected[turn]).max() for turn, scores in zip(turns, together, strict=True)) < 0.02
