"""The new model beside the old one, on images that neither learned from: figures, intervals, verdict, thresholds.

The old model is the one the person had: its own input size, its own threshold. Labels that it does not have are
left out of the comparison, since anything beats silence; where no others have a known presence, it counts as one that
never names them. Both models are measured at their own thresholds; the new one's was drawn from the same images, which
flatters it by one number's worth of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from demo.messages import Message
from demo.metrics import average_precisions, calibration_error, report
from demo.thresholds import active, per_label_thresholds, precise_threshold, sweep

WORSE_BY = 0.01
"""A model whose mAP fell by more than a point came out worse."""

JUDGED_FROM = 10
"""Images with a known cell under which figures are shown, but no threshold or verdict is drawn from them."""

FOLDS_BELOW = 50
"""Images under which every one is judged, by heads trained without it, and not the held-out ones alone."""

RESAMPLES, MOST_CELLS = 1000, 1_000_000_000
"""Bootstrap resamples, and how many cells may be looked at in all of them before there are fewer."""


@dataclass(frozen=True)
class Judged:
    """What both models said of N images, and what is so.

    new, old: scores (N, L) float32 in [0, 1], the old one's NaN in the columns of labels that it does not have.
    targets: (N, L) of 1, 0, -1. old_threshold: the one the old model recommends. by: "valid" for held-out images,
    "folds" where some were scored by heads trained without them.
    """

    new: np.ndarray
    old: np.ndarray
    targets: np.ndarray
    old_threshold: float
    by: str

    @property
    def decided(self) -> int:
        """How many images have a known cell, of whichever label."""
        return _decided(self.targets)

    def telling(self) -> np.ndarray:
        """Bool (L,): the labels whose known absences were looked for, and are not mostly what the old model proposed.

        Where they are, as in corrections that confirm and reject what was active, nobody said what else is absent,
        and a threshold drawn from them would be far too low.
        """
        absent = self.targets == 0
        proposed = absent & (np.nan_to_num(self.old) >= self.old_threshold)
        return 2 * proposed.sum(0) < absent.sum(0)

    def telling_targets(self) -> np.ndarray:
        """Targets (N, L) with the cells of labels that are not `telling` unknown."""
        return np.where(self.telling(), self.targets, -1)

    def compared(self) -> np.ndarray:
        """Bool (L,): the labels that both models have; all of them where those have no known presence."""
        shared = np.isfinite(self.old).all(0)
        return shared if (self.targets[:, shared] == 1).any() else np.ones_like(shared)


def _decided(targets: np.ndarray) -> int:
    return int((targets >= 0).any(1).sum())


def are_enough(targets: np.ndarray, is_valid: np.ndarray) -> bool:
    """Whether the held-out ones of N images, bool (N,), with targets (N, L) of 1, 0, -1 are judged alone."""
    return _decided(targets) >= FOLDS_BELOW and _decided(targets[is_valid]) >= JUDGED_FROM


def can_tell(targets: np.ndarray) -> bool:
    """Whether a threshold can be drawn from targets (N, L) of 1, 0, -1."""
    return bool(_decided(targets) >= JUDGED_FROM and (targets == 1).any())


def choose_thresholds(
    judged: Judged, own: tuple[float | None, ...], target_precision: float | None
) -> tuple[float, list[float | None], list[str]]:
    """The global threshold, one per label or None for those that go by it, and what a person should know of them.

    own: thresholds that the labels had; kept, as the global one is, where the images cannot tell a better one. Those
    of another aim than `target_precision` are not.
    """
    scores, notes = judged.new, []
    targets, threshold = judged.telling_targets(), judged.old_threshold
    enough = can_tell(targets)
    if enough and target_precision is None:
        threshold = sweep(scores, targets).best()
    elif enough:
        threshold, reached = precise_threshold(scores, targets, target_precision)
        if reached < target_precision:
            notes.append(
                f"No threshold reaches a precision of {target_precision:.2f} on {judged.decided} images: "
                f"{threshold:.2f} comes closest, with {reached:.2f}."
            )
    elif target_precision is not None:
        notes.append(
            f"Too few images say what is absent to aim at a precision of {target_precision:.2f}: the thresholds stay."
        )
    aim = target_precision if enough else None
    tuned = per_label_thresholds(scores, targets, threshold, own if aim is None else (), target_precision=aim)
    return threshold, tuned, notes


def compare(judged: Judged, threshold: float, names: tuple[str, ...], seed: int) -> dict[str, Any]:
    """The `comparison` of `metrics.json`: both models and *predict nothing* on the judged images, JSON-ready.

    Its images are those with a known cell of a label that is compared: the figures are of no others.
    """
    columns = judged.compared()
    targets, new = judged.targets[:, columns], judged.new[:, columns]
    old = np.nan_to_num(judged.old[:, columns])
    kept = [name for name, is_kept in zip(names, columns, strict=True) if is_kept]
    after, before = report(new, targets, kept, threshold), report(old, targets, kept, judged.old_threshold)
    fresh = {
        name: {"before": None, "after": ap, "support": int(support)}
        for name, ap, support, is_kept in zip(
            names, average_precisions(judged.new, judged.targets), (judged.targets == 1).sum(0), columns, strict=True
        )
        if not is_kept
    }
    flips, silent = flipped(judged, threshold)
    return {
        "by": judged.by,
        "images": _decided(targets),
        "known_cells": after["known_cells"],
        "labels": len(kept),
        "old_is_silent": bool(columns.any() and np.isnan(judged.old[:, columns]).any()),
        "threshold": {"new": threshold, "old": judged.old_threshold},
        "new": after["metrics"],
        "old": before["metrics"],
        "predict_nothing": after["predict_nothing"],
        "difference": difference(new, old, threshold, judged.old_threshold, targets, seed),
        "calibration": {"new": calibration_error(new, targets), "old": calibration_error(old, targets)},
        "flipped": {"decisions": silent, "share": flips / silent if silent else None},
        "per_label": {
            name: {"before": before["labels"][name]["ap"], "after": values["ap"], "support": values["support"]}
            for name, values in after["labels"].items()
        }
        | fresh,
    }


def flipped(judged: Judged, threshold: float) -> tuple[int, int]:
    """How many decisions on cells that nobody decided came out otherwise, and how many such decisions there are."""
    silent = (judged.targets < 0) & np.isfinite(judged.old)
    changed = active(judged.new, threshold) != active(np.nan_to_num(judged.old), judged.old_threshold)
    return int((changed & silent).sum()), int(silent.sum())


def difference(
    new: np.ndarray, old: np.ndarray, threshold: float, old_threshold: float, targets: np.ndarray, seed: int
) -> dict[str, dict[str, float] | None]:
    """`{"map", "micro_f1"}`: each `{"value", "low", "high"}`, new minus old with its 95 % interval; None if undefined.

    Percentile bootstrap over images, the same resample for both models (Efron and Tibshirani, 1993). A label
    without a known presence in a resample is left out of that resample's means.
    """
    with_presence = np.flatnonzero((targets == 1).any(0))
    cells = max(int((targets[:, with_presence] >= 0).sum()), 1)
    resamples = int(np.clip(MOST_CELLS // cells, 100, RESAMPLES))
    rows = len(targets)
    if not rows:
        return {"map": None, "micro_f1": None}
    draws = np.random.default_rng((seed, 4)).multinomial(rows, np.full(rows, 1 / rows), resamples)
    weights = np.concatenate([np.ones((1, rows)), draws]).astype(np.float32)  # the first is the sample itself
    gains, counted = np.zeros(len(weights)), np.zeros(len(weights))
    for column in with_presence:
        known = targets[:, column] >= 0
        truth, of_known = targets[known, column] == 1, weights[:, known]
        gain = resampled_ap(new[known, column], truth, of_known) - resampled_ap(old[known, column], truth, of_known)
        counted += np.isfinite(gain)
        gains += np.nan_to_num(gain)
    f1 = _resampled_f1(active(new, threshold), targets, weights) - _resampled_f1(
        active(old, old_threshold), targets, weights
    )
    maps = np.where(counted > 0, gains / np.maximum(counted, 1), np.nan)
    return {"map": _interval(maps), "micro_f1": _interval(f1)}


def resampled_ap(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision (B,) of scores (n,) on truth (n,) bool, under each of B rows of weights (B, n); NaN undefined.

    With weights of 1 it is scikit-learn's: equal scores count as one step.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    weights = weights[:, order]
    said = np.cumsum(weights, 1)[:, ends]
    hits = np.cumsum(weights * truth[order], 1)[:, ends]
    gained = np.diff(hits, axis=1, prepend=0)
    total = hits[:, -1]
    mean = (gained * (hits / np.maximum(said, 1))).sum(1) / np.maximum(total, 1)
    return np.where(total > 0, mean, np.nan)


def _resampled_f1(predicted: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Micro F1 (B,) of bool predictions (N, L) under weights (B, N); NaN where nothing is said and nothing is there."""
    hits = weights @ (predicted & (targets == 1)).sum(1)
    errors = weights @ ((predicted & (targets == 0)) | (~predicted & (targets == 1))).sum(1)
    return np.where(hits + errors > 0, 2 * hits / np.maximum(2 * hits + errors, 1), np.nan)


