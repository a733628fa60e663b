"""Active labels, sweeps and the best thresholds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.errors import TargetsError
from demo.thresholds import SWEEP, Curve, active, mcut, one_of_each, per_label_thresholds, rivals, sweep


def test_a_score_at_the_threshold_is_active_in_float32():
    scores = np.array([0.35, 0.3499999], np.float32)
    assert active(scores, 0.35).tolist() == [True, False]
    assert active(scores, np.array([0.4, 0.3])).tolist() == [False, True]


def test_of_rivals_the_best_alone_is_active_at_any_threshold():
    groups = rivals(("rating", "general", "rating", "", "rating"), {"rating", "unheard of"})
    assert [group.tolist() for group in groups] == [[0, 2, 4]]
    scores = np.float32([0.2, 0.9, 0.3, 0.1, 0.3])
    assert one_of_each(active(scores, 0.25), scores, groups).tolist() == [False, True, True, False, False]
    assert one_of_each(active(scores, 1), scores, groups).tolist() == [False, False, True, False, False]
    assert rivals((), {"rating"}) == []


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_the_sweep_counts_what_counting_cell_by_cell_counts(seed):
    rng = np.random.default_rng(seed)
    scores = rng.random((12, 5)).astype(np.float32).round(2)
    targets = rng.integers(-1, 2, (12, 5))
    curve = sweep(scores, targets)
    for position in range(0, len(SWEEP), 7):
        said = active(scores, SWEEP[position]) & (targets >= 0)
        hits = (said & (targets == 1)).sum()
        precision = hits / said.sum() if said.any() else 1.0
        assert curve.precision[position] == pytest.approx(precision, abs=1e-4)
        assert curve.recall[position] == pytest.approx(hits / max((targets == 1).sum(), 1), abs=1e-4)


def test_recall_never_rises_with_the_threshold():
    rng = np.random.default_rng(0)
    curve = sweep(rng.random((50, 4)), rng.integers(0, 2, (50, 4)))
    assert curve.recall == sorted(curve.recall, reverse=True)


def test_the_best_threshold_is_the_middle_of_equals():
    curve = Curve([0.1, 0.2, 0.3, 0.4], [1] * 4, [1] * 4, [0.5, 0.9, 0.9, 0.9])
    assert curve.best() == 0.3


def test_a_label_with_few_positives_goes_by_the_global_threshold_or_keeps_its_own():
    targets = np.zeros((40, 2), int)
    targets[:20, 0] = 1
    targets[:3, 1] = 1
    scores = np.where(targets == 1, 0.9, 0.8).astype(np.float32)
    first, second = per_label_thresholds(scores, targets, 0.3)
    assert second is None
    assert 0.3 < first < 0.9
    lower, kept = per_label_thresholds(scores, targets, 0.3, (0.1, 0.7))
    assert kept == 0.7
    assert lower < first


def test_a_label_known_as_always_present_goes_by_the_global_threshold():
    assert per_label_thresholds(np.full((20, 1), 0.7), np.ones((20, 1), int), 0.4) == [None]


def test_mcut_stands_in_the_widest_gap():
    assert mcut(np.array([0.9, 0.1, 0.85, 0.05])) == pytest.approx(0.475)
    assert mcut(np.array([0.9])) == 0.5


def test_logits_are_refused_as_scores():
    with pytest.raises(TargetsError, match="sigmoid"):
        sweep(np.array([[3.0]]), np.array([[1]]))
