"""What a fine-tune came to: its thresholds, its `metrics.json`, the cells of the CSV that look wrong.

`metrics` are figures of the saved model on the held-out rows, as `demo.evaluate` gives them again. The verdict goes
by `comparison`, where on few images every one is judged by a head that did not see it (`demo.folds`).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from demo import suspects
from demo.checkpoint import Checkpoint
from demo.comparison import (
    FOLDS_BELOW,
    JUDGED_FROM,
    Judged,
    are_enough,
    can_tell,
    choose_thresholds,
    compare,
    summary,
    verdict,
    warnings,
)
from demo.evaluate import Photos, evaluation
from demo.labels import LabelSet
from demo.metrics import report
from demo.thresholds import active, sweep

SHOWN_SUSPECTS, SHOWN_PHOTOS, SHOWN_CELLS = 200, 20, 5


@dataclass(frozen=True)
class Scores:
    """Scores in [0, 1] of all N photos, and of those that the saved model is measured on.

    split: "valid", or "train" where nothing is held out. measured: the saved model's, of that split's rows. unseen:
    (N, L) by a model that did not see the row, NaN where there is none. old: (N, L) of the model before, NaN in the
    columns of labels that it does not have.
    """

    split: str
    measured: np.ndarray
    unseen: np.ndarray
    old: np.ndarray


def judge(photos: Photos, scores: Scores, old_threshold: float) -> tuple[np.ndarray, Judged]:
    """Bool (N,), the rows that are judged, and what both models said of them."""
    chosen, by = judged_rows(photos, scores)
    return chosen, Judged(scores.unseen[chosen], scores.old[chosen], photos.targets[chosen], old_threshold, by)


def measure(
    new: Checkpoint,
    old: Checkpoint,
    photos: Photos,
    scores: Scores,
    learned: Scores,
    flags: argparse.Namespace,
    backbone_moved: bool = False,
) -> Checkpoint:
    """The checkpoint with its thresholds and its `metrics.json`.

    scores: what is kept of the fine-tune said. learned: what all of it said, which tells wrong labels best.
    """
    names = new.labels.names
    chosen, judged = judge(photos, scores, old.threshold)
    threshold, tuned, notes = choose_thresholds(judged, new.labels.thresholds, flags.target_precision)
    rows = photos.is_valid if scores.split == "valid" else ~photos.is_valid
    result: dict[str, Any] = evaluation(
        new, Path(flags.csv).name, scores.split, scores.measured, photos.targets[rows], threshold
    )
    figures_of_old = dict.fromkeys(result["metrics"])
    if scores.split == "valid":
        of_old = np.nan_to_num(scores.old[rows])
        figures_of_old = report(of_old, photos.targets[rows], names, old.threshold)["metrics"]
    if backbone_moved and judged.by == "folds":
        notes.append(
            "The images that were trained on are judged by heads on the backbone before it moved, not by the model "
            f"that is saved. Hold out {JUDGED_FROM} images (is_valid) of at least {FOLDS_BELOW} to have that judged."
        )
    comparison = compare(judged, threshold, names, flags.seed)
    found = find_suspects(photos, learned, names)
    telling = judged.telling_targets()
    result |= {
        "curve": sweep(judged.new, telling).to_dict() if can_tell(telling) else None,
        "old_model": figures_of_old,
        "verdict": verdict(comparison),
        "summary": summary(comparison),
        "warnings": notes + warnings(comparison) + [line for line in [suspicion(found, photos)] if line],
        "comparison": comparison,
        "worst": worst_photos(photos.where(chosen), judged, names, threshold),
        "suspects": {"found": len(found), "cells": found[:SHOWN_SUSPECTS]},
        "trained_images": int((~photos.is_valid).sum()),
    }
    own = tuple(tuned) if any(value is not None for value in tuned) else ()
    labels = LabelSet(names, new.labels.categories, own)
    return replace(new, labels=labels, metrics=result)


def judged_rows(photos: Photos, scores: Scores) -> tuple[np.ndarray, str]:
    """Bool (N,): the held-out rows, or on few images all that some model did not see; and how they were scored."""
    is_scored = np.isfinite(scores.unseen).all(1)
    rows = photos.is_valid if are_enough(photos.targets, photos.is_valid) else is_scored
    return rows, "folds" if (rows & ~photos.is_valid).any() else "valid"


def worst_photos(photos: Photos, judged: Judged, names: tuple[str, ...], threshold: float) -> list[dict[str, Any]]:
    """`{"file_name", "loss", "missed", "wrong"}` of photos with wrong decisions, by mean BCE of their decided cells.

    missed and wrong: `{"label", "score"}` of presences that were not found, and of absences that were.
    """
    known, present = judged.targets >= 0, judged.targets == 1
    right = np.clip(np.where(present, judged.new, 1 - judged.new), 1e-6, 1)
    loss = np.where(known, -np.log(right), 0).sum(1) / np.maximum(known.sum(1), 1)
    said = active(judged.new, threshold)
    missed, wrong = present & ~said, (judged.targets == 0) & said

    def worst_first(row: int, cells: np.ndarray) -> list[dict[str, Any]]:
        columns = sorted(np.flatnonzero(cells[row]), key=lambda column: right[row, column])[:SHOWN_CELLS]
        return [{"label": names[column], "score": round(float(judged.new[row, column]), 4)} for column in columns]

    rows = [row for row in np.argsort(-loss, kind="stable") if (missed | wrong)[row].any()]
    return [
        {
            "file_name": photos.file_names[row],
            "loss": round(float(loss[row]), 4),
            "missed": worst_first(row, missed),
            "wrong": worst_first(row, wrong),
        }
        for row in rows[:SHOWN_PHOTOS]
    ]


def find_suspects(photos: Photos, scores: Scores, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """`{"file_name", "label", "said", "score", "held_out"}` of each cell that looks wrong, worst first."""
    rows = np.flatnonzero(np.isfinite(scores.unseen).all(1))
    return [
        {
            "file_name": photos.file_names[rows[cell.row]],
            "label": names[cell.column],
            "said": "present" if cell.present else "absent",
            "score": round(cell.score, 4),
            "held_out": bool(photos.is_valid[rows[cell.row]]),
        }
        for cell in suspects.find(scores.unseen[rows], photos.targets[rows])
    ]


def suspicion(found: list[dict[str, Any]], photos: Photos) -> str:
    """A warning that counts the suspects, or ''."""
    if not found:
        return ""
    share = 100 * len(found) / max(int((photos.targets >= 0).sum()), 1)
    first = "; ".join(f"{cell['file_name']}: {cell['label']!r} said {cell['said']}" for cell in found[:3])
    return f"{len(found)} decided cells ({share:.1f} %) look wrong, the likeliest first: {first}."