def _interval(values: np.ndarray) -> dict[str, float] | None:
    """The first value, and the middle 95 % of the others, widened to hold it: copies tie, which can shift an AP."""
    if not np.isfinite(values[0]):
        return None
    low, high = np.nanquantile(values[1:], (0.025, 0.975))
    value = float(values[0])
    return {"value": value, "low": min(float(low), value), "high": max(float(high), value)}


def verdict(comparison: dict[str, Any]) -> str:
    """better, same, worse or unmeasured, by the difference in mAP, or in micro F1 where no AP is defined.

    better: the whole interval is above zero. worse: it fell by more than a point, whatever the interval, or micro
    F1 fell by more than a point for sure. Out of fold, where a label has a presence or two and the judged heads are
    not the one that is saved, a fall in mAP that may be chance is not held against a model whose micro F1 rose.
    unmeasured: fewer than `JUDGED_FROM` images.
    """
    change, f1 = comparison["difference"]["map"], comparison["difference"]["micro_f1"]
    change = change or f1
    if comparison["images"] < JUDGED_FROM or change is None:
        return "unmeasured"
    fell = change["value"] < -WORSE_BY
    if fell and comparison["by"] == "folds":
        fell = change["high"] < 0 or f1 is None or f1["value"] <= 0
    if fell or (f1 is not None and f1["high"] < -WORSE_BY):
        return "worse"
    return "better" if change["low"] > 0 else "same"


