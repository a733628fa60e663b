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
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save

from demo import card, head, tables
from demo.checkpoint import CONFIG, Checkpoint, load_checkpoint, save_checkpoint, with_input
from demo.dataset import Cells, PlainPhotos, TrainingPhotos, loader, read_image, require_readable
from demo.durable import make_folder, put
from demo.errors import EXIT_DONE, BadInput, DemoError, Interrupted, TableError, command
from demo.evaluate import Photos, evaluation, photos_of, read_rows, score_paths, show
from demo.labels import LabelSet
from demo.losses import check_logits
from demo.metrics import report
from demo.progress import PROGRESS, Progress
from demo.settings import parse_flags
from demo.tagger import Tagger, choose_device
from demo.thresholds import per_label_thresholds, sweep
from demo.training import BackboneTraining, Recipe, predict, train_head

HEAD_ONLY_BELOW, NORMS_BELOW = 100, 500
"""The ladder of `--train auto`: images under which only the head, only head, norms and biases move."""

EPOCHS = {"head": 0, "norm": 8, "full": 8}
WORSE_BY = 0.01
"""A model whose mAP fell by more than a point came out worse."""
JUDGED_FROM = 10
"""Held-out images under which the figures are shown, but no verdict is drawn from them."""

STATE, STATE_WEIGHTS, LOG = "state.json", "state.safetensors", "log.txt"
VIEWS_OF_A_SOFTMAX_TEACHER = 5
"""A softmax head names one thing at a time, so as a teacher it looks at the quarters of a photo too."""


