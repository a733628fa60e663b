"""What several benchmarks start from: features, computed once, of a frozen backbone, and what its head says."""

from __future__ import annotations

import argparse
import copy
import io
import json
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr
from csv import DictWriter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from demo import head, tables
from demo.checkpoint import Checkpoint, load_checkpoint
from demo.dataset import Cells, PlainPhotos, loader
from demo.evaluate import Photos, photos_of, read_rows
from demo.finetune import threads_for
from demo.progress import Progress
from demo.rows import to_list_cell
from demo.training import Recipe, predict, train_head


@dataclass(frozen=True)
class Frozen:
    """N photos of a CSV. features: (N, D). teacher: (N, L), NaN for fresh labels. start: with the L labels' head."""

    photos: Photos
    origins: head.Origins
    features: torch.Tensor
    teacher: np.ndarray
    start: Checkpoint


def arguments(doc: str) -> argparse.ArgumentParser:
    """`--csv`, `--model`, `--labels`, under a docstring's first line."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--csv", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--labels", help="a new vocabulary, as demo.finetune takes it")
    return parser


def read(csv: Path, model: str, labels: str | None) -> tuple[Photos, Checkpoint, head.Origins]:
    """The photos of a CSV and a checkpoint, with the labels of a map, or else the checkpoint's and the CSV's."""
    rows, base = read_rows(csv), load_checkpoint(model)
    origins = head.added_labels(base, tables.labels_in(rows))
    if labels:
        origins = head.check_origins(base, json.loads(Path(labels).read_text()))
    return photos_of(rows, csv, list(origins), base.labels.names), base, origins


def write_csv(path: Path, photos: Photos, names: Sequence[str]) -> None:
    """A corrections CSV of photos that decide some of the labels `names`, and of no others."""
    with path.open("w", newline="") as file:
        writer = DictWriter(file, ("file_name", "labels", "rejected", "reviewed", "is_valid"))
        writer.writeheader()
        for image, cells, held_out in zip(photos.paths, photos.targets, photos.is_valid, strict=True):
            labels, rejected = (
                to_list_cell([name for name, cell in zip(names, cells, strict=True) if cell == value])
                for value in (1, 0)
            )
            said = {"labels": labels, "rejected": rejected, "reviewed": "listed", "is_valid": bool(held_out)}
            writer.writerow({"file_name": image, **said})


def freeze(photos: Photos, base: Checkpoint, origins: head.Origins, views: int = 1) -> Frozen:
    """views: how many of `demo.dataset.views` the teacher looks at; features are of the whole photo."""
    pixels = loader(PlainPhotos(photos.paths, base.preprocess, views), 32, 2)
    features, logits = predict(base.model, pixels, "cpu", lambda _: None, lambda: None)
    scores = (logits.softmax(-1) if base.single_label else logits.sigmoid()).unflatten(0, (-1, views)).mean(1)
    teacher = head.teacher_scores(scores.numpy(), base, origins)
    features = features.unflatten(0, (-1, views))[:, 0]
    return Frozen(photos, origins, features, teacher, head.with_vocabulary(base, origins))


def recipe(loss: str, seed: int) -> Recipe:
    return Recipe(
        train="head", loss=loss, epochs=0, head_epochs=30, batch_size=32, lr_head=1e-3, lr_backbone=0,
        distill_weight=0.3, mosaic=0, min_crop=1, balance=0, workers=0, seed=seed, device="cpu",
    )  # fmt: skip


def trained(
    linear: torch.nn.Linear, features: torch.Tensor, targets: np.ndarray, taught: np.ndarray, how: Recipe, unknown: str
) -> torch.nn.Linear:
    """A copy of a head, trained on features (N, D), targets (N, L) and a teacher's scores (N, L); says nothing."""
    linear, cells = copy.deepcopy(linear), Cells.build(targets, unknown, taught)
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()), threads_for(linear):
        train_head(linear, features, cells, how, Progress(Path(folder)), lambda: None)
    return linear


def first_head(frozen: Frozen, rows: np.ndarray, targets: np.ndarray, how: Recipe) -> torch.nn.Linear:
    """The start's head, calibrated and trained on `rows`; targets (len(rows), L)."""
    linear = copy.deepcopy(head.linear_head(frozen.start))
    features, taught = frozen.features[rows], frozen.teacher[rows]
    cells = Cells.build(targets, "distill", taught)
    head.calibrate_bias(linear, features, cells, range(len(frozen.origins)))
    return trained(linear, features, targets, taught, how, "distill")


def scores(linear: torch.nn.Linear, features: torch.Tensor) -> np.ndarray:
    """(N, L) float32 in [0, 1] of a head on features (N, D)."""
    with torch.inference_mode():
        return linear(features).sigmoid().numpy()
