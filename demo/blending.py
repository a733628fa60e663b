"""How much of a fine-tune is kept: weights between the start's and the trained ones.

Interpolating them gains most of the new skill and keeps the old one (Wortsman et al., "Robust fine-tuning of zero-shot
models", CVPR 2022; Ilharco et al., "Patching open-vocabulary models by interpolating weights", NeurIPS 2022). The
share of the trained weights is chosen on images that none of them learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from demo.comparison import JUDGED_FROM, Judged, choose_thresholds, flipped
from demo.metrics import average_precisions

SHARES = (1.0, 0.75, 0.5)
"""Shares of the trained weights that are tried; the first is what is kept where nothing can be measured. None is
under a half: what people said is to be seen in the model, and a model that is worse at a half is not offered."""

MOST_FLIPPED = 0.02
"""Bound on drift: of the decisions on cells that nobody decided, this share at most may come out otherwise."""

TOLERANCE = 0.002
"""mAP that is given up for learning more of what people said: differences below it are noise on any small set."""


def blend(
    model: torch.nn.Module,
    start: Mapping[str, torch.Tensor],
    trained: Mapping[str, torch.Tensor],
    share: float,
    half: bool,
) -> None:
    """Give a model `share` of the trained weights and the rest of the start's, in place.

    half: rounded to what fp16 will hold, so that figures are those of the file.
    """
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                mixed = torch.lerp(start[name], trained[name], share)
                tensor.copy_(mixed.half().float() if half else mixed)


def choose(tried: Mapping[float, Judged], kept: np.ndarray) -> tuple[float, list[dict[str, Any]]]:
    """The share to keep, and `{"share", "map", "flipped"}` of each one tried.

    tried: what the model of each share said of the same images. kept: bool (L,), the labels that mean what they
    meant to the old model; drift is counted on them alone. Of the shares within the bound on drift, or the one that
    drifts least where none is, the largest one whose mAP is within `TOLERANCE` of the highest.
    """
    rows = []
    for share, judged in tried.items():
        threshold = choose_thresholds(judged, (), None)[0]
        old = np.where(kept, judged.old, np.nan).astype(np.float32)
        changed, silent = flipped(replace(judged, old=old), threshold)
        defined = [value for value in average_precisions(judged.new, judged.targets) if value is not None]
        rows.append(
            {
                "share": share,
                "map": float(np.mean(defined)) if defined else None,
                "flipped": changed / silent if silent else 0.0,
            }
        )
    first = next(iter(tried.values()))
    measurable = [row for row in rows if row["map"] is not None]
    if first.decided < JUDGED_FROM or not measurable:
        return next(iter(tried)), rows
    steady = [row for row in measurable if row["flipped"] <= MOST_FLIPPED]
    steady = steady or [min(measurable, key=lambda row: row["flipped"])]
    best = max(row["map"] for row in steady)
    return max(row["share"] for row in steady if row["map"] >= best - TOLERANCE), rows
