"""The second phase's rates: the head's own, the backbone's by depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.frozen import recipe
from demo.checkpoint import Checkpoint
from demo.dataset import Cells, TrainingPhotos
from demo.training import LAYER_DECAY, NORM_HEAD_SHARE, BackboneTraining

LR_HEAD, LR_BACKBONE = 0.01, 0.001


@pytest.fixture
def rates(make_checkpoint: Callable[..., Checkpoint]) -> Callable[..., dict[str, float]]:
    """The highest rate of each parameter that moves, by its name."""

    def rates(train: str, head_epochs: int = 30) -> dict[str, float]:
        checkpoint, targets = make_checkpoint(), np.ones((4, 12), np.float32)
        photos = TrainingPhotos([], Cells.build(targets, "ignore"), checkpoint.preprocess, seed=0)
        how = {"train": train, "epochs": 2, "head_epochs": head_epochs, "lr_head": LR_HEAD, "lr_backbone": LR_BACKBONE}
        backbone = BackboneTraining(checkpoint.model, photos, targets, replace(recipe("bce", 0), **how))
        names = {id(parameter): name for name, parameter in backbone.model.named_parameters()}
        return {
            names[id(parameter)]: group["lr_scale"]
            for group in backbone.optimizer.param_groups
            for parameter in group["params"]
            if parameter.requires_grad
        }

    return rates


def test_the_backbone_has_its_rate_by_depth_and_the_head_its_own(rates):
    of = rates("full")
    assert of["head.weight"] == of["head.bias"] == LR_HEAD
    assert of["norm.weight"] == pytest.approx(LAYER_DECAY * LR_BACKBONE)
    assert of["blocks.1.attn.qkv.weight"] == pytest.approx(LAYER_DECAY * LR_BACKBONE)
    assert of["blocks.0.attn.qkv.weight"] == pytest.approx(LAYER_DECAY**2 * LR_BACKBONE)


def test_beside_norms_and_biases_a_head_that_has_learned_takes_smaller_steps(rates):
    of = rates("norm")
    assert of["head.weight"] == pytest.approx(NORM_HEAD_SHARE * LR_HEAD)
    assert of["blocks.1.norm1.weight"] == pytest.approx(LAYER_DECAY * LR_BACKBONE)
    assert "blocks.1.attn.qkv.weight" not in of


def test_a_head_without_a_phase_of_its_own_has_its_whole_rate(rates):
    assert rates("norm", head_epochs=0)["head.weight"] == LR_HEAD
