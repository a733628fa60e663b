"""The report on known cells, held against scikit-learn and the worked case of the field's textbooks."""

import warnings

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.errors import TargetsError
from demo.metrics import average_precisions, calibration_error, decisions, mean_ap, report

TRUTH = np.array([[0, 1, 1, 0, 0, 1, 0], [1, 0, 0, 1, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0]])
PREDICTED = np.array([[0, 1, 0, 0, 0, 1, 0], [1, 1, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0]], bool)


def test_the_worked_case_gives_its_published_numbers():
    figures = decisions(PREDICTED, TRUTH)
    assert figures["micro_precision"] == pytest.approx(0.8333, abs=5e-5)
    assert figures["micro_recall"] == pytest.approx(0.6250, abs=5e-5)
    assert figures["micro_f1"] == pytest.approx(0.7143, abs=5e-5)
    assert figures["macro_f1"] == pytest.approx(0.5714, abs=5e-5)
    assert figures["sample_f1"] == pytest.approx(0.7000, abs=5e-5)
    assert figures["hamming_loss"] == pytest.approx(0.1905, abs=5e-5)
    assert figures["jaccard"] == pytest.approx(0.5556, abs=5e-5)
    assert figures["accuracy"] == pytest.approx(1 - 0.1905, abs=5e-5)


def test_scikit_learn_agrees_on_the_worked_case_for_precision_and_recall_of_every_average():
    for average, precision, recall in (
        ("micro", 0.8333, 0.6250),
        ("macro", 0.6429, 0.5714),
        ("samples", 0.8333, 0.6111),
    ):
        got = reference.precision_recall_fscore_support(TRUTH, PREDICTED, average=average, zero_division=0)
        assert got[:2] == (pytest.approx(precision, abs=5e-5), pytest.approx(recall, abs=5e-5))


@st.composite
def fully_known(draw):
    rows, labels = draw(st.integers(1, 8)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.random((rows, labels)).astype(np.float32).round(2), rng.integers(0, 2, (rows, labels))


@given(fully_known())
@settings(max_examples=60, deadline=None)
def test_every_figure_equals_scikit_learns_where_all_cells_are_known(case):
    scores, targets = case
    figures = report(scores, targets, [f"l{i}" for i in range(targets.shape[1])], 0.5)
    predicted, got = scores >= np.float32(0.5), figures["metrics"]
    for average, key in (("micro", "micro_f1"), ("macro", "macro_f1"), ("samples", "sample_f1")):
        assert got[key] == pytest.approx(reference.f1_score(targets, predicted, average=average, zero_division=0))
    assert got["hamming_loss"] == pytest.approx(reference.hamming_loss(targets, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert got["jaccard"] == pytest.approx(
            reference.jaccard_score(targets, predicted, average="samples", zero_division=0)
        )
    for column, name in enumerate(figures["labels"]):
        values = figures["labels"][name]
        assert values["support"] == targets[:, column].sum()
        if targets[:, column].any():
            expected = reference.average_precision_score(targets[:, column], scores[:, column])
            assert values["ap"] == pytest.approx(expected)
        else:
            assert values["ap"] is None


@given(fully_known(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_scores_of_unknown_cells_change_nothing(case, seed):
    scores, targets = case
    rng = np.random.default_rng(seed)
    hidden = rng.random(targets.shape) < 0.4
    targets = np.where(hidden, -1, targets)
    other = np.where(hidden, rng.random(targets.shape).astype(np.float32), scores)
    names = [f"l{i}" for i in range(targets.shape[1])]
    assert report(scores, targets, names, 0.5) == report(other, targets, names, 0.5)


def test_what_is_undefined_is_none_and_never_nan():
    targets = np.array([[-1, 0, 1], [-1, 0, -1]])
    figures = report(np.full(targets.shape, 0.1, np.float32), targets, ["unseen", "absent", "present"], 0.5)
    assert figures["labels"]["unseen"] == {"ap": None, "precision": None, "recall": None, "f1": None, "support": 0}
    assert figures["labels"]["absent"]["recall"] is None
    assert figures["labels"]["present"] == {"ap": 1.0, "precision": None, "recall": 0.0, "f1": 0.0, "support": 1}
    assert figures["known_cells"] == 3
    nothing_known = report(np.zeros((1, 1)), np.array([[-1]]), ["a"], 0.5)
    assert set(nothing_known["metrics"].values()) == {None}
    assert mean_ap(np.zeros((0, 2)), np.zeros((0, 2))) is None


def test_predicting_nothing_stands_beside_the_model():
    figures = report(TRUTH.astype(np.float32), TRUTH, list("abcdefg"), 0.5)
    assert figures["metrics"]["accuracy"] == 1
    assert figures["predict_nothing"]["accuracy"] == pytest.approx(1 - TRUTH.mean())
    assert figures["predict_nothing"]["micro_f1"] == 0


def test_average_precision_takes_each_labels_known_rows_only():
    targets = np.array([[1], [-1], [0]])
    assert average_precisions(np.array([[0.5], [0.9], [0.1]], np.float32), targets) == [1.0]


@pytest.mark.parametrize(
    ("scores", "targets", "said"),
    [
        (np.array([[2.0, -1.0]]), np.array([[1, 0]]), "look like logits"),
        (np.array([[np.nan, 0.5]]), np.array([[1, 0]]), "NaN"),
        (np.array([[0.5]]), np.array([[1, 0]]), "shape"),
        (np.array([[0.5, 0.5]]), np.array([[2, 0]]), "not 1, 0 or -1"),
    ],
)
def test_scores_and_targets_of_the_wrong_kind_are_named(scores, targets, said):
    with pytest.raises(TargetsError, match=said):
        report(scores, targets, list("ab"), 0.5)


def test_the_calibration_error_is_the_distance_between_promise_and_truth_bin_by_bin():
    scores, targets = np.full((10, 1), 0.8, np.float32), (np.arange(10) < 8).astype(int)[:, None]
    assert calibration_error(scores, targets) == pytest.approx(0, abs=1e-6)
    assert calibration_error(np.full((10, 1), 0.2, np.float32), targets) == pytest.approx(0.6)
    both = np.concatenate([np.full((5, 1), 0.9), np.full((5, 1), 0.1)])
    opposite = np.concatenate([np.zeros((5, 1)), np.ones((5, 1))])
    assert calibration_error(both, opposite) == pytest.approx(0.9)  # the two errors do not cancel
    assert calibration_error(both, np.full((10, 1), -1)) is None
