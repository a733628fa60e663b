"""Swapping models: whole, back again, and not at all when the new one is no good."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.checkpoint import Checkpoint, save_checkpoint
from demo.errors import BadInput, CheckpointError
from demo.models import Models, name_of, ref_of
from demo.settings import Settings


@pytest.fixture
def models(tiny_checkpoint: Path, tmp_path: Path) -> Models:
    return Models(Settings(model=str(tiny_checkpoint), device="cpu", runs=tmp_path / "runs"))


@pytest.fixture
def other(tmp_path: Path, make_checkpoint: Callable[..., Checkpoint]) -> Path:
    save_checkpoint(tmp_path / "runs" / "other", make_checkpoint(1, ("sun", "moon")))
    return tmp_path / "runs" / "other"


def test_a_model_is_used_and_swapped_back_as_often_as_one_likes(models: Models, other: Path) -> None:
    tiny = models.current
    assert models.before is None
    assert len(models.use(str(other)).checkpoint.labels) == 2
    assert models.before is tiny
    assert models.previous() is tiny
    assert name_of(models.before) == "other"
    assert name_of(models.previous()) == "other"


def test_without_a_previous_model_there_is_no_going_back(models: Models) -> None:
    with pytest.raises(BadInput, match="no previous model"):
        models.previous()


def test_a_model_that_does_not_load_changes_nothing(models: Models, other: Path) -> None:
    current = models.current
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    for ref in (str(other), str(other / "nowhere")):
        with pytest.raises(CheckpointError):
            models.use(ref)
        assert (models.current, models.before) == (current, None)


def test_a_model_that_the_device_cannot_hold_changes_nothing(
    models: Models, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr("demo.models.Tagger", full)
    with pytest.raises(CheckpointError, match="out of memory"):
        models.use(str(other))
    assert name_of(models.current) == "tiny"


def test_using_the_same_weights_again_keeps_the_way_back(models: Models, other: Path) -> None:
    models.use(str(other))
    models.use(str(other))
    assert name_of(models.before) == "tiny"


def test_models_are_found_by_identity_while_they_are_kept(models: Models, other: Path) -> None:
    tiny = models.current
    models.use(str(other))
    assert models.named(tiny.checkpoint.identity) is tiny
    assert models.named(models.current.checkpoint.identity) is models.current
    assert models.named("local:gone@000000000000") is None


def test_only_finished_runs_are_offered(models: Models, other: Path) -> None:
    (other.parent / "unfinished").mkdir()
    assert models.runs() == [str(other)]


def test_a_ref_loads_the_same_weights(models: Models, other: Path) -> None:
    models.use(str(other))
    assert models.load(ref_of(models.current)).checkpoint.identity == models.current.checkpoint.identity


def test_readers_see_one_whole_model_while_it_is_swapped(models: Models, other: Path) -> None:
    models.use(str(other))
    seen, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            tagger = models.current
            seen.add((name_of(tagger), len(tagger.checkpoint.labels)))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(200):
        models.previous()
    done.set()
    reader.join()
    assert seen <= {("tiny", 12), ("other", 2)}