def summary(comparison: dict[str, Any]) -> Message:
    """The verdict as a sentence with its figures."""
    said = {
        "better": Message("The new model is better than the one before"),
        "same": Message("There is no clear difference between the new model and the one before"),
        "worse": Message("The new model came out worse than the one before, so it is not offered"),
        "unmeasured": Message("There are too few decided images to tell whether the new model is better"),
    }[verdict(comparison)]
    on = Message.many(comparison["images"], "{count} held-out image", "{count} held-out images")
    if comparison["by"] == "folds":
        on = Message.many(
            comparison["images"],
            "{count} image, each scored by a model that did not see it",
            "{count} images, each scored by a model that did not see it",
        )
    key = "map" if comparison["difference"]["map"] else "micro_f1"
    change, title = comparison["difference"][key], {"map": "mAP", "micro_f1": Message("micro F1")}[key]
    if change is None:
        return Message("{verdict}: no label is decided on {images}.", verdict=said, images=on)
    return Message(
        "{verdict}: {figure} {before} before, {after} after, {change} points (95 % interval {low} to {high}) "
        "on {images}.",
        verdict=said,
        figure=title,
        before=f"{comparison['old'][key]:.3f}",
        after=f"{comparison['new'][key]:.3f}",
        change=f"{100 * change['value']:+.1f}",
        low=f"{100 * change['low']:+.1f}",
        high=f"{100 * change['high']:+.1f}",
        images=on,
    )


def warnings(comparison: dict[str, Any]) -> list[Message]:
    """What in a comparison should make a person look twice."""
    found = []
    if comparison.get("old_is_silent"):  # which earlier versions did not write
        found.append(
            Message("The model before lacks the labels that are compared, and counts as one that never names them.")
        )
    for key, title in (("map", "mAP"), ("micro_f1", Message("Micro F1"))):
        change = comparison["difference"][key]
        if change and change["value"] < -WORSE_BY:
            fall = f"{-100 * change['value']:.1f}"
            found.append(Message("{figure} fell by {fall} points.", figure=title, fall=fall))
    share = comparison["flipped"]["share"]
    if share is not None and share > 0.01:
        found.append(
            Message(
                "{share} % of the decisions that nobody had corrected came out otherwise.", share=f"{100 * share:.1f}"
            )
        )
    return found
