"""How much of a fine-tune is kept, on scores that are made up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from demo.blending import MOST_FLIPPED, SHARES, blend, choose
from demo.comparison import JUDGED_FROM, Judged

ROWS, LABELS = 40, 6
KEPT = np.ones(LABELS, bool)


def judged(wrong: int, moved: float = 0.0, rows: int = ROWS) -> Judged:
    """Three decided labels, so many of their presences scored low; `moved` of the undecided cells scored high."""
    rng = np.random.default_rng(0)
    targets = np.full((rows, LABELS), -1, np.float32)
    targets[:, :3] = rng.integers(0, 2, (rows, 3))
    old = np.full((rows, LABELS), 0.1, np.float32)
    new = np.where(targets == 1, 0.9, 0.1).astype(np.float32)
    present = np.argwhere(targets == 1)
    for row, column in present[:wrong]:
        new[row, column] = 0.01
    silent = np.argwhere(targets < 0)
    for row, column in silent[: round(moved * len(silent))]:
        new[row, column] = 0.99
    return Judged(new, old, targets, 0.5, "valid")


def test_the_share_that_scores_best_is_kept():
    assert choose({1.0: judged(20), 0.75: judged(0), 0.5: judged(10)}, KEPT)[0] == 0.75


def test_of_shares_that_score_alike_the_largest_is_kept():
    assert choose({share: judged(0) for share in SHARES}, KEPT)[0] == 1.0


def test_a_share_that_drifts_beyond_the_bound_is_passed_over():
    share, rows = choose({1.0: judged(0, moved=3 * MOST_FLIPPED), 0.75: judged(5), 0.5: judged(10)}, KEPT)
    assert share == 0.75
    assert rows[0]["flipped"] == pytest.approx(3 * MOST_FLIPPED, abs=0.01)


def test_where_every_share_drifts_the_one_that_drifts_least_is_kept():
    assert choose({1.0: judged(0, 0.5), 0.75: judged(0, 0.3), 0.5: judged(0, 0.2)}, KEPT)[0] == 0.5


def test_drift_of_labels_that_mean_something_new_does_not_count():
    tried = {1.0: judged(0, moved=0.5), 0.75: judged(10), 0.5: judged(10)}
    assert choose(tried, np.zeros(LABELS, bool))[0] == 1.0


def test_on_too_few_images_everything_learned_is_kept():
    few = {1.0: judged(5, rows=JUDGED_FROM - 1), 0.75: judged(0, rows=JUDGED_FROM - 1)}
    assert choose(few, KEPT)[0] == 1.0


def test_a_blend_lies_between_its_ends_and_is_what_fp16_holds():
    model = torch.nn.Linear(3, 2)
    ends = [{name: torch.full_like(tensor, value) for name, tensor in model.state_dict().items()} for value in (0, 1)]
    blend(model, *ends, 0.3, half=False)
    assert torch.equal(model.weight, torch.full((2, 3), 0.3))
    blend(model, *ends, 0.3, half=True)
    assert torch.equal(model.weight, torch.full((2, 3), 0.3).half().float())
