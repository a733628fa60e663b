"""The new model beside the old one on the held-out rows: thresholds, figures, verdict.

The old model is the fine-tune's start: the base, on the new vocabulary and input size, before any training.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from demo.checkpoint import Checkpoint
from demo.evaluate import evaluation
from demo.labels import LabelSet
from demo.metrics import report
from demo.thresholds import per_label_thresholds, sweep

WORSE_BY = 0.01
"""A model whose mAP fell by more than a point came out worse."""

JUDGED_FROM = 10
"""Held-out images with a known cell under which figures are shown, but no threshold or verdict is drawn from them."""


def with_metrics(
    new: Checkpoint, csv: str, split: str, scores: np.ndarray, old_scores: np.ndarray | None, targets: np.ndarray
) -> Checkpoint:
    """The checkpoint with thresholds and `metrics.json` from scores (N, L) on targets (N, L) of 1, 0, -1.

    old_scores: the old model's on the same rows, None where they were trained on. On few decided images the old
    thresholds stay.
    """
    enough = int((targets >= 0).any(1).sum()) >= JUDGED_FROM
    curve = sweep(scores, targets)
    threshold = curve.best() if enough else new.threshold
    result: dict[str, Any] = evaluation(new, csv, split, scores, targets, threshold)
    old = None
    if old_scores is not None:
        old = report(old_scores, targets, new.labels.names, sweep(old_scores, targets).best() if enough else threshold)
    result |= {
        "curve": curve.to_dict(),
        "old_model": old["metrics"] if old else dict.fromkeys(result["metrics"]),
        "old_labels": {name: values["ap"] for name, values in old["labels"].items()} if old else {},
        "verdict": verdict(result["metrics"], old["metrics"] if old and enough else None),
    }
    before = new.labels.thresholds or (None,) * len(new.labels)
    fallback = [threshold if value is None else value for value in before]
    tuned = tuple(per_label_thresholds(scores, targets, fallback))
    return replace(new, labels=LabelSet(new.labels.names, new.labels.categories, tuned), metrics=result)


def verdict(new: dict[str, Any], old: dict[str, Any] | None) -> str:
    """better, same or worse by mAP (micro F1 where no AP is defined); unmeasured without enough held-out rows."""
    if old is None:
        return "unmeasured"
    key = "map" if new["map"] is not None and old["map"] is not None else "micro_f1"
    if new[key] is None or old[key] is None:
        return "unmeasured"
    change = new[key] - old[key]
    return "worse" if change < -WORSE_BY else "better" if change > 0 else "same"
