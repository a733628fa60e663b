"""Losses on partly known targets, and the checks that keep a strange loss from being believed.

A batch carries `targets` (B, L), values in [0, 1], and `known` (B, L), true where a person decided; an
unknown cell is soft (its target is the frozen old model's probability) or teaches nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from demo.errors import BadInput, TargetsError

ENOUGH_TO_TELL = 10


def check_targets(logits: torch.Tensor, targets: torch.Tensor) -> None:
    """Raise TargetsError for integer targets, another shape than the logits', NaN, or values outside [0, 1]."""
    if not targets.is_floating_point():
        raise TargetsError(
            f"Targets are {targets.dtype}.",
            "Multi-label targets are multi-hot floats, one per logit, not class numbers.",
            "Use targets.float().",
        )
    if targets.shape != logits.shape:
        raise TargetsError(
            f"Targets have the shape {tuple(targets.shape)}, logits {tuple(logits.shape)}.",
            "Each logit needs one target.",
            "Check that the CSV's vocabulary is the model's.",
        )
    if not torch.isfinite(targets).all():
        raise TargetsError("A target is NaN or infinite.", next_step="Check the rows that the targets came from.")
    if targets.numel() and (targets.min() < 0 or targets.max() > 1):
        raise TargetsError(
            f"Targets run from {targets.min():.3g} to {targets.max():.3g}.",
            "Outside [0, 1] the loss can turn negative.",
            "Mask unknown cells before the loss; 1 is present, 0 absent.",
        )


def check_finite(logits: torch.Tensor) -> None:
    """Raise TargetsError for NaN and infinity."""
    if not torch.isfinite(logits).all():
        raise TargetsError("A logit is NaN or infinite.", next_step="Lower the learning rate or check the weights.")


def check_logits(logits: torch.Tensor) -> None:
    """Raise TargetsError for NaN, and for logits (N, L) that look like a sigmoid's or softmax's output.

    Few labels can lie in [0, 1] by chance: that is held against a model from `ENOUGH_TO_TELL` labels on.
    """
    check_finite(logits)
    if logits.shape[-1] >= ENOUGH_TO_TELL and logits.min() >= 0 and logits.max() <= 1 and logits.std() > 1e-6:
        raise TargetsError(
            "Every output of the model lies in [0, 1].",
            "They look like scores that already went through a sigmoid or softmax; the loss applies its own.",
            "Take the activation out of the model's head.",
        )


def known_cell_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    known: torch.Tensor,
    soft: torch.Tensor | None = None,
    *,
    kind: str = "bce",
    soft_weight: float = 0.0,
    counts: tuple[float, float] | None = None,
    weight: torch.Tensor | None = None,
    pos_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean loss over `known` cells plus `soft_weight` times the mean soft BCE over `soft` ones.

    logits, targets: (B, L) floats. known, soft: (B, L) bool; a cell in neither teaches nothing. kind: "bce" or
    "asl", of the known cells. Two means, so that five decided labels among ten thousand are not drowned by the
    rest. weight, pos_weight: (L,) from 0, of a label's known cells and of the positive share of their targets;
    with every cell known the loss is then `torch.nn.BCEWithLogitsLoss(weight, pos_weight)`. counts: of known and of
    soft cells, to divide by; by default those here, but a batch that several processes share has more.
    In fp32: ASL overflows in fp16. Raises TargetsError as `check_targets` does.
    """
    logits = logits.float()
    check_targets(logits, targets)
    every = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if kind == "asl":
        hard = asymmetric(logits, targets, pos_weight=pos_weight)
    elif pos_weight is not None:
        hard = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=pos_weight, reduction="none")
    else:
        hard = every
    if weight is not None:
        hard = hard * weight
    if counts is None:
        counts = float(known.sum()), 0.0 if soft is None else float(soft.sum())
    loss = (hard * known).sum() / (counts[0] or 1)
    if soft is not None and soft_weight > 0:
        loss = loss + soft_weight * (every * soft).sum() / (counts[1] or 1)
    return loss


def label_weights(given: str | None, names: Sequence[str]) -> torch.Tensor | None:
    """Weights (L,) float32 for the labels `names`: a number for all of them, or a JSON file `{label: number}`.

    Labels that the file leaves out weigh 1; None gives None. Raises BadInput.
    """
    if given is None:
        return None
    try:
        weights = dict.fromkeys(names, float(given))
    except ValueError:
        weights = _read_weights(Path(given), names)
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise BadInput(f"The weight of {name!r} is {weight!r}.", next_step="Weights are finite numbers from 0.")
    return torch.tensor([float(weights.get(name, 1)) for name in names])


def _read_weights(path: Path, names: Sequence[str]) -> dict[str, object]:
    try:
        weights = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        what = f"The weights {str(path)!r} are neither a number nor a file that can be read as JSON."
        raise BadInput(what, f"{error}.", 'Write {"label": 2.5}.') from error
    if not isinstance(weights, dict):
        raise BadInput(f"{path} is not a JSON object.", next_step='Write {"label": 2.5}.')
    if unknown := [name for name in weights if name not in set(names)]:
        raise BadInput(f"{path} weighs {unknown[0]!r}, which is not a label here.", next_step="Check the spelling.")
    return weights


def asymmetric(
    logits: torch.Tensor,
    targets: torch.Tensor,
    gamma: float = 4.0,
    clip: float = 0.05,
    pos_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Asymmetric loss per cell: easy negatives weigh little, negatives under `clip` nothing.

    Source: Ridnik et al., "Asymmetric Loss for Multi-Label Classification", ICCV 2021, with gamma+ = 0.
    """
    present = torch.sigmoid(logits)
    absent = (1 - present + clip).clamp(max=1)
    positive = targets * F.logsigmoid(logits) * (1 if pos_weight is None else pos_weight)
    negative = (1 - targets) * absent.clamp(min=1e-8).log() * (1 - absent).pow(gamma)
    return -(positive + negative)