class Stop:
    """Raises Interrupted between two steps, once SIGINT or SIGTERM has come."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def __call__(self) -> None:
        if self.asked:
            raise Interrupted("Interrupted.", f"{self.folder} is no checkpoint yet.", "Go on with --resume.")

    def _ask(self, *_: object) -> None:
        self.asked = True


@command
def main(arguments: Sequence[str] | None = None) -> int:
    flags = parse_flags("finetune", arguments, description="Fine-tune a checkpoint on a CSV of corrections.")
    rows = read_rows(Path(flags.csv))
    base = load_checkpoint(flags.model)
    origins = _origins(flags, base, rows)
    photos = photos_of(rows, Path(flags.csv), list(origins), base.labels.names)
    if not (photos.targets[~photos.is_valid] >= 0).any():
        raise TableError(
            f"{flags.csv} decides no cell of the {len(origins)} labels in a row that may be trained on.",
            "All its rows are held out (is_valid) or name other labels." if len(photos) else "",
            "Save more corrections: about one in five is held out.",
        )
    require_readable(photos.paths)
    if flags.check:
        return _check(photos, base)
    folder = Path(flags.out)
    fingerprint = _prepare(folder, flags, base)
    progress, stop = Progress(folder), Stop(folder)
    try:
        metrics = fine_tune(base, origins, photos, flags, folder, progress, stop, fingerprint)
    except DemoError as error:
        progress.finish("interrupted" if isinstance(error, Interrupted) else "failed", str(error))
        raise
    except BaseException as error:
        progress.finish("failed", f"{type(error).__name__}: {error}")
        raise
    progress.finish("done", metrics["verdict"])
    print(
        show(
            {
                "new model": metrics["metrics"],
                "old model": metrics["old_model"],
                "predict nothing": metrics["predict_nothing"],
            }
        )
    )
    print(f"verdict: {metrics['verdict']} on {metrics['images']} {metrics['split']} rows. {folder} is a REF now.")
    return EXIT_DONE


def fine_tune(
    base: Checkpoint,
    origins: head.Origins,
    photos: Photos,
    flags: argparse.Namespace,
    folder: Path,
    progress: Progress,
    stop: Stop,
    fingerprint: str,
) -> dict[str, Any]:
    """Train, measure, save; gives the metrics. Raises Interrupted when `stop` was asked."""
    torch.manual_seed(flags.seed)
    training, held_out = photos.where(~photos.is_valid), photos.where(photos.is_valid)
    recipe = _recipe(flags, len(training))
    base = with_input(base, flags.image_size, flags.crop_mode)
    plain = Tagger(base, "cpu").transform
    views = VIEWS_OF_A_SOFTMAX_TEACHER if base.single_label else 1
    progress.phase("features", len(training))
    pixels = loader(PlainPhotos(training.paths, plain, views), recipe.batch_size, recipe.workers)
    features, logits = predict(base.model, pixels, recipe.device, progress.step, stop)
    check_logits(logits)
    old_scores = (
        (logits.softmax(-1) if base.single_label else logits.sigmoid()).unflatten(0, (-1, views)).mean(1).numpy()
    )
    features = features.unflatten(0, (-1, views))[:, 0]
    teacher = head.teacher_scores(old_scores, base, origins)
    cells = Cells.build(training.targets, flags.unknown, teacher, flags.teacher_share)

    base.model.cpu()
    start = head.with_vocabulary(base, origins)
    linear = start.model.get_classifier()
    moved = [name for name, sources in origins.items() if base.single_label or sources != [name]]
    head.calibrate_bias(linear, features, cells, [start.labels.positions[name] for name in moved])
    before = {name: tensor.clone() for name, tensor in start.model.state_dict().items()}
    old_held_out = score_paths(Tagger(start, flags.device), held_out.paths, recipe.batch_size, "old model")

    train_head(linear, features, cells, recipe, progress, stop)
    model = start.model
    if recipe.epochs:
        backbone = BackboneTraining(
            model,
            TrainingPhotos(training.paths, cells, start.data, recipe.seed, recipe.mosaic),
            training.targets,
            recipe,
        )
        _restore(folder, backbone, progress, fingerprint)

        def after_epoch() -> None:
            put(folder / STATE_WEIGHTS, save(backbone.state()))
            state = {"fingerprint": fingerprint, "epoch": backbone.epoch, "history": progress.history}
            put(folder / STATE, json.dumps(state).encode())

        backbone.run(progress, stop, after_epoch)
        model = backbone.ema.module.cpu()
    _blend(model, before, flags.blend, flags.half)
    new = replace(start, model=model.eval(), ref=str(folder), identity=f"local:{folder.resolve().name}")
    new = _measured(new, old_held_out, photos, flags, progress)
    save_checkpoint(folder, new, half=flags.half)
    for name in (STATE, STATE_WEIGHTS):
        (folder / name).unlink(missing_ok=True)
    return new.metrics


def _measured(
    new: Checkpoint, old_scores: np.ndarray, photos: Photos, flags: argparse.Namespace, progress: Progress
) -> Checkpoint:
    """The checkpoint with thresholds, metrics and card from the held-out rows (from all rows where none are)."""
    held_out = photos.where(photos.is_valid)
    split = "valid" if len(held_out) and (held_out.targets >= 0).any() else "train"
    measured = held_out if split == "valid" else photos.where(~photos.is_valid)
    scores = score_paths(Tagger(new, flags.device), measured.paths, flags.batch_size, "new model")
    curve = sweep(scores, measured.targets)
    threshold = curve.best()
    result = evaluation(new, flags.csv, split, scores, measured.targets, threshold)
    old = None
    if split == "valid":
        old_threshold = sweep(old_scores, measured.targets).best()
        old = report(old_scores, measured.targets, new.labels.names, old_threshold)
    thresholds = tuple(per_label_thresholds(scores, measured.targets, threshold))
    result |= {
        "curve": curve.to_dict(),
        "old_model": old["metrics"] if old else dict.fromkeys(result["metrics"]),
        "old_labels": {name: values["ap"] for name, values in old["labels"].items()} if old else {},
        "verdict": _verdict(result["metrics"], old["metrics"] if old and len(held_out) >= JUDGED_FROM else None),
        "trained_images": int((~photos.is_valid).sum()),
    }
    labels = LabelSet(new.labels.names, new.labels.categories, thresholds)
    return replace(new, labels=labels, metrics=result, card=card.text(new, result, flags))


def _verdict(new: dict, old: dict | None) -> str:
    """better, same or worse by mAP (micro F1 where no AP is defined); unmeasured without enough held-out rows."""
    if old is None:
        return "unmeasured"
    key = "map" if new["map"] is not None and old["map"] is not None else "micro_f1"
    if new[key] is None or old[key] is None:
        return "unmeasured"
    change = new[key] - old[key]
    return "worse" if change < -WORSE_BY else "better" if change > 0 else "same"


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
            f"{flags.csv} has {len(new)} labels that the model lacks: {', '.join(new[:10])}.",
            next_step="Correct the spelling, or let --new-labels add or skip them.",
        )
    if new:
        done = "adding" if flags.new_labels == "add" else "skipping"
        print(f"note: {done} {len(new)} labels that the model lacks: {', '.join(new[:10])}", file=sys.stderr)
    return origins | ({name: [] for name in new} if flags.new_labels == "add" else {})


def _recipe(flags: argparse.Namespace, images: int) -> Recipe:
    train = flags.train
    if train == "auto":
        train = "head" if images < HEAD_ONLY_BELOW else "norm" if images < NORMS_BELOW else "full"
    return Recipe(
        train=train,
        loss=flags.loss,
        epochs=0 if train == "head" else EPOCHS[train] if flags.epochs is None else flags.epochs,
        head_epochs=flags.head_epochs,
        batch_size=flags.batch_size,
        lr_head=flags.lr_head,
        lr_backbone=flags.lr_backbone,
        distill_weight=flags.distill_weight,
        mosaic=flags.mosaic,
        balance=flags.balance,
        workers=flags.workers,
        seed=flags.seed,
        device=choose_device(flags.device),
    )


def _prepare(folder: Path, flags: argparse.Namespace, base: Checkpoint) -> str:
    """Make the out folder and give this run's fingerprint. Raises BadInput for a folder with other things in it."""
    told = {
        key: value for key, value in sorted(vars(flags).items()) if key not in ("resume", "out", "device", "workers")
    }
    content = json.dumps([told, base.identity, hashlib.sha256(Path(flags.csv).read_bytes()).hexdigest()])
    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out {folder} is a file.", next_step="Name a new folder.")
    held = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if CONFIG in held:
        raise BadInput(f"--out {folder} already holds a checkpoint.", next_step="Name a new folder.")
    if held - {LOG} and not flags.resume:
        raise BadInput(f"--out {folder} is not empty.", next_step="Name a new folder, or go on with --resume.")
    if flags.resume and held - {LOG, STATE, STATE_WEIGHTS, PROGRESS, ".writing"}:
        raise BadInput(f"--out {folder} holds files of something else.", next_step="Name the folder of the run.")
    if STATE in held and json.loads((folder / STATE).read_text())["fingerprint"] != fingerprint:
        raise BadInput(
            f"{folder} was begun with other flags, another model or another CSV.",
            next_step="Use those, or a new folder.",
        )
    make_folder(folder.resolve())
    return fingerprint


