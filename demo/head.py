"""Surgery on a checkpoint's head: new labels as rows, or a new vocabulary that starts from old rows.

The head is the last linear layer. Rows that stay are bit-identical afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from demo.checkpoint import Checkpoint
from demo.dataset import UNUSED, Cells
from demo.errors import BadInput, CheckpointError
from demo.labels import LabelSet
from demo.rows import lost_in_utf8

BIAS_OF_NOTHING = -5.0
"""Bias of a label that no cell teaches: a score under one percent."""

Origins = dict[str, list[str]]
"""Label → the old labels that it starts from; an empty list starts it fresh."""


def added_labels(checkpoint: Checkpoint, new: Sequence[str]) -> Origins:
    """The origins of a vocabulary that keeps every old label and appends `new` ones, fresh."""
    return {name: [name] for name in checkpoint.labels.names} | {name: [] for name in new}


def linear_head(checkpoint: Checkpoint) -> torch.nn.Linear:
    """The last layer; raises CheckpointError where it is anything but one linear layer."""
    layer = checkpoint.model.get_classifier()
    if not isinstance(layer, torch.nn.Linear):
        raise CheckpointError(
            f"The head of {checkpoint.ref} is a {type(layer).__name__}.",
            "Only one linear layer can be fine-tuned here.",
        )
    return layer


def check_origins(checkpoint: Checkpoint, origins: object) -> Origins:
    """A `--labels` map as it must be, or BadInput: label → list of labels that the checkpoint has."""
    if not isinstance(origins, dict) or not origins:
        raise BadInput(
            "The label map is no JSON object with labels in it.", next_step='Write {"label": ["old label"]}.'
        )
    for label, old in origins.items():
        if not label or not isinstance(old, list) or not all(isinstance(name, str) for name in old):
            raise BadInput(f"The label map's entry {label!r} is not a list of old labels.")
        if lost := lost_in_utf8([label]):
            raise BadInput(f"The label map's entry {lost}.", next_step="Rename it.")
        if len(set(old)) < len(old):
            raise BadInput(f"The label map starts {label!r} twice from the same old label.")
        missing = [name for name in old if name not in checkpoint.labels.positions]
        if missing:
            raise BadInput(
                f"The label map starts {label!r} from {missing[0]!r}, which {checkpoint.ref} does not have.",
                next_step="Use the checkpoint's own label names, or [] for a fresh start.",
            )
    return origins


def with_vocabulary(checkpoint: Checkpoint, origins: Origins) -> Checkpoint:
    """The checkpoint with one head row per key of `origins`: the mean of the old labels' rows, zero where fresh.

    Changes the model in place. A label with itself as only origin keeps its row, category and threshold.
    """
    model, labels, old = checkpoint.model, checkpoint.labels, linear_head(checkpoint)
    names = tuple(origins)
    weight = torch.zeros(len(names), old.in_features)
    bias = torch.zeros(len(names))
    for row, sources in enumerate(origins.values()):
        if sources:
            rows = [labels.positions[name] for name in sources]
            weight[row] = old.weight[rows[0]] if len(rows) == 1 else old.weight[rows].mean(0)
            if old.bias is not None:
                bias[row] = old.bias[rows[0]] if len(rows) == 1 else old.bias[rows].mean()
    head = torch.nn.Linear(old.in_features, len(names))
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    key = next(name for name, module in model.named_modules() if module is old)
    model.set_submodule(key, head)
    model.num_classes = len(names)
    kept = {name: labels.positions[name] for name, sources in origins.items() if sources == [name]}
    categories = (
        tuple(labels.categories[kept[name]] if name in kept else "" for name in names) if labels.categories else ()
    )
    thresholds = (
        tuple(labels.thresholds[kept[name]] if name in kept else None for name in names) if labels.thresholds else ()
    )
    return replace(checkpoint, labels=LabelSet(names, categories, thresholds), single_label=False)


def teacher_scores(scores: np.ndarray, checkpoint: Checkpoint, origins: Origins) -> np.ndarray:
    """What the old model says of the new vocabulary: (N, len(origins)) float32, NaN for fresh labels.

    scores: (N, old labels) of the old model, which has its old head still. A label that joins several takes their
    sum where the head was a softmax (they exclude each other), else their maximum. Rows of zeros say nothing: their
    labels wait for their first corrections, and are as fresh as those that the model lacks.
    """
    join = np.sum if checkpoint.single_label else np.max
    positions, taught = checkpoint.labels.positions, linear_head(checkpoint).weight.any(1).tolist()
    heard = [[positions[name] for name in old if taught[positions[name]]] for old in origins.values()]
    columns = [join(scores[:, rows], axis=1) if rows else np.full(len(scores), np.nan) for rows in heard]
    return np.clip(np.stack(columns, axis=1), 0, 1).astype(np.float32)


def calibrate_bias(head: torch.nn.Linear, features: torch.Tensor, cells: Cells, rows: Sequence[int]) -> None:
    """Move the biases of `rows` so that each label's mean score over the cells that teach is their mean target.

    features: (N, D) of the N rows of `cells`. Rows that come from a softmax, or from nowhere, have no bias that
    means anything to a sigmoid. Average precision does not change: the order of scores stays. By bisection.
    """
    rows = torch.tensor(rows, dtype=torch.long)
    values, used = torch.from_numpy(cells.values)[:, rows], torch.from_numpy(cells.kind)[:, rows] != UNUSED
    with torch.no_grad():
        logits = features @ head.weight[rows].T
        count = used.sum(0)
        # as if one photo more had half of every label: a label never seen is rare, not impossible
        wanted = ((values * used).sum(0) + 0.5) / (count + 1)
        low, high = torch.full_like(wanted, -60.0), torch.full_like(wanted, 60.0)
        for _ in range(40):
            middle = (low + high) / 2
            mean = ((logits + middle).sigmoid() * used).sum(0) / count.clamp(min=1)
            low, high = torch.where(mean < wanted, middle, low), torch.where(mean < wanted, high, middle)
        head.bias[rows] = torch.where(count > 0, (low + high) / 2, torch.tensor(BIAS_OF_NOTHING))
