"""In which order photos are worked through: ranks from scores, lower ones first. Pure functions on arrays.

Scores are float32 (N, L) in [0, 1], rows of NaN for photos that are not tagged yet; these come last. Thresholds are
(L,) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from demo.thresholds import active

ROWS_AT_ONCE = 512


def uncertain(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(N,): how near to its threshold a photo's nearest label is (uncertainty sampling by margin)."""
    return _by_rows(lambda rows: np.abs(rows - thresholds).min(1), scores)


def rare(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(N,): on how many of the photos a photo's rarest active label is active; N + 1 for one without a label."""
    photos = len(scores)
    counts = sum(
        (active(part, thresholds).sum(0) for part in np.array_split(scores, -(-photos // ROWS_AT_ONCE) or 1)),
        np.zeros(scores.shape[1], int),
    )

    def rarest(rows: np.ndarray) -> np.ndarray:
        ranks = np.where(active(rows, thresholds), counts, photos + 1).min(1).astype(np.float64)
        return np.where(np.isnan(rows).any(1), np.nan, ranks)

    return _by_rows(rarest, scores)


def contradicted(
    scores: np.ndarray, thresholds: np.ndarray, decided: Mapping[int, tuple[Sequence[int], Sequence[int]]]
) -> np.ndarray:
    """(N,): minus the number of decisions on a photo that the model contradicts.

    decided: by place, positions of the labels that a person confirmed and of those that they rejected.
    """
    ranks = np.where(np.isnan(scores).any(1), np.nan, 0.0)
    for place, (confirmed, rejected) in decided.items():
        said = active(scores[place], thresholds)
        ranks[place] -= (~said[list(confirmed)]).sum() + said[list(rejected)].sum()
    return ranks


def order(ranks: np.ndarray) -> np.ndarray:
    """Places (N,) in rising rank, as given among equals and NaN last."""
    return np.argsort(ranks, kind="stable")


def shuffled(count: int, seed: int) -> np.ndarray:
    """Places (N,) in an order that depends on nothing but the seed."""
    return np.random.default_rng(seed).permutation(count)


def _by_rows(rank, scores: np.ndarray) -> np.ndarray:
    """Ranks of all rows, some at a time: 10,000 labels of 10,000 photos are 400 MB."""
    parts = np.array_split(scores, -(-len(scores) // ROWS_AT_ONCE) or 1)
    return np.concatenate([rank(part) for part in parts]) if len(scores) else np.zeros(0)
