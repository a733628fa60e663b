"""The bundled fine-tune script: `python -m demo.finetune --csv FILE --out DIR [--model REF]`.

Corrections in, a checkpoint out: a frozen-backbone phase on cached features, then (by the number of photos) the
norms or everything. Cells that nobody decided follow the old model (`--unknown distill`). The old model is
measured on the same held-out rows, and the verdict stands in `metrics.json`. `config.json` is written last, so
the out folder is a REF only when it is complete. An interrupted run goes on with `--resume`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save

from demo import card, dry_run, folds, head, report, tables
from demo.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, serialized, with_input
from demo.dataset import Cells, PlainPhotos, TrainingPhotos, loader, require_readable
from demo.durable import put
from demo.errors import EXIT_BAD_INPUT, EXIT_DONE, BadInput, DemoError, Interrupted, TableError, command
from demo.evaluate import Photos, hashes, merged, photos_of, read_rows, score_paths, show
from demo.losses import check_finite, check_logits
from demo.outcome import Scores, measure
from demo.progress import Progress
from demo.report import REPORT
from demo.run_folder import STATE, STATE_WEIGHTS, Stop, prepare
from demo.settings import parse_flags
from demo.tagger import Tagger, choose_device
from demo.training import BackboneTraining, Recipe, predict, train_head

HEAD_ONLY_BELOW, NORMS_BELOW = 100, 500
"""The ladder of `--train auto`: images under which only the head, only head, norms and biases move."""

EPOCHS = 8
SMALL_HEAD = 1_000_000
"""Weights of a head under which it is trained by one thread."""

VIEWS_OF_A_SOFTMAX_TEACHER = 5
"""A softmax head names one thing at a time, so as a teacher it looks at the quarters of a photo too."""


@command
def main(arguments: Sequence[str] | None = None) -> int:
    flags = parse_flags("finetune", arguments, description="Fine-tune a checkpoint on a CSV of corrections.")
    device = choose_device(flags.device)
    if flags.check:
        return _check(flags, device)
    base, old, origins, rows = _start(flags, read_rows(Path(flags.csv)))
    photos = photos_of(rows, Path(flags.csv), list(origins), base.labels.names)
    training = photos.where(~photos.is_valid)
    if not (training.targets >= 0).any():
        raise TableError(
            f"{flags.csv} decides no cell of the {len(origins)} labels in a row that may be trained on.",
            "All its rows are held out (is_valid) or name other labels." if len(photos) else "",
            "Save more corrections: about one in five is held out.",
        )
    require_readable(photos.paths)
    recipe = _recipe(flags, len(training), device)
    folder = Path(flags.out)
    fingerprint = prepare(folder, flags, base, origins, photos)
    held_out = len(photos) - len(training)
    print(f"note: {len(training)} images to train on, {held_out} held out; training: {recipe.train}", file=sys.stderr)
    progress = Progress(folder)
    try:
        with Stop(folder) as stop:
            metrics = fine_tune(base, old, origins, photos, recipe, flags, folder, progress, stop, fingerprint)
    except BaseException as error:
        message = str(error) if isinstance(error, DemoError) else f"{type(error).__name__}: {error}"
        progress.finish("interrupted" if isinstance(error, Interrupted) else "failed", message)
        if isinstance(error, OSError):
            raise BadInput(
                f"{folder} could not be written.", message, "Make room, then go on with --resume."
            ) from error
        raise
    progress.finish("done", metrics["summary"])
    for warning in metrics["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    compared = {"new model": "new", "old model": "old", "predict nothing": "predict_nothing"}
    print(show({title: metrics["comparison"][key] for title, key in compared.items()}))
    print(f"verdict: {metrics['verdict']}. {metrics['summary']}")
    print(f"{folder} is a REF now; {folder / REPORT} says how it went.")
    return EXIT_DONE


def fine_tune(
    base: Checkpoint,
    old: Checkpoint,
    origins: head.Origins,
    photos: Photos,
    recipe: Recipe,
    flags: argparse.Namespace,
    folder: Path,
    progress: Progress,
    stop: Stop,
    fingerprint: str,
) -> dict[str, Any]:
    """Train, measure, save; gives the metrics. `old` is the base at its own input size. Raises Interrupted."""
    torch.manual_seed(recipe.seed)
    is_trained = ~photos.is_valid
    training = photos.where(is_trained)
    views = VIEWS_OF_A_SOFTMAX_TEACHER if base.single_label else 1
    progress.phase("features", len(photos))
    pixels = loader(PlainPhotos(photos.paths, base.preprocess, views), recipe.batch_size, recipe.workers)
    features, logits = predict(base.model, pixels, recipe.device, progress.step, stop)
    base.model.cpu()
    check_finite(logits) if base.single_label else check_logits(logits)
    of_views = (logits.softmax(-1) if base.single_label else logits.sigmoid()).unflatten(0, (-1, views)).numpy()
    features = features.unflatten(0, (-1, views))[is_trained, 0]
    teacher = head.teacher_scores(of_views[is_trained].mean(1), base, origins)
    cells = Cells.build(training.targets, flags.unknown, teacher, flags.teacher_share)
    if old is base:
        old_scores = of_views[:, 0]
    else:
        old_scores = score_paths(Tagger(old, recipe.device), photos.paths, recipe.batch_size, "old model", stop)
    old_scores = head.teacher_scores(old_scores, base, origins)

    start = head.with_vocabulary(base, origins)
    linear = head.linear_head(start)
    moved = [start.labels.positions[name] for name, origin in origins.items() if base.single_label or len(origin) != 1]
    groups = np.array(hashes(photos.paths))
    if copies := len(set(groups[is_trained]) & set(groups[photos.is_valid])):
        print(f"note: {copies} held-out images are copies of training images, which flatters figures", file=sys.stderr)
    with _threads_for(linear):
        out_of_fold = folds.out_of_fold(
            linear, features, cells, training.targets, groups[is_trained], moved, flags.blend, recipe, progress, stop
        )
        head.calibrate_bias(linear, features, cells, moved)
        before = {name: tensor.clone() for name, tensor in start.model.state_dict().items()}
        train_head(linear, features, cells, recipe, progress, stop)
    model = start.model
    if recipe.epochs:
        augmented = TrainingPhotos(training.paths, cells, start.preprocess, recipe.seed, recipe.mosaic, recipe.min_crop)
        backbone = BackboneTraining(model, augmented, training.targets, recipe)
        if (folder / STATE_WEIGHTS).exists():
            backbone.restore(load_file(folder / STATE_WEIGHTS))
            told = json.loads((folder / STATE).read_text())["history"]
            progress.history[:] = [
                entry for entry in told if entry["phase"] == "head" or entry["epoch"] <= backbone.epoch
            ]

        def after_epoch() -> None:
            state = {"fingerprint": fingerprint, "epoch": backbone.epoch, "history": progress.history}
            put(folder / STATE, json.dumps(state).encode())
            put(folder / STATE_WEIGHTS, save(backbone.state()))

        backbone.run(progress, stop, after_epoch)
        model = backbone.ema.module.cpu()
    _blend(model, before, flags.blend, flags.half)
    weights = hashlib.sha256(serialized(model, flags.half)).hexdigest()
    name = folder.resolve().name
    new = replace(start, model=model.eval(), ref=str(folder), identity=f"local:{name}@{weights[:12]}")

    split = "valid" if (photos.targets[photos.is_valid] >= 0).any() else "train"
    measured = photos.is_valid if split == "valid" else is_trained
    scores = score_paths(Tagger(new, recipe.device), photos.where(measured).paths, recipe.batch_size, "new model", stop)
    model.cpu()
    unseen = np.full(photos.targets.shape, np.nan, np.float32)
    unseen[is_trained] = out_of_fold
    if split == "valid":
        unseen[measured] = scores
    new = measure(new, old, photos, Scores(split, scores, unseen, old_scores), flags)
    paths = dict(zip(photos.file_names, photos.paths, strict=True))
    put(folder / REPORT, report.page(new.metrics, progress.history, paths).encode(errors="replace"))
    save_checkpoint(folder, replace(new, card=card.text(new, base)), half=flags.half)
    for done in (STATE, STATE_WEIGHTS):
        (folder / done).unlink(missing_ok=True)
    return new.metrics


def _check(flags: argparse.Namespace, device: str) -> int:
    """The dry run of the same rows, flags and model."""
    csv = Path(flags.csv)
    table = tables.read_table(csv)
    rows = merged(table)
    good = dry_run.list_bad_rows(table.problems, rows)
    base, _, origins, good = _start(flags, good)
    photos = photos_of(good, csv, list(origins), base.labels.names)
    recipe = _recipe(flags, int((~photos.is_valid).sum()), device)
    dry_run.check(photos, base, origins, recipe, flags.unknown, Path(f"{flags.out}-check.png"))
    return EXIT_BAD_INPUT if table.problems or len(good) < len(rows) else EXIT_DONE


def _start(
    flags: argparse.Namespace, rows: list[tables.Merged]
) -> tuple[Checkpoint, Checkpoint, head.Origins, list[tables.Merged]]:
    """The model to start from, the same as the person had it, what the new vocabulary comes from, and the rows.

    The rows then name labels as the model does.
    """
    base = old = load_checkpoint(flags.model)
    head.linear_head(base)
    rows = tables.respelled(rows, base.labels.names)
    origins = _origins(flags, base, rows)
    if flags.image_size or flags.crop_mode:
        base = with_input(load_checkpoint(flags.model), flags.image_size, flags.crop_mode)
    return base, old, origins, rows


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
    new = [name for name in tables.labels_in(rows) if name not in origins]
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


def _recipe(flags: argparse.Namespace, images: int, device: str) -> Recipe:
    train = flags.train
    if train == "auto":
        train = "head" if images < HEAD_ONLY_BELOW else "norm" if images < NORMS_BELOW else "full"
    epochs = EPOCHS if flags.epochs is None else flags.epochs
    return Recipe(
        train=train,
        loss=flags.loss,
        epochs=0 if train == "head" else epochs,
        head_epochs=flags.head_epochs,
        batch_size=flags.batch_size,
        lr_head=flags.lr_head,
        lr_backbone=flags.lr_backbone,
        distill_weight=flags.distill_weight,
        mosaic=flags.mosaic,
        min_crop=flags.min_crop,
        balance=flags.balance,
        workers=flags.workers,
        seed=flags.seed,
        device=device,
    )


@contextmanager
def _threads_for(layer: torch.nn.Linear) -> Iterator[None]:
    """One thread for a small head: a step takes microseconds, and on a busy machine threads wait on each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if layer.weight.numel() < SMALL_HEAD else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _blend(model: torch.nn.Module, before: dict[str, torch.Tensor], share: float, half: bool) -> None:
    """Mix the start's weights back in, and round to what will be stored, so that the figures are the file's.

    Interpolation of weights: Wortsman et al., "Robust fine-tuning of zero-shot models" (WiSE-FT), CVPR 2022.
    """
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                mixed = torch.lerp(before[name], tensor.cpu(), share)
                tensor.copy_(mixed.half().float() if half else mixed)


if __name__ == "__main__":
    sys.exit(main())
