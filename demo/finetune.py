"""The bundled fine-tune script: `python -m demo.finetune --csv FILE --out DIR [--model REF]`.

Corrections in, a checkpoint out: a frozen-backbone phase on cached features, then (by the number of photos) the
norms or everything, then as much of it as images that it did not see bear out. Cells that nobody decided follow the
old model (`--unknown distill`). The verdict stands in `metrics.json`. `config.json` is written last, so the out
folder is a REF only when it is complete. An interrupted run goes on with `--resume`. Several processes share the
work under `torchrun -m demo.finetune …`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

from demo import card, dry_run, folds, head, report, tables
from demo.blending import SHARES, blend, choose
from demo.checkpoint import Checkpoint, save_checkpoint, serialized
from demo.dataset import Cells, PlainPhotos, TrainingPhotos, loader, require_readable
from demo.distributed import Group, joined
from demo.durable import put
from demo.errors import EXIT_BAD_INPUT, EXIT_DONE, BadInput, DemoError, Interrupted, command
from demo.evaluate import merged, read_rows, score_paths, show
from demo.flags import parse_flags
from demo.losses import check_finite, check_logits
from demo.outcome import Scores, judge, measure
from demo.plan import Plan, make_plan
from demo.progress import Progress
from demo.report import REPORT
from demo.run_folder import STATE, STATE_WEIGHTS, Stop, prepare, require_free
from demo.tagger import Tagger, choose_device
from demo.training import BackboneTraining, predict, train_head

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
    with joined(device) as group, group.one_voice():
        return _run(flags, device, group)


def _run(flags: argparse.Namespace, device: str, group: Group) -> int:
    rows = read_rows(Path(flags.csv))
    with group.one_a_machine_first():
        plan = make_plan(flags, rows, device)
    photos, training = plan.photos, plan.training
    require_readable(photos.paths + plan.replayed, plan.base.preprocess)
    folder = Path(flags.out)
    fingerprint = prepare(folder, flags, plan)
    group.wait()
    digests = plan.digests[: len(photos)]
    if copies := len(set(digests[~photos.is_valid]) & set(digests[photos.is_valid])):
        print(f"note: {copies} held-out images are copies of training images, which flatters figures", file=sys.stderr)
    held_out = int(photos.is_valid.sum())
    told = f"{len(training)} images to train on, {held_out} held out; training: {plan.recipe.train}"
    print(f"note: {told}" + (f"; {group.size} processes" if group.size > 1 else ""), file=sys.stderr)
    progress = Progress(folder if group.is_first else None)
    try:
        with Stop(folder) as stop:
            try:
                metrics = fine_tune(plan, flags, folder, progress, stop, fingerprint, group)
            except RuntimeError:
                stop()  # another process of the group stopped first, and the exchange with it failed
                raise
    except BaseException as error:
        message = str(error) if isinstance(error, DemoError) else f"{type(error).__name__}: {error}"
        with suppress(OSError):  # of the disk, which the error may be about
            progress.finish("interrupted" if isinstance(error, Interrupted) else "failed", message)
        if isinstance(error, OSError):
            raise BadInput(
                f"{folder} could not be written.", message, "Make room, then go on with --resume."
            ) from error
        raise
    if not group.is_first:
        return EXIT_DONE
    progress.finish("done", metrics["summary"])
    for warning in metrics["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    compared = {"new model": "new", "old model": "old", "predict nothing": "predict_nothing"}
    print(show({title: metrics["comparison"][key] for title, key in compared.items()}))
    print(f"verdict: {metrics['verdict']}. {metrics['summary']}")
    print(f"{folder} is a REF now; {folder / REPORT} says how it went.")
    return EXIT_DONE


def fine_tune(
    plan: Plan,
    flags: argparse.Namespace,
    folder: Path,
    progress: Progress,
    stop: Stop,
    fingerprint: str,
    group: Group,
) -> dict[str, Any]:
    """Train, measure, save; gives the metrics in the group's first process. Raises Interrupted."""
    base, old, origins, photos, recipe = plan.base, plan.old, plan.origins, plan.photos, plan.recipe
    torch.manual_seed(recipe.seed)
    is_trained, learned, training = ~photos.is_valid, plan.is_learned, plan.training
    paths = photos.paths + plan.replayed
    is_taught = base.single_label and any(origins.values())
    views = VIEWS_OF_A_SOFTMAX_TEACHER if is_taught else 1
    mine = group.share(paths, recipe.together)
    progress.phase("features", len(mine))
    pixels = loader(PlainPhotos(mine, base.preprocess, views), recipe.together, recipe.workers)
    features, logits = (
        torch.from_numpy(group.gather(part.unflatten(0, (len(mine), views)).numpy(), len(paths), recipe.together))
        for part in predict(base.model, pixels, recipe.device, progress.step, stop)
    )
    base.model.cpu()
    check_finite(logits) if base.single_label else check_logits(logits)
    of_views = (logits.softmax(-1) if base.single_label else logits.sigmoid()).numpy()
    of_photos, features = features[: len(photos), 0], features[learned, 0]
    teacher = head.teacher_scores(of_views[learned].mean(1), base, origins)
    cells = Cells.build(training.targets, flags.unknown, teacher, flags.teacher_share)

    def scored(checkpoint: Checkpoint, paths: Sequence[Path], title: str) -> np.ndarray:
        share = group.share(paths, recipe.together)
        scores = score_paths(Tagger(checkpoint, recipe.device), share, recipe.together, title, stop)
        checkpoint.model.cpu()
        return group.gather(scores, len(paths), recipe.together)

    old_scores = of_views[: len(photos), 0] if old is base else scored(old, photos.paths, "old model")
    old_scores = head.teacher_scores(old_scores, base, origins)

    start = head.with_vocabulary(base, origins)
    model, linear = start.model, head.linear_head(start)
    untaught = ~linear.weight.any(1)  # rows of zeros, of which no bias means anything either
    moved = [row for row, old in enumerate(origins.values()) if base.single_label or len(old) != 1 or untaught[row]]
    shares = SHARES if flags.blend is None else (flags.blend,)
    with threads_for(linear):
        every = list(dict.fromkeys((1.0, *shares)))  # all of the new weights teach, whatever is tried
        groups, how = plan.digests[learned], (recipe, progress, stop)
        of_folds = folds.out_of_fold(linear, features, cells, training.targets, groups, moved, every, *how)
        out_of_fold = dict(zip(every, of_folds, strict=True))
        cells = folds.self_taught(cells, teacher, training.targets, out_of_fold[1.0])
        head.calibrate_bias(linear, features, cells, moved)
        before = _copy(model)
        train_head(linear, features, cells, recipe, progress, stop)
    group.same(model.state_dict() | {"cells": torch.from_numpy(cells.values)})
    if recipe.epochs:
        drawn = (recipe.seed, recipe.mosaic, recipe.min_crop, recipe.flip)
        augmented = TrainingPhotos(training.paths, cells, start.preprocess, *drawn)
        backbone = BackboneTraining(model, augmented, training.targets, recipe, group)
        state, history = group.of_first(lambda: _kept_state(folder))
        if state:
            backbone.restore(load(state))
            progress.history[:] = [
                entry for entry in history if entry["phase"] == "head" or entry["epoch"] <= backbone.epoch
            ]

        def after_epoch() -> None:
            if group.is_first:
                state = {"fingerprint": fingerprint, "epoch": backbone.epoch, "history": progress.history}
                put(folder / STATE, json.dumps(state).encode())
                put(folder / STATE_WEIGHTS, save(backbone.state()))

        backbone.run(progress, stop, after_epoch)
        model = backbone.ema.module.cpu()
    trained = _copy(model)
    split = "valid" if (photos.targets[photos.is_valid] >= 0).any() else "train"
    measured = photos.is_valid if split == "valid" else is_trained
    new, tried = replace(start, model=model.eval(), ref=str(folder)), {}
    # what the head says of features is what the model says, where they are still its own and both are fp32
    is_frozen = not recipe.epochs and not flags.half and recipe.device == "cpu"
    for share in shares:
        blend(model, before, trained, share, flags.half)
        if is_frozen:
            with torch.inference_mode():
                scores = linear(of_photos[measured]).sigmoid().numpy()
        else:
            title = "new model" if len(shares) == 1 else f"{share:.0%} of it"
            scores = scored(new, photos.where(measured).paths, title)
        unseen = np.full(photos.targets.shape, np.nan, np.float32)
        unseen[is_trained] = out_of_fold[share][: is_trained.sum()]
        if split == "valid":
            unseen[measured] = scores
        tried[share] = Scores(split, scores, unseen, old_scores)
    kept = np.array([origin == [name] and not base.single_label for name, origin in origins.items()])
    share, compared = choose({share: judge(photos, scores, old.threshold)[1] for share, scores in tried.items()}, kept)
    if not group.is_first:
        return {}
    blend(model, before, trained, share, flags.half)
    weights = hashlib.sha256(serialized(model, flags.half)).hexdigest()
    new = replace(new, identity=f"local:{folder.resolve().name}@{weights[:12]}")
    new = measure(new, old, photos, tried[share], tried[shares[0]], flags, backbone_moved=bool(recipe.epochs))
    new.metrics["blend"] = {"share": share, "tried": compared}
    by_name = dict(zip(photos.file_names, photos.paths, strict=True))
    put(folder / REPORT, report.page(new.metrics, progress.history, by_name).encode(errors="replace"))
    save_checkpoint(folder, replace(new, card=card.text(new, base)), half=flags.half)
    for done in (STATE, STATE_WEIGHTS):
        (folder / done).unlink(missing_ok=True)
    return new.metrics


def _kept_state(folder: Path) -> tuple[bytes, list[dict[str, Any]]]:
    """The weights and the history that an interrupted run left; nothing where it left none."""
    if not (folder / STATE_WEIGHTS).exists():
        return b"", []
    return (folder / STATE_WEIGHTS).read_bytes(), json.loads((folder / STATE).read_text())["history"]


def _copy(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _check(flags: argparse.Namespace, device: str) -> int:
    """The dry run of the same rows, flags and model."""
    table = tables.read_table(Path(flags.csv))
    rows = merged(table)
    good = dry_run.list_bad_rows(table.problems, rows, table.unit)
    plan = make_plan(flags, good, device)
    require_readable(plan.photos.paths + plan.replayed, plan.base.preprocess)
    require_free(Path(flags.out), flags, plan)
    dry_run.check(plan, flags, Path(f"{flags.out}-check.png"))
    return EXIT_BAD_INPUT if table.problems or len(good) < len(rows) else EXIT_DONE


@contextmanager
def threads_for(layer: torch.nn.Linear) -> Iterator[None]:
    """One thread for a small head: a step takes microseconds, and on a busy machine threads wait on each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if layer.weight.numel() < SMALL_HEAD else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    sys.exit(main())
