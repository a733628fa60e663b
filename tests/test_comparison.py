"""The interval, the verdict, the thresholds, and what is compared with what."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from demo.comparison import (
    Judged,
    are_enough,
    choose_thresholds,
    compare,
    difference,
    flipped,
    resampled_ap,
    summary,
    verdict,
    warnings,
)

NAMES = ("cat", "dog", "bird")


def scored(rows: int, skill: float, seed: int = 0, labels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Scores that know more of fully known targets the higher the skill; the noise is the same for each skill."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, (rows, labels)).astype(np.float32)
    return (1 / (1 + np.exp(-skill * (2 * targets - 1) - rng.normal(size=targets.shape)))).astype(np.float32), targets


def judged(rows: int, new: float, old: float, by: str = "valid") -> Judged:
    scores, targets = scored(rows, new)
    return Judged(scores, scored(rows, old)[0], targets, 0.5, by)


def result(rows: int, new: float, old: float) -> dict:
    return compare(judged(rows, new, old), 0.5, NAMES, seed=0)


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_a_resamples_average_precision_is_that_of_the_rows_repeated(rows, seed):
    rng = np.random.default_rng(seed)
    scores, truth = rng.random(rows).round(1).astype(np.float32), rng.random(rows) < 0.5
    weights = rng.integers(0, 3, (4, rows)).astype(np.float32)
    for weight, got in zip(weights.astype(int), resampled_ap(scores, truth, weights), strict=True):
        repeated = np.repeat(truth, weight)
        if not repeated.any():
            assert np.isnan(got)
        else:
            assert got == pytest.approx(average_precision_score(repeated, np.repeat(scores, weight)), abs=1e-5)


def test_the_interval_holds_the_difference_and_narrows_with_more_images():
    widths = []
    for rows in (40, 640):
        change = result(rows, 1.0, 0.8)["difference"]["map"]
        assert change["low"] < change["value"] < change["high"]
        widths.append(change["high"] - change["low"])
    assert widths[1] < widths[0] / 2


def test_the_interval_misses_a_true_difference_of_nothing_about_one_time_in_twenty():
    rng, missed = np.random.default_rng(0), 0
    for trial in range(60):
        targets = rng.integers(0, 2, (60, 2))
        new, old = ((rng.normal(size=(2, 60, 2)) + 1.5 * targets) / 8 + 0.5).clip(0, 1).astype(np.float32)
        change = difference(new, old, 0.5, 0.5, targets, trial)["map"]
        missed += not change["low"] <= 0 <= change["high"]
    assert missed <= 9


def test_the_same_seed_draws_the_same_interval():
    assert result(30, 1.0, 0.5) == result(30, 1.0, 0.5)
    other = compare(judged(30, 1.0, 0.5), 0.5, NAMES, seed=1)
    assert other["difference"] != result(30, 1.0, 0.5)["difference"]


@pytest.mark.parametrize(
    ("rows", "new", "old", "expected"),
    [(300, 1.5, 0.5, "better"), (300, 1.0, 1.0, "same"), (300, 0.5, 1.5, "worse"), (9, 1.5, 0.5, "unmeasured")],
)
def test_the_verdict_goes_by_the_interval_and_says_its_figures(rows, new, old, expected):
    comparison = result(rows, new, old)
    assert verdict(comparison) == expected
    assert f"{rows} held-out images" in summary(comparison)
    assert f"{comparison['new']['map']:.3f} after" in summary(comparison)


def change(value: float, low: float, high: float) -> dict:
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("map_", "f1", "expected"),
    [
        (change(0.05, -0.01, 0.1), change(0.0, -0.1, 0.1), "same"),
        (change(-0.009, -0.02, -0.001), change(0.0, -0.1, 0.1), "same"),
        (change(-0.011, -0.2, 0.2), change(0.0, -0.1, 0.1), "worse"),
        (change(0.05, 0.01, 0.1), change(-0.2, -0.3, -0.1), "worse"),
        (None, change(-0.2, -0.3, 0.1), "worse"),
        (None, None, "unmeasured"),
    ],
)
def test_more_than_a_point_lost_is_worse_and_only_a_sure_gain_is_better(map_, f1, expected):
    assert verdict({"images": 50, "by": "valid", "difference": {"map": map_, "micro_f1": f1}}) == expected


@pytest.mark.parametrize(
    ("by", "map_high", "f1", "expected"),
    [
        ("folds", 0.03, 0.09, "same"),
        ("folds", -0.01, 0.09, "worse"),
        ("folds", 0.03, -0.001, "worse"),
        ("valid", 0.03, 0.09, "worse"),
    ],
)
def test_out_of_fold_a_fall_that_may_be_chance_does_not_outweigh_a_better_f1(by, map_high, f1, expected):
    map_, micro = {"value": -0.05, "low": -0.1, "high": map_high}, {"value": f1, "low": f1 - 0.05, "high": f1 + 0.05}
    assert verdict({"images": 11, "by": by, "difference": {"map": map_, "micro_f1": micro}}) == expected


def test_a_fall_of_more_than_a_point_is_a_warning():
    assert warnings(result(300, 0.5, 1.5))[0].startswith("mAP fell by")
    assert warnings(result(300, 1.0, 1.0)) == []


def test_labels_that_the_old_model_does_not_have_are_no_part_of_the_comparison():
    case = judged(100, 1.0, 1.0)
    old = case.old.copy()
    old[:, 2] = np.nan
    comparison = compare(Judged(case.new, old, case.targets, 0.5, "valid"), 0.5, NAMES, seed=0)
    assert comparison["labels"] == 2
    assert comparison["difference"]["map"]["value"] == 0
    assert comparison["per_label"]["bird"]["before"] is None
    assert comparison["per_label"]["bird"]["after"] > 0.5


def test_images_that_decide_labels_of_the_new_model_alone_carry_no_verdict():
    case = judged(60, 1.5, 0.5)
    old, targets = case.old.copy(), case.targets.copy()
    old[:, 2] = np.nan
    targets[2:, :2] = -1
    targets[0, 0] = 1
    case = Judged(case.new, old, targets, 0.5, "valid")
    comparison = compare(case, 0.5, NAMES, seed=0)
    assert case.decided == 60
    assert comparison["images"] == 2
    assert verdict(comparison) == "unmeasured"
    assert "on 2 held-out images" in summary(comparison)


def test_held_out_images_are_enough_from_ten_of_fifty_decided_ones():
    targets = np.float32([[1, -1]] * 50 + [[-1, -1]] * 50)
    numbers = np.arange(100)
    assert are_enough(targets, numbers >= 40)
    assert not are_enough(targets, numbers >= 41)
    assert not are_enough(targets[1:], numbers[1:] >= 40)


def test_an_old_model_that_has_none_of_the_labels_counts_as_silent():
    case = judged(100, 1.5, 1.0)
    comparison = compare(Judged(case.new, np.full_like(case.old, np.nan), case.targets, 0.5, "valid"), 0.5, NAMES, 0)
    assert verdict(comparison) == "better"
    assert comparison["old"]["map"] == pytest.approx(comparison["predict_nothing"]["map"])
    assert "lacks the labels" in warnings(comparison)[0]
    assert warnings(compare(case, 0.5, NAMES, 0)) == []


def test_decisions_that_nobody_corrected_are_counted_where_they_flip():
    new = np.float32([[0.9, 0.1], [0.2, 0.8]])
    old = np.float32([[0.4, 0.1], [0.2, np.nan]])
    targets = np.float32([[-1, -1], [1, -1]])
    assert flipped(Judged(new, old, targets, 0.3, "valid"), 0.5) == (0, 2)
    assert flipped(Judged(new, old, targets, 0.5, "valid"), 0.5) == (1, 2)


def test_corrections_of_what_was_proposed_move_no_threshold():
    scores, targets = scored(60, 1.0)
    of_proposed = np.where(scores >= 0.37, targets, -1)
    case = Judged(scores, scores, of_proposed, 0.37, "valid")
    assert choose_thresholds(case, (0.2, None, None), None)[:2] == (0.37, [0.2, None, None])
    _, _, notes = choose_thresholds(case, (), 0.9)
    assert "the thresholds stay" in notes[0]
    threshold, tuned, _ = choose_thresholds(Judged(scores, scores, targets, 0.37, "valid"), (0.2, None, None), None)
    assert threshold != 0.37
    assert 0.2 not in tuned


def test_a_target_precision_gives_the_lowest_threshold_that_reaches_it():
    case = judged(400, 1.5, 1.0)
    threshold, tuned, notes = choose_thresholds(case, (), 0.95)
    said = case.new >= threshold
    assert (case.targets[said] == 1).mean() >= 0.95
    assert (case.targets[case.new >= threshold - 0.011] == 1).mean() < 0.955
    assert notes == []
    assert len(tuned) == 3
    _, _, notes = choose_thresholds(judged(400, 0.1, 1.0), (), 0.99)
    assert "No threshold reaches a precision of 0.99" in notes[0]


def test_nothing_to_judge_on_is_unmeasured_and_no_error():
    empty = np.zeros((0, 3), np.float32)
    comparison = compare(Judged(empty, empty, empty, 0.5, "valid"), 0.5, NAMES, 0)
    assert verdict(comparison) == "unmeasured"
    assert "no label is decided" in summary(comparison)
