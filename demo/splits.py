"""Who is held out, and folds: stratified over labels, with copies of one image always on one side.

Pure functions of targets, group names and a seed. A group is what may not be torn apart: the photos of one
content hash. Pictures that merely look alike are not found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

HELD_OUT = 0.2
FOLDS = 5


def held_out(targets: np.ndarray, groups: Sequence[str], share: float = HELD_OUT, seed: int = 0) -> np.ndarray:
    """Bool array (N,): who is held out of N rows with targets (N, L) of 1, 0, -1. May be nobody where N is small."""
    return assign(targets, groups, (1 - share, share), seed) == 1


def folds(targets: np.ndarray, groups: Sequence[str], count: int = FOLDS, seed: int = 0) -> np.ndarray:
    """Fold numbers (N,) from 0; fewer than `count` folds where there are fewer groups."""
    count = max(min(count, len(set(groups))), 1)
    return assign(targets, groups, (1 / count,) * count, seed)


def assign(targets: np.ndarray, groups: Sequence[str], shares: Sequence[float], seed: int) -> np.ndarray:
    """Side numbers (N,) such that each side has its share of every label's known presences and absences.

    The rarest of those facts goes first, each group to the side that lacks most of it. The order of the rows does
    not matter. Idea: Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", ECML 2011.
    """
    if not len(groups):
        return np.zeros(0, int)
    names, of_row = np.unique(np.asarray(groups), return_inverse=True)
    facts = np.zeros((len(names), 2 * targets.shape[1]), bool)
    for offset, value in ((0, 1), (targets.shape[1], 0)):
        rows, columns = np.nonzero(targets == value)
        facts[of_row[rows], columns + offset] = True
    order = np.random.default_rng(seed).permutation(len(names))
    side = np.full(len(names), -1)
    left = facts.sum(0)
    lacking = np.outer(shares, left)
    lacking_groups = np.asarray(shares) * len(names)

    def place(group: int, wanted: np.ndarray) -> None:
        best = max(range(len(shares)), key=lambda number: (wanted[number], lacking_groups[number]))
        side[group] = best
        lacking[best] -= facts[group]
        lacking_groups[best] -= 1
        np.subtract(left, facts[group], out=left)

    while left.any():
        rarest = int(np.where(left > 0, left, left.max() + 1).argmin())
        for group in order[facts[order, rarest] & (side[order] < 0)]:
            place(group, lacking[:, rarest])
    for group in order[side[order] < 0]:
        place(group, lacking_groups)
    return side[of_row]
