"""Planted label errors are found, and what is found is mostly planted."""

from __future__ import annotations

import numpy as np
import pytest

from demo.suspects import Suspect, find


def planted(rows: int, labels: int, share: float, seed: int, skill: float = 2.5) -> tuple[np.ndarray, ...]:
    """Scores of a calibrated model, targets with a share of cells turned over, and which those are."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((rows, labels)) < rng.uniform(0.1, 0.4, labels)).astype(int)
    logits = rng.normal(skill * (2 * truth - 1), 1.0)
    wrong = rng.random(truth.shape) < share
    return 1 / (1 + np.exp(-1.5 * logits)), np.where(wrong, 1 - truth, truth), wrong


@pytest.mark.parametrize("seed", range(3))
def test_of_five_percent_planted_errors_most_are_found_and_nine_in_ten_found_are_planted(seed):
    scores, targets, wrong = planted(400, 12, 0.05, seed)
    found = find(scores, targets)
    hits = sum(wrong[cell.row, cell.column] for cell in found)
    assert hits / wrong.sum() > 0.6
    assert hits / len(found) > 0.9
    first = found[: wrong.sum() // 4]
    assert sum(wrong[cell.row, cell.column] for cell in first) == len(first)


def test_where_nothing_is_wrong_little_is_suspected():
    scores, targets, _ = planted(400, 12, 0.0, seed=1)
    assert len(find(scores, targets)) < 0.01 * targets.size


def test_the_least_credible_cell_comes_first_with_what_was_said():
    scores = np.array([[0.9, 0.8, 0.95, 0.1, 0.2, 0.3, 0.99, 0.02]]).T.astype(np.float32)
    targets = np.array([[1, 1, 1, 0, 0, 0, 0, 1]]).T
    assert find(np.delete(scores, 0, 0), np.delete(targets, 0, 0)) == []  # three presences tell too little
    assert find(scores, targets) == [
        Suspect(6, 0, False, pytest.approx(0.99)),
        Suspect(7, 0, True, pytest.approx(0.02)),
    ]


def test_unknown_cells_and_labels_that_the_model_cannot_tell_are_never_suspect():
    rng = np.random.default_rng(0)
    scores = rng.random((200, 2)).astype(np.float32)
    scores[:, 1] = np.where(rng.random(200) < 0.5, 0.9, 0.1)
    targets = np.stack([(scores[:, 0] < 0.5).astype(int), np.full(200, -1)], 1)
    assert find(scores, targets) == []
    assert find(np.zeros((0, 3)), np.zeros((0, 3))) == []
    assert find(scores, np.ones_like(targets)) == []
