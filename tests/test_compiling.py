"""Which fine-tunes are compiled, and that a compiled one trains as a plain one: on the CPU, by no real compiler."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.frozen import recipe
from demo import training, zero
from demo.compiling import PAYS_FROM, forward_of, training_flops, where_it_can_be
from demo.dataset import Cells, TrainingPhotos
from demo.progress import Progress
from demo.training import BackboneTraining

PIXELS = (3, 4, 4)
RECIPE = replace(recipe("bce", 0), train="full", epochs=2, batch_size=3, lr_backbone=0.01)


@pytest.fixture
def model() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 5))


@pytest.fixture(autouse=True)
def afterwards_nothing_is_compiled():
    yield
    torch.compiler.reset()


def test_a_training_costs_three_times_a_forward_pass(model):
    assert training_flops(model, PIXELS) == 3 * 2 * 48 * 5


def test_only_a_long_run_on_a_gpu_is_compiled(model, monkeypatch):
    enough = int(PAYS_FROM / training_flops(model, PIXELS)) + 1
    monkeypatch.setattr(torch, "compile", lambda model: lambda pixels: ("compiled", model))
    assert forward_of(model, "cuda", PIXELS, enough)(None) == ("compiled", model)
    assert forward_of(model, "cuda", PIXELS, enough - 2) is model
    assert forward_of(model, "cpu", PIXELS, enough) is model
    monkeypatch.setattr(zero, "IS_HERE", True)
    assert forward_of(model, "cuda", PIXELS, enough) is model


def test_what_cannot_be_compiled_is_trained_uncompiled(model, capsys):
    asked, pixels = [], torch.ones(2, *PIXELS)

    def no_compiler(graph: object, inputs: object) -> None:
        asked.append(graph)
        raise FileNotFoundError("no C compiler")

    logits = where_it_can_be(torch.compile(model, backend=no_compiler), model)
    for _ in range(2):
        assert torch.equal(logits(pixels), model(pixels))
    logits(pixels).sum().backward()
    assert model[1].weight.grad.any()
    assert len(asked) == 1
    assert capsys.readouterr().err.count("could not be compiled") == 1


def test_what_fails_while_it_runs_is_still_told(model):
    def full_memory(pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        where_it_can_be(full_memory, model)(torch.ones(2, *PIXELS))


def test_a_compiled_model_is_trained_as_a_plain_one(make_checkpoint, image_folder, monkeypatch):
    targets = np.eye(12, dtype=np.float32)[np.arange(8)]

    def trained() -> dict[str, torch.Tensor]:
        checkpoint = make_checkpoint()
        cells = Cells.build(targets, "ignore")
        photos = TrainingPhotos(sorted(image_folder.iterdir()), cells, checkpoint.preprocess, seed=0)
        backbone = BackboneTraining(checkpoint.model, photos, targets, RECIPE)
        backbone.run(Progress(None), lambda: None, lambda: None)
        return backbone.state()

    plain = trained()
    monkeypatch.setattr(training, "forward_of", lambda model, *_: torch.compile(model, backend="aot_eager"))
    compiled = trained()
    assert plain.keys() == compiled.keys()
    for name, tensor in plain.items():
        assert torch.allclose(tensor, compiled[name], atol=1e-5), name
