"""Scores of training photos by heads that did not see them, from features that are cached anyway.

The heads of all folds are trained at once, side by side as one wide head, for which the cells of the rows that a
fold leaves out teach nothing. The backbone is the base's: where the fine-tune moves it too, the folds speak of the
head's part alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from demo import head, splits
from demo.dataset import SOFT, UNUSED, Cells
from demo.progress import Progress
from demo.training import Recipe, train_head

MOST_CELLS = 200_000_000
"""Cells of heads trained side by side; above that, fewer folds at a time."""


def out_of_fold(
    start: torch.nn.Linear,
    features: torch.Tensor,
    cells: Cells,
    targets: np.ndarray,
    groups: Sequence[str],
    moved: Sequence[int],
    shares: Sequence[float],
    recipe: Recipe,
    progress: Progress,
    stop: Callable[[], None],
) -> np.ndarray:
    """Scores (S, N, L) float32 of features (N, D), row by row from a head trained on the other folds.

    NaN where there is but one group. start: the head before training; it is not changed. groups: what may not be
    torn apart. moved: the columns whose bias is calibrated first. shares: of the trained head in what scores, S of
    them (`demo.blending`).
    """
    scores = np.full((len(shares), *targets.shape), np.nan, np.float32)
    fold_of = splits.folds(targets, groups, seed=recipe.seed)
    numbers = np.unique(fold_of)
    if len(numbers) < 2:
        return scores
    at_once = max(int(MOST_CELLS // max(targets.size, 1)), 1)
    for some in np.split(numbers, range(at_once, len(numbers), at_once)):
        left_out = fold_of[:, None] == some
        wide = _beside_each_other(cells, left_out)
        layer = torch.nn.Linear(start.in_features, start.out_features * len(some))
        with torch.no_grad():
            layer.weight.copy_(start.weight.repeat(len(some), 1))
            layer.bias.copy_(start.bias.repeat(len(some)))
        rows = [fold * start.out_features + column for fold in range(len(some)) for column in moved]
        head.calibrate_bias(layer, features, wide, rows)
        before = [parameter.detach().clone() for parameter in layer.parameters()]
        train_head(layer, features, wide, _repeated(recipe, len(some)), _Phase(progress), stop)
        trained = [parameter.detach().clone() for parameter in layer.parameters()]
        for of_share, share in zip(scores, shares, strict=True):
            with torch.no_grad():
                for parameter, was, now in zip(layer.parameters(), before, trained, strict=True):
                    parameter.copy_(torch.lerp(was, now, share))
                by_fold = layer(features).sigmoid().unflatten(1, (len(some), -1)).numpy()
            for fold in range(len(some)):
                of_share[left_out[:, fold]] = by_fold[left_out[:, fold], fold]
    return scores


def self_taught(cells: Cells, teacher: np.ndarray, targets: np.ndarray, expected: np.ndarray) -> Cells:
    """The cells, with unknown ones of fresh labels as heads that did not see their photo expect them.

    `Cells.build` has these absent, which is wrong for each one whose photo shows the label after all. In its place
    stands the out-of-fold score times the share of absences among the label's known cells: the more of these were
    decided, the more can be believed; heads that were shown presences alone find a label everywhere, and it stays
    absent. After the selective loss of Ben-Baruch et al., "Multi-label Classification with Partial Annotations using
    Class-aware Selective Loss", CVPR 2022, which leaves likely presences out.

    teacher, targets, expected: (N, L); the old model's scores, NaN where it has no word, 1, 0, -1, and scores of
    `out_of_fold`. These judge, too, by heads that learned from the cells as they were before: one that learns from
    what came of a photo's decisions has seen it. So the judged heads are a little less taught than the saved one.
    """
    untaught = (cells.kind == SOFT) & np.isnan(teacher)
    absent = (targets == 0).sum(0) / np.maximum((targets >= 0).sum(0), 1)
    values = np.where(untaught, np.nan_to_num(expected * absent), cells.values)
    return replace(cells, values=values.astype(np.float32))


class _Phase:
    """The progress of a training that is a phase of its own, and no part of the loss curve."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.step = progress.step

    def phase(self, _: str, steps: int) -> None:
        self.progress.phase("folds", steps)

    def epoch(self, **_: Any) -> None: ...


def _repeated(recipe: Recipe, times: int) -> Recipe:
    weights = {"weight": recipe.weight, "pos_weight": recipe.pos_weight}
    return replace(recipe, **{key: None if value is None else value.repeat(times) for key, value in weights.items()})


def _beside_each_other(cells: Cells, left_out: np.ndarray) -> Cells:
    """The cells (N, F · L) of F heads side by side; left_out (N, F) bool: the rows that each must not learn from."""
    folds = left_out.shape[1]
    unused = np.repeat(left_out, cells.values.shape[1], axis=1)
    return Cells(
        np.tile(cells.values, (1, folds)),
        np.where(unused, UNUSED, np.tile(cells.kind, (1, folds))).astype(np.uint8),
        np.tile(cells.present, (1, folds)) & ~unused,
    )
