"""Cells of a CSV that look wrong: what was said against scores of a model that did not see it.

The idea is confident learning's (Northcutt, Jiang and Chuang, JAIR 2021), cell by cell: a label given as absent is
suspect where its score is at least what the label's presences get on average, one given as present where it is at
most what its absences get, and where the score makes the opposite likelier than not. Pure functions of scores and
targets. Finds neither a label that is wrong wherever it was given nor what looks right to the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from demo.thresholds import check_scores

MIN_PRESENCES = 4
"""Under this many presences a label is hardly learned without the row in question, and its scores say little."""

PRIOR = 2.0
"""How many cells the average over all labels counts for beside a label's own."""


@dataclass(frozen=True)
class Suspect:
    """Row and column of a cell, whether it was given as present, the score in [0, 1] that contradicts it."""

    row: int
    column: int
    present: bool
    score: float


def find(scores: np.ndarray, targets: np.ndarray) -> list[Suspect]:
    """Suspects, the least credible first. scores (N, L) out of fold or held out, targets (N, L) of 1, 0, -1."""
    scores, targets = check_scores(scores, targets)
    presences, absences = targets == 1, targets == 0
    if not presences.any() or not absences.any():
        return []
    typical = {}
    for value, cells in ((1, presences), (0, absences)):
        own, count = np.where(cells, scores, 0).sum(0), cells.sum(0)
        typical[value] = (own + PRIOR * scores[cells].mean()) / (count + PRIOR)
    # a label whose presences score no higher than its absences tells nothing about any cell
    telling = (presences.sum(0) >= MIN_PRESENCES) & (typical[1] > typical[0])
    seems_there = scores >= np.maximum(typical[1], 0.5)
    seems_absent = scores <= np.minimum(typical[0], 0.5)
    wrong = telling & ((absences & seems_there) | (presences & seems_absent))
    rows, columns = np.nonzero(wrong)
    doubt = np.where(presences, 1 - scores, scores)[rows, columns]
    order = np.argsort(-doubt, kind="stable")
    return [
        Suspect(int(row), int(column), bool(presences[row, column]), float(scores[row, column]))
        for row, column in zip(rows[order], columns[order], strict=True)
    ]
