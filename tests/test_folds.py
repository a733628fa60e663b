"""Heads that did not see a photo, and what they say of cells that nobody decided."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.frozen import recipe
from demo.dataset import KNOWN, SOFT, Cells
from demo.folds import out_of_fold, self_taught
from demo.progress import Progress

PHOTOS = 120
HAS, LACKS = np.arange(PHOTOS) % 2 == 0, np.arange(PHOTOS) % 2 == 1
FRESH = np.full((PHOTOS, 1), np.nan, np.float32)
LOOKED_AT = np.random.default_rng(0).random(PHOTOS) < 0.6


@pytest.fixture
def taught(tmp_path: Path):
    """The cells of targets (N, 1) on photos whose features tell who has the label."""
    features = torch.from_numpy(np.random.default_rng(1).normal(0, 0.3, (PHOTOS, 8)).astype(np.float32))
    features[:, 0] += torch.from_numpy(np.where(HAS, 5, -5))
    groups = [str(number) for number in range(PHOTOS)]

    def taught(targets: np.ndarray, teacher: np.ndarray = FRESH, unknown: str = "distill", groups=groups) -> Cells:
        linear = torch.nn.Linear(8, 1)
        torch.nn.init.zeros_(linear.weight)
        cells, how = Cells.build(targets, unknown, teacher), (recipe("bce", 0), Progress(tmp_path), lambda: None)
        (expected,) = out_of_fold(linear, features, cells, targets, groups, [0], (1.0,), *how)
        return self_taught(cells, teacher, targets, expected)

    return taught


def decided(presences: np.ndarray, absences: np.ndarray) -> np.ndarray:
    return np.where(HAS & presences, 1, np.where(LACKS & absences, 0, -1)).astype(np.float32)[:, None]


def test_a_fresh_label_is_expected_on_photos_like_those_that_have_it(taught):
    targets = decided(LOOKED_AT, LOOKED_AT)
    cells, unknown = taught(targets), targets[:, 0] < 0
    assert (cells.kind[unknown] == SOFT).all()
    has, lacks = cells.values[unknown & HAS], cells.values[unknown & LACKS]
    assert has.min() > lacks.max()
    assert has.mean() > 0.2  # of 0.5 at most, the share of absences
    assert lacks.mean() < 0.1
    np.testing.assert_array_equal(cells.values[~unknown], targets[~unknown])
    assert (cells.kind[~unknown] == KNOWN).all()


def test_a_fresh_label_whose_presences_alone_were_decided_stays_absent_elsewhere(taught):
    targets = decided(LOOKED_AT, np.zeros(PHOTOS, bool))
    assert (taught(targets).values[targets < 0] == 0).all()


@pytest.mark.parametrize("unknown", ["ignore", "negative"])
def test_other_words_on_unknown_cells_hold_for_fresh_labels_too(taught, unknown):
    targets = decided(LOOKED_AT, LOOKED_AT)
    plain = Cells.build(targets, unknown, FRESH)
    np.testing.assert_array_equal(taught(targets, unknown=unknown).values, plain.values)


def test_where_the_old_model_has_a_word_it_stays(taught):
    targets, teacher = decided(LOOKED_AT, LOOKED_AT), np.full((PHOTOS, 1), 0.3, np.float32)
    assert taught(targets, teacher).values[targets < 0] == pytest.approx(0.3)


def test_copies_of_one_photo_have_no_head_that_did_not_see_it(taught):
    targets = decided(LOOKED_AT, LOOKED_AT)
    assert (taught(targets, groups=["one"] * PHOTOS).values[targets < 0] == 0).all()
