"""Surgery on the head: rows that stay, rows that start from others, and biases moved to a mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from demo.checkpoint import Checkpoint
from demo.dataset import KNOWN, SOFT, UNUSED, Cells
from demo.errors import BadInput, CheckpointError
from demo.head import BIAS_OF_NOTHING, added_labels, calibrate_bias, check_origins, teacher_scores, with_vocabulary
from demo.labels import LabelSet
from demo.progress import Progress
from demo.training import Recipe, train_head
from tests.conftest import NAMES, seeded_checkpoint

FEATURES = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 48)).astype(np.float32))


@pytest.fixture
def checkpoint() -> Checkpoint:
    return seeded_checkpoint()


def rows(checkpoint: Checkpoint) -> tuple[torch.Tensor, torch.Tensor]:
    head = checkpoint.model.get_classifier()
    return head.weight.detach().clone(), head.bias.detach().clone()


# A new vocabulary


def test_new_labels_are_appended_and_old_rows_keep_every_bit(checkpoint: Checkpoint) -> None:
    weight, bias = rows(checkpoint)
    changed = with_vocabulary(checkpoint, added_labels(checkpoint, ["fox", "owl"]))
    new_weight, new_bias = rows(changed)
    assert changed.labels.names == (*NAMES, "fox", "owl")
    assert torch.equal(new_weight[:12], weight)
    assert torch.equal(new_bias[:12], bias)
    assert not new_weight[12:].any()
    assert not new_bias[12:].any()
    assert changed.model.num_classes == 14


def test_scores_of_old_labels_do_not_change_when_labels_are_added(checkpoint: Checkpoint) -> None:
    pixels = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 3, 32, 32)).astype(np.float32))
    with torch.inference_mode():
        before = checkpoint.model(pixels)
        after = with_vocabulary(checkpoint, added_labels(checkpoint, ["fox"])).model(pixels)
    assert after.shape == (2, 13)
    assert torch.allclose(after[:, :12], before, atol=1e-6)


def test_a_label_that_joins_several_starts_at_the_mean_of_their_rows(checkpoint: Checkpoint) -> None:
    weight, bias = rows(checkpoint)
    changed = with_vocabulary(checkpoint, {"animal": ["cat", "dog", "bird"], "nature": ["tree"], "new": []})
    new_weight, new_bias = rows(changed)
    assert changed.labels.names == ("animal", "nature", "new")
    assert torch.equal(new_weight[0], weight[:3].mean(0))
    assert torch.equal(new_bias[0], bias[:3].mean())
    assert torch.equal(new_weight[1], weight[3])
    assert not new_weight[2].any()


def test_a_vocabulary_may_reorder_and_drop_labels(checkpoint: Checkpoint) -> None:
    weight, _ = rows(checkpoint)
    changed = with_vocabulary(checkpoint, {"snow": ["snow"], "cat": ["cat"]})
    assert torch.equal(rows(changed)[0], weight[[11, 0]])


def test_categories_stay_with_labels_that_stay(checkpoint: Checkpoint) -> None:
    checkpoint.labels = LabelSet(NAMES, ("animal",) * 3 + ("place",) * 9)
    changed = with_vocabulary(checkpoint, {"sky": ["sky"], "pet": ["cat", "dog"], "new": [], "feline": ["cat"]})
    assert changed.labels.categories == ("place", "", "", "")


def test_a_new_vocabulary_is_scored_with_sigmoids(checkpoint: Checkpoint) -> None:
    checkpoint.single_label = True
    assert not with_vocabulary(checkpoint, {"cat": ["cat"]}).single_label


def test_a_new_head_can_be_trained(checkpoint: Checkpoint) -> None:
    head = with_vocabulary(checkpoint, added_labels(checkpoint, ["fox"])).model.get_classifier()
    assert head.weight.requires_grad
    assert head.weight.is_leaf
    head(FEATURES).sum().backward()
    assert head.weight.grad.shape == (13, 48)


def test_only_a_linear_head_is_changed(checkpoint: Checkpoint) -> None:
    checkpoint.model.head = torch.nn.Sequential(torch.nn.Linear(48, 12))
    with pytest.raises(CheckpointError, match="Sequential"):
        with_vocabulary(checkpoint, {"cat": ["cat"]})


@pytest.mark.parametrize(
    ("origins", "word"),
    [
        ([], "no JSON object"),
        ({}, "no JSON object"),
        ("cat", "no JSON object"),
        ({"": ["cat"]}, "''"),
        ({"pet": "cat"}, "'pet'"),
        ({"pet": [1]}, "'pet'"),
        ({"pet": None}, "'pet'"),
        ({"pet \ud83d": []}, "UTF-8"),
        ({"pet": ["cat", "ferret"]}, "'ferret'"),
    ],
)
def test_a_label_map_that_cannot_be_used_is_bad_input(checkpoint: Checkpoint, origins: object, word: str) -> None:
    with pytest.raises(BadInput, match=word):
        check_origins(checkpoint, origins)


def test_a_label_map_that_can_be_used_comes_back_as_it_is(checkpoint: Checkpoint) -> None:
    origins = {"pet": ["cat", "dog"], "new": []}
    assert check_origins(checkpoint, origins) is origins


# What the old model says of it

SCORES = np.array([[0.5, 0.3, 0.1, 0.0], [0.2, 0.2, 0.9, 0.6]], np.float32)
ORIGINS = {"both": ["cat", "dog"], "bird": ["bird"], "all": ["cat", "dog", "bird", "tree"], "new": []}


@pytest.fixture
def four() -> Checkpoint:
    return seeded_checkpoint(names=NAMES[:4])


def test_a_softmax_teacher_adds_the_labels_that_exclude_each_other(four: Checkpoint) -> None:
    four.single_label = True
    expected = [[0.8, 0.1, 0.9, np.nan], [0.4, 0.9, 1.0, np.nan]]
    assert np.allclose(teacher_scores(SCORES, four, ORIGINS), expected, equal_nan=True)


def test_a_sigmoid_teacher_takes_the_highest_of_the_joined_labels(four: Checkpoint) -> None:
    expected = [[0.5, 0.1, 0.5, np.nan], [0.2, 0.9, 0.9, np.nan]]
    scores = teacher_scores(SCORES, four, ORIGINS)
    assert np.allclose(scores, expected, equal_nan=True)
    assert scores.dtype == np.float32


def test_rows_of_zeros_say_nothing_whatever_their_bias(four: Checkpoint) -> None:
    with torch.no_grad():
        four.model.head.weight[[0, 2]] = 0
    expected = [[0.3, np.nan, 0.3, np.nan], [0.2, np.nan, 0.6, np.nan]]
    assert np.allclose(teacher_scores(SCORES, four, ORIGINS), expected, equal_nan=True)


def test_a_teacher_of_no_images_gives_no_rows(four: Checkpoint) -> None:
    assert teacher_scores(SCORES[:0], four, ORIGINS).shape == (0, 4)


# Biases


def cells(values: np.ndarray, kind: np.ndarray | int = KNOWN) -> Cells:
    return Cells(values.astype(np.float32), np.broadcast_to(np.uint8(kind), values.shape).copy(), values == 1)


def mean_score(head: torch.nn.Linear, used: np.ndarray, row: int) -> float:
    with torch.no_grad():
        return float(head(FEATURES)[torch.from_numpy(used[:, row]), row].sigmoid().mean())


def linear(labels: int) -> torch.nn.Linear:
    torch.manual_seed(3)
    head = torch.nn.Linear(48, labels)
    torch.nn.init.normal_(head.weight, std=0.5)
    return head


def test_a_calibrated_bias_brings_the_mean_score_to_the_mean_target() -> None:
    rng = np.random.default_rng(4)
    head, values = linear(3), (rng.random((40, 3)) < [0.1, 0.5, 0.9]).astype(float)
    kind = rng.choice([UNUSED, SOFT, KNOWN], (40, 3)).astype(np.uint8)
    calibrate_bias(head, FEATURES, Cells(values.astype(np.float32), kind, values == 1), range(3))
    used = kind != UNUSED
    for row in range(3):
        wanted = (values[used[:, row], row].sum() + 0.5) / (used[:, row].sum() + 1)
        assert mean_score(head, used, row) == pytest.approx(wanted, abs=1e-4)


def test_calibration_keeps_the_weights_and_the_order_of_scores() -> None:
    head = linear(2)
    with torch.no_grad():
        before = head(FEATURES)
    weight = head.weight.detach().clone()
    calibrate_bias(head, FEATURES, cells(np.eye(2)[np.arange(40) % 2]), [0, 1])
    with torch.no_grad():
        after = head(FEATURES)
    assert torch.equal(head.weight, weight)
    assert torch.equal(before.argsort(0), after.argsort(0))


def test_only_the_named_rows_are_calibrated() -> None:
    head = linear(3)
    bias = head.bias.detach().clone()
    calibrate_bias(head, FEATURES, cells(np.ones((40, 3))), [1])
    assert torch.equal(head.bias[[0, 2]], bias[[0, 2]])
    assert head.bias[1] != bias[1]
    calibrate_bias(head, FEATURES, cells(np.ones((40, 3))), [])
    assert torch.equal(head.bias[[0, 2]], bias[[0, 2]])


def test_a_label_never_seen_present_becomes_rare_and_not_impossible() -> None:
    head = linear(1)
    calibrate_bias(head, FEATURES, cells(np.zeros((40, 1))), [0])
    assert mean_score(head, np.ones((40, 1), bool), 0) == pytest.approx(0.5 / 41, abs=1e-4)


def test_a_label_that_no_cell_teaches_scores_under_a_percent() -> None:
    head = torch.nn.Linear(48, 1)
    torch.nn.init.zeros_(head.weight)
    calibrate_bias(head, FEATURES, cells(np.ones((40, 1)), UNUSED), [0])
    assert float(head.bias.detach()) == BIAS_OF_NOTHING
    assert mean_score(head, np.ones((40, 1), bool), 0) < 0.01


def test_a_calibrated_head_can_still_be_trained() -> None:
    head = linear(2)
    calibrate_bias(head, FEATURES, cells(np.ones((40, 2))), [0])
    head(FEATURES).sum().backward()
    assert head.bias.grad is not None


def test_many_photos_move_a_row_further_than_few_that_say_the_same() -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(8, 16)).astype(np.float32))
    values = (features[:, :1] > 0).float().numpy()
    recipe = Recipe(
        train="head", loss="bce", epochs=0, head_epochs=30, batch_size=32, lr_head=1e-2, lr_backbone=0,
        distill_weight=0, mosaic=0, min_crop=1, balance=0, workers=0, seed=0, device="cpu",
    )  # fmt: skip
    moved = []
    for times in (1, 16):
        head = torch.nn.Linear(16, 1)
        torch.nn.init.zeros_(head.weight)
        train_head(
            head, features.repeat(times, 1), cells(np.tile(values, (times, 1))), recipe, Progress(None), lambda: None
        )
        moved.append(head.weight.norm().item())
    assert moved[1] > 1.3 * moved[0]
