"""What a fine-tune will do: flags and a CSV become photos, a vocabulary, a model to start from and a recipe.

Reads everything that can be wrong before anything is trained. Writes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from demo import head, images, tables
from demo.checkpoint import Checkpoint, load_checkpoint, with_input
from demo.comparison import are_enough
from demo.errors import BadInput, TableError
from demo.evaluate import Photos, hashes, photos_of
from demo.losses import label_weights
from demo.training import LR_BACKBONE, Recipe

HEAD_ONLY_BELOW, NORMS_BELOW = 100, 500
"""The ladder of `--train auto`: images under which only the head, only head, norms and biases move. Where too few are
held out, the head alone does: what moves besides it could not be measured on images that it did not see."""

EPOCHS = 8
REPLAYED_PER_PHOTO = 4
"""Replayed images to each corrected one at most: more would only dilute what people said."""


@dataclass(frozen=True)
class Plan:
    """base: the model to start from, on the new input size; old: the same, as the person had it.

    replayed: images without labels on which the old model's scores are to stay; no copy of a photo of the CSV.
    digests: sha256 of the photos and then of the replayed images.
    """

    base: Checkpoint
    old: Checkpoint
    origins: head.Origins
    photos: Photos
    recipe: Recipe
    replayed: list[Path]
    digests: np.ndarray

    @property
    def is_learned(self) -> np.ndarray:
        """Bool, of the photos and then the replayed images: which are trained on."""
        return np.concatenate([~self.photos.is_valid, np.ones(len(self.replayed), bool)])

    @cached_property
    def training(self) -> Photos:
        """The photos that are trained on: the CSV's in its order, then the replayed ones, all their cells unknown."""
        own, more = self.photos.where(~self.photos.is_valid), len(self.replayed)
        return Photos(
            own.paths + self.replayed,
            own.file_names + [path.name for path in self.replayed],
            np.concatenate([own.targets, np.full((more, own.targets.shape[1]), -1, np.float32)]),
            np.zeros(len(own) + more, bool),
        )


def make_plan(flags: argparse.Namespace, rows: list[tables.Merged], device: str) -> Plan:
    """Raises BadInput, CheckpointError or HubError, with what to change."""
    base = old = load_checkpoint(flags.model)
    head.linear_head(base)
    rows = tables.respelled(rows, base.labels.names)
    origins = _origins(flags, base, rows)
    if flags.image_size or flags.crop_mode:
        base = with_input(load_checkpoint(flags.model), flags.image_size, flags.crop_mode)
    photos = photos_of(rows, Path(flags.csv), list(origins), base.labels.names, origins)
    if not (photos.targets[~photos.is_valid] >= 0).any():
        raise TableError(
            f"{flags.csv} decides no cell of the {len(origins)} labels in a row that may be trained on.",
            "All its rows are held out (is_valid) or name other labels." if len(photos) else "",
            "Save more corrections: about one in five is held out.",
        )
    recipe = _recipe(flags, photos, tuple(origins), device)
    digests = hashes(photos.paths)
    replayed = _replayed(photos, digests, flags) if flags.replay else {}
    return Plan(base, old, origins, photos, recipe, list(replayed.values()), np.array([*digests, *replayed]))


def _origins(flags: argparse.Namespace, base: Checkpoint, rows: list[tables.Merged]) -> head.Origins:
    """The new vocabulary: the map's, or the old labels; then the CSV's own labels, as --new-labels says."""
    if flags.labels:
        try:
            given = json.loads(Path(flags.labels).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(f"{flags.labels} cannot be read as JSON.", f"{error}.") from error
        origins = head.check_origins(base, given)
    else:
        origins = head.added_labels(base, [])
    renamed = {name for old in origins.values() for name in old}
    new = [name for name in tables.labels_in(rows) if name not in origins and name not in renamed]
    if new and flags.new_labels == "error":
        raise TableError(
            f"{flags.csv} has {len(new)} labels that the vocabulary lacks: {', '.join(new[:10])}.",
            next_step="Correct the spelling, or let --new-labels add or skip them.",
        )
    if new:
        done = "adding" if flags.new_labels == "add" else "skipping"
        print(f"note: {done} {len(new)} labels that the vocabulary lacks: {', '.join(new[:10])}", file=sys.stderr)
    if flags.new_labels == "skip":
        return origins
    return origins | {name: [name] if name in base.labels.positions else [] for name in new}


def _recipe(flags: argparse.Namespace, photos: Photos, names: Sequence[str], device: str) -> Recipe:
    train, count = flags.train, int((~photos.is_valid).sum())
    if train == "auto":
        is_measured = are_enough(photos.targets, photos.is_valid)
        train = "head" if count < HEAD_ONLY_BELOW or not is_measured else "norm" if count < NORMS_BELOW else "full"
    epochs = EPOCHS if flags.epochs is None else flags.epochs
    return Recipe(
        train=train,
        loss=flags.loss,
        epochs=0 if train == "head" else epochs,
        head_epochs=flags.head_epochs,
        batch_size=flags.batch_size,
        lr_head=flags.lr_head,
        lr_backbone=LR_BACKBONE.get(train, 0.0) if flags.lr_backbone is None else flags.lr_backbone,
        distill_weight=flags.distill_weight,
        mosaic=flags.mosaic,
        min_crop=flags.min_crop,
        flip=flags.flip,
        balance=flags.balance,
        workers=flags.workers,
        seed=flags.seed,
        device=device,
        weight=label_weights(flags.weight, names),
        pos_weight=label_weights(flags.pos_weight, names),
    )


def _replayed(photos: Photos, digests: list[str], flags: argparse.Namespace) -> dict[str, Path]:
    """Images of `--replay` by sha256, drawn by the seed, that are no copies of photos of the CSV."""
    if flags.unknown != "distill":
        why = "Nobody decided anything on replayed images: only the old model's scores can be learned from them."
        raise BadInput(f"--replay {flags.replay} goes with --unknown distill alone.", why)
    if not Path(flags.replay).is_dir():
        raise BadInput(f"--replay {flags.replay} is not a folder.", next_step="Name a folder that holds images.")
    found = images.find_images([Path(flags.replay)])
    known, most, picked = set(digests), REPLAYED_PER_PHOTO * int((~photos.is_valid).sum()), {}
    for number in np.random.default_rng((flags.seed, 5)).permutation(len(found)):
        (digest,) = hashes([found[number]])
        if digest not in known:
            picked.setdefault(digest, found[number])
        if len(picked) == most:
            break
    if not picked:
        raise BadInput(f"--replay {flags.replay} holds no image that the CSV does not name.")
    print(f"note: {len(picked)} of {len(found)} images of {flags.replay} are replayed", file=sys.stderr)
    return picked
