"""The multi-label report on known cells.

Scores (N, L) are probabilities; targets (N, L) are 1, 0 or -1 for unknown, and an unknown cell counts nowhere.
On fully known targets every average equals scikit-learn's with `zero_division=0` (the tests hold it to that).
What is undefined of a single label is None: its AP without known positives, its precision where nothing was said.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import average_precision_score

from demo.thresholds import active, check_scores

Figures = dict[str, float | None]


def report(scores: np.ndarray, targets: np.ndarray, names: Sequence[str], threshold: float | np.ndarray) -> dict:
    """`{"known_cells", "metrics", "predict_nothing", "labels"}` as `demo.evaluate --json` has them.

    scores: (N, L) in [0, 1]. targets: (N, L) of 1, 0, -1. threshold: a number, or one per label (L,).
    Raises TargetsError for wrong shapes, ranges and NaN.
    """
    scores, targets = check_scores(scores, targets)
    predicted = active(scores, threshold)
    precisions = average_precisions(scores, targets)
    hits, false_alarms, misses = _counts(predicted, targets, axis=0)
    labels = {}
    for column, name in enumerate(names):
        h, f, m = int(hits[column]), int(false_alarms[column]), int(misses[column])
        labels[name] = {
            "ap": precisions[column],
            "precision": _ratio(h, h + f),
            "recall": _ratio(h, h + m),
            "f1": _ratio(2 * h, 2 * h + f + m),
            "support": h + m,
        }
    return {
        "known_cells": int((targets >= 0).sum()),
        "metrics": {"map": _mean(precisions), **decisions(predicted, targets)},
        "predict_nothing": {"map": _mean(_prevalences(targets)), **decisions(np.zeros_like(predicted), targets)},
        "labels": labels,
    }


def average_precisions(scores: np.ndarray, targets: np.ndarray) -> list[float | None]:
    """L average precisions over each label's known cells; None where no positive is known."""
    result: list[float | None] = []
    for column in range(targets.shape[1]):
        known = targets[:, column] >= 0
        truth = targets[known, column]
        result.append(float(average_precision_score(truth, scores[known, column])) if (truth == 1).any() else None)
    return result


def mean_ap(scores: np.ndarray, targets: np.ndarray) -> float | None:
    """Macro mean of the average precisions that are defined; None where none is."""
    return _mean(average_precisions(scores, targets))


def calibration_error(scores: np.ndarray, targets: np.ndarray, bins: int = 15) -> float | None:
    """Mean distance in [0, 1] between what scores promise and how often it is so, over known cells; None without any.

    Expected calibration error with bins of equal width: Naeini, Cooper and Hauskrecht, AAAI 2015.
    """
    scores, targets = check_scores(scores, targets)
    known = targets >= 0
    if not known.any():
        return None
    bin_of = np.minimum((scores[known] * bins).astype(int), bins - 1)
    promised = np.bincount(bin_of, scores[known], bins)
    present = np.bincount(bin_of, targets[known], bins)
    return float(np.abs(promised - present).sum() / known.sum())


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _prevalences(targets: np.ndarray) -> list[float | None]:
    """L shares of positives among known cells: the average precision of a score that is the same for every image."""
    positives = (targets == 1).sum(0)
    return [p / k if p else None for p, k in zip(positives.tolist(), (targets >= 0).sum(0).tolist(), strict=True)]


def decisions(predicted: np.ndarray, targets: np.ndarray) -> Figures:
    """Every figure that needs a threshold, from bool predictions (N, L); None where no cell is known."""
    known = targets >= 0
    if not known.any():
        return dict.fromkeys(
            (
                "micro_f1",
                "macro_f1",
                "sample_f1",
                "micro_precision",
                "micro_recall",
                "hamming_loss",
                "jaccard",
                "accuracy",
            )
        )
    hits, false_alarms, misses = _counts(predicted, targets, axis=0)
    h, f, m = hits.sum(), false_alarms.sum(), misses.sum()
    label_f1 = _safe(2 * hits, 2 * hits + false_alarms + misses)[known.any(axis=0)]
    row_hits, row_false, row_misses = (c[known.any(axis=1)] for c in _counts(predicted, targets, axis=1))
    wrong = float((f + m) / known.sum())
    return {
        "micro_f1": float(_safe(2 * h, 2 * h + f + m)),
        "macro_f1": float(label_f1.mean()),
        "sample_f1": float(_safe(2 * row_hits, 2 * row_hits + row_false + row_misses).mean()),
        "micro_precision": float(_safe(h, h + f)),
        "micro_recall": float(_safe(h, h + m)),
        "hamming_loss": wrong,
        "jaccard": float(_safe(row_hits, row_hits + row_false + row_misses).mean()),
        "accuracy": 1 - wrong,
    }


def _counts(predicted: np.ndarray, targets: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits, false alarms and misses along an axis, on known cells."""
    return (
        (predicted & (targets == 1)).sum(axis),
        (predicted & (targets == 0)).sum(axis),
        (~predicted & (targets == 1)).sum(axis),
    )


def _safe(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 0 where whole is 0 (scikit-learn's zero_division=0)."""
    whole = np.asarray(whole)
    return np.where(whole > 0, part / np.maximum(whole, 1), 0.0)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
