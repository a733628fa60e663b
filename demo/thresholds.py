"""Which labels are active, and where the threshold had best stand.

Scores are probabilities in [0, 1], shape (N, L) or (L,). Targets have the scores' shape: 1 present, 0 absent,
-1 unknown; unknown cells never count. Knows nothing of models or pages.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from demo.errors import TargetsError

SWEEP = np.round(np.linspace(0.02, 0.98, 49), 2)
"""Thresholds of a stored curve; 0.02 apart, which is finer than a validation set of hundreds can tell apart."""

PRECISE_SWEEP = np.round(np.linspace(0.01, 0.99, 99), 2)

MIN_POSITIVES = 10
"""Under this many known positives a label's own threshold is noise and the global one is used."""


@dataclass(frozen=True)
class Curve:
    """Micro-averaged precision, recall and F1 at rising thresholds, each a list of equal length in [0, 1].

    Precision where nothing is active is 1: nothing said is nothing wrong, and a plot that dives to 0 misleads.
    """

    threshold: list[float]
    precision: list[float]
    recall: list[float]
    f1: list[float]

    def best(self) -> float:
        """The threshold of the highest F1; of several, the middle one of the first run of equals."""
        f1 = np.asarray(self.f1)
        first = int(f1.argmax())
        last = first
        while last + 1 < len(f1) and f1[last + 1] == f1[first]:
            last += 1
        return float(self.threshold[(first + last) // 2])

    def to_dict(self) -> dict[str, list[float]]:
        return asdict(self)


def active(scores: np.ndarray, threshold: float | np.ndarray) -> np.ndarray:
    """Bool array of the scores' shape: at or above the threshold, a number or one per label (L,).

    Compared in float32, as the page does, so that both count the same labels.
    """
    return np.asarray(scores, np.float32) >= np.asarray(threshold, np.float32)


def rivals(categories: Sequence[str], exclusive: Collection[str]) -> list[np.ndarray]:
    """Positions of the labels of each exclusive category; `categories` has one per label, or none at all."""
    return [np.flatnonzero(np.asarray(categories) == name) for name in sorted({*categories} & {*exclusive})]


def one_of_each(is_active: np.ndarray, scores: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """`is_active` (L,) of one image's scores (L,), but of each group of rivals the best label alone is active.

    It is so at any threshold: an image always has a rating. Of equal scores the first label is the best.
    """
    chosen = is_active.copy()
    for group in groups:
        chosen[group] = False
        chosen[group[scores[group].argmax()]] = True
    return chosen


def mcut(scores: np.ndarray) -> float:
    """Maximum-cut threshold of one image's scores (L,): the middle of the widest gap between neighbours.

    Source: Largeron, Moulin and Géry, "MCut: a thresholding strategy for multi-label classification", IDA 2012.
    """
    ordered = np.sort(np.asarray(scores, np.float64))[::-1]
    if len(ordered) < 2:
        return 0.5
    gaps = ordered[:-1] - ordered[1:]
    widest = int(gaps.argmax())
    return float((ordered[widest] + ordered[widest + 1]) / 2)


def sweep(scores: np.ndarray, targets: np.ndarray, thresholds: np.ndarray = SWEEP) -> Curve:
    """Micro precision, recall and F1 over all known cells at each threshold."""
    scores, targets = check_scores(scores, targets)
    positive = np.sort(scores[targets == 1])
    negative = np.sort(scores[targets == 0])
    levels = np.asarray(thresholds, np.float32)
    hits = len(positive) - np.searchsorted(positive, levels, side="left")
    false_alarms = len(negative) - np.searchsorted(negative, levels, side="left")
    said = hits + false_alarms
    precision = np.where(said > 0, hits / np.maximum(said, 1), 1.0)
    recall = hits / max(len(positive), 1)
    f1 = 2 * hits / np.maximum(said + len(positive), 1)
    return Curve(*(np.round(values, 4).tolist() for values in (np.asarray(thresholds, float), precision, recall, f1)))


def per_label_thresholds(
    scores: np.ndarray,
    targets: np.ndarray,
    threshold: float,
    own: Sequence[float | None] = (),
    min_positives: int = MIN_POSITIVES,
    target_precision: float | None = None,
) -> list[float | None]:
    """L thresholds: each label's best F1, shrunk towards the global one by how few positives it has.

    A label with fewer than `min_positives` known positives, or without a known negative, keeps what it has in `own`:
    None is that it goes by the global one, wherever that stands. Tuning F1 on a rare label overfits (Lin and Lin, CIKM
    2023), hence the mean of the label's best and of what it had, or of `threshold`, weighted n : min_positives for n
    positives. With `target_precision` it is the label's `precise_threshold`, which is smoothed itself.
    """
    scores, targets = check_scores(scores, targets)
    tuned: list[float | None] = []
    for column, before in enumerate(own or (None,) * scores.shape[1]):
        known = targets[:, column] >= 0
        positives = int((targets[known, column] == 1).sum())
        if positives < min_positives or positives == known.sum():
            tuned.append(before)
        elif target_precision is not None:
            tuned.append(precise_threshold(scores[known, column], targets[known, column], target_precision)[0])
        else:
            best = sweep(scores[known, column], targets[known, column]).best()
            start = threshold if before is None else before
            tuned.append(round((positives * best + min_positives * start) / (positives + min_positives), 4))
    return tuned


def precise_threshold(scores: np.ndarray, targets: np.ndarray, precision: float) -> tuple[float, float]:
    """The lowest threshold whose smoothed precision over known cells reaches `precision`, and that precision.

    The threshold of the highest smoothed precision where none reaches it. Smoothed: two cells more are counted as
    named, right as often as a label is present at all, so that one lucky hit is no certainty.
    """
    scores, targets = check_scores(scores, targets)
    positive, negative = np.sort(scores[targets == 1]), np.sort(scores[targets == 0])
    levels = PRECISE_SWEEP.astype(np.float32)
    hits = len(positive) - np.searchsorted(positive, levels, side="left")
    said = hits + len(negative) - np.searchsorted(negative, levels, side="left")
    chance = len(positive) / max(len(positive) + len(negative), 1)
    smoothed = (hits + 2 * chance) / (said + 2)
    chosen = int((smoothed >= precision).argmax()) if (smoothed >= precision).any() else int(smoothed.argmax())
    return float(PRECISE_SWEEP[chosen]), float(smoothed[chosen])


def check_scores(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float32 and int8 arrays, or TargetsError: another shape, NaN, outside the range, logits."""
    scores, targets = np.asarray(scores), np.asarray(targets)
    if scores.shape != targets.shape:
        raise TargetsError(
            f"Scores have the shape {scores.shape}, targets {targets.shape}.", "Each score needs one target."
        )
    if scores.size and not np.isfinite(scores).all():
        raise TargetsError("A score is NaN or infinite.", "The model or its input is broken.", "Check the weights.")
    if scores.size and (scores.min() < 0 or scores.max() > 1):
        raise TargetsError(
            f"Scores run from {scores.min():.3g} to {scores.max():.3g}.",
            "Scores are probabilities in [0, 1]; these look like logits.",
            "Apply a sigmoid first.",
        )
    if targets.size and not np.isin(targets, (-1, 0, 1)).all():
        raise TargetsError("A target is not 1, 0 or -1.", "1 is present, 0 absent, -1 unknown.")
    return scores.astype(np.float32), targets.astype(np.int8)