def _restore(folder: Path, backbone: BackboneTraining, progress: Progress, fingerprint: str) -> None:
    """Go on where a run of the same fingerprint was interrupted; weights are written before the epoch's number."""
    if (folder / STATE).exists() and (folder / STATE_WEIGHTS).exists():
        state = json.loads((folder / STATE).read_text())
        if state["fingerprint"] == fingerprint:
            backbone.restore(load_file(folder / STATE_WEIGHTS))
            progress.history[:] = state["history"]


def _blend(model: torch.nn.Module, before: dict[str, torch.Tensor], share: float, half: bool) -> None:
    """Mix the start's weights back in, and round to what will be stored, so that the figures are the file's.

    Interpolation of weights: Wortsman et al., "Robust fine-tuning of zero-shot models" (WiSE-FT), CVPR 2022.
    """
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                mixed = torch.lerp(before[name], tensor.cpu(), share)
                tensor.copy_(mixed.half().float() if half else mixed)


def _check(photos: Photos, base: Checkpoint) -> int:
    """The dry run: what there is, and one photo's way through the pipeline."""
    targets = photos.targets
    print(f"{len(photos)} images, {int(photos.is_valid.sum())} held out, {targets.shape[1]} labels")
    print(
        ", ".join(
            f"{int((targets == value).sum())} cells {word}"
            for value, word in ((1, "present"), (0, "absent"), (-1, "unknown"))
        )
    )
    image = read_image(photos.paths[0])
    pixels = Tagger(base, "cpu").transform(image)
    print(f"{photos.file_names[0]}: {image.width}×{image.height} {image.mode}")
    print(f"pixels {tuple(pixels.shape)} {pixels.dtype}, {pixels.min():.2f} to {pixels.max():.2f}")
    print(f"targets {targets[0].shape} {targets.dtype}, {int((targets[0] >= 0).sum())} known")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
