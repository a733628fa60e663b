"""A fine-tune beside its peers: python -m benchmarks.finetune --csv FILE --model REF

fastai's `vision_learner(…).fine_tune` with its defaults, a loop of timm's own pieces, and ours with its defaults,
from one timm backbone and its weights, on the same photos at the backbone's input size: `TRAINED` and `MEASURED` of
those that decide every label of `LABELS`, from rows that are not `is_valid` and from those that are. Once with all
training cells known, once with `HIDDEN` of them unknown, which the peers take as absent because they know no other
way. In one run, in turn, for each seed.

Seconds are those of training: imports, loading the model and measuring are left out for everybody; ours count the
features, the heads and the choice of the blend. Each measures with its own preprocessing. Ours measures the EMA
after each epoch and at the end the blend, which it chooses on training photos alone.

The peer needs `pip install "fastprogress<1.1" fastai`; nothing else of this project does.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from timm.data import create_transform
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.task import MultiLabelClassificationTask
from torch.utils.data import DataLoader, Dataset

from benchmarks.frozen import freeze, write_csv
from demo import folds, head
from demo.blending import SHARES, blend, choose
from demo.checkpoint import Checkpoint, load_checkpoint
from demo.comparison import Judged
from demo.dataset import Cells, PlainPhotos, TrainingPhotos, loader, read_image
from demo.evaluate import Photos, photos_of, read_rows
from demo.finetune import threads_for
from demo.metrics import mean_ap
from demo.plan import Plan, make_plan
from demo.progress import Progress
from demo.settings import parse_flags
from demo.training import BackboneTraining, train_head

with warnings.catch_warnings():  # torch warns about what fastai imports
    warnings.simplefilter("ignore")
    from fastai.vision import all as fastai

LABELS = ("desert", "mountain", "sea", "sunset", "trees")
TRAINED, MEASURED, HIDDEN = 240, 160, 0.3
EPOCHS, BATCH, WORKERS, SEEDS = 6, 32, 2, (0, 1, 2)
TIMM_RATE, TIMM_LAYER_DECAY, TIMM_WEIGHT_DECAY = 1e-3, 0.75, 0.05
"""timm has no defaults for fine-tuning."""


@dataclass
class Curve:
    """(seconds, mAP) after each epoch; the watch stands still while that is measured."""

    points: list[tuple[float, float]] = field(default_factory=list)
    spent: float = 0.0

    def start(self) -> None:
        self._since = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.spent += time.perf_counter() - self._since
        yield
        self.start()

    def add(self, precision: float) -> None:
        self.points.append((self.spent, precision))

    @property
    def best(self) -> tuple[float, float]:
        """The highest mAP, and when it was first there, as (seconds, mAP)."""
        return max(self.points, key=lambda point: point[1])

    def reaches(self, precision: float) -> float | None:
        return next((seconds for seconds, reached in self.points if reached >= precision), None)


@dataclass(frozen=True)
class Task:
    """What all are given. trained: with targets of 1, 0, -1. measured: all known. model: a folder."""

    trained: Photos
    measured: Photos
    model: Path
    seed: int

    def checkpoint(self) -> Checkpoint:
        return load_checkpoint(self.model)


@torch.inference_mode()
def outputs(model: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Logits (N, L) of pixels (N, 3, H, W)."""
    model.eval()
    return torch.cat([model(batch) for batch in pixels.split(64)])


def measured_ap(model: torch.nn.Module, pixels: torch.Tensor, task: Task) -> float:
    return mean_ap(outputs(model, pixels).sigmoid().numpy(), task.measured.targets) or 0.0


def plain_pixels(checkpoint: Checkpoint, photos: Photos) -> torch.Tensor:
    return torch.cat(list(loader(PlainPhotos(photos.paths, checkpoint.preprocess), 64, WORKERS))).flatten(0, 1)


def with_fastai(task: Task) -> Curve:
    """MultiCategoryBlock; unknown cells are negative, since it lists what is there."""
    photos, targets = task.trained.paths + task.measured.paths, {}
    for part in (task.trained, task.measured):
        targets |= dict(zip(part.paths, part.targets, strict=True))
    checkpoint = task.checkpoint()
    block = fastai.DataBlock(
        blocks=(fastai.ImageBlock, fastai.MultiCategoryBlock(vocab=list(LABELS))),
        get_y=lambda path: [name for name, cell in zip(LABELS, targets[path], strict=True) if cell == 1],
        splitter=fastai.IndexSplitter(range(len(task.trained), len(photos))),
        item_tfms=fastai.Resize(checkpoint.data["input_size"][-1]),
        batch_tfms=fastai.aug_transforms(),
    )
    fastai.set_seed(task.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dls = block.dataloaders(photos, bs=BATCH, num_workers=WORKERS)
        learn = fastai.vision_learner(
            dls,
            checkpoint.config["architecture"],
            pretrained_cfg_overlay={"file": str(task.model / "model.safetensors")},
        )
        pixels = torch.cat([batch[0].as_subclass(torch.Tensor) for batch in dls.valid])
        curve = Curve()

        class Measure(fastai.Callback):
            def before_validate(self) -> None:
                with curve.paused():
                    curve.add(measured_ap(self.learn.model, pixels, task))
                raise fastai.CancelValidException

        curve.start()
        with learn.no_bar(), learn.no_logging():
            learn.fine_tune(EPOCHS - 1, cbs=Measure())
    return curve


class Augmented(Dataset):
    """Photos through timm's own training transform; unknown cells are negative."""

    def __init__(self, photos: Photos, checkpoint: Checkpoint) -> None:
        data = {key: checkpoint.data[key] for key in ("input_size", "interpolation", "mean", "std")}
        self.transform = create_transform(**data, is_training=True)
        self.photos, self.targets = photos, torch.from_numpy((photos.targets == 1).astype(np.float32))

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.transform(read_image(self.photos.paths[row]).convert("RGB")), self.targets[row]


def with_timm(task: Task, rate: float = TIMM_RATE) -> Curve:
    checkpoint = task.checkpoint()
    torch.manual_seed(task.seed)
    model = checkpoint.model
    model.reset_classifier(len(LABELS))
    pixels, truth = plain_pixels(checkpoint, task.measured), torch.from_numpy(task.measured.targets)
    batches = DataLoader(Augmented(task.trained, checkpoint), BATCH, shuffle=True, drop_last=True, num_workers=WORKERS)
    loop = MultiLabelClassificationTask(model, verbose=False)
    optimizer = create_optimizer_v2(
        model, opt="adamw", lr=rate, weight_decay=TIMM_WEIGHT_DECAY, layer_decay=TIMM_LAYER_DECAY
    )
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=EPOCHS,
        warmup_epochs=1,
        warmup_prefix=True,
        warmup_lr=rate / 100,
        step_on_epochs=False,
        updates_per_epoch=len(batches),
    )
    curve, step = Curve(), 0
    curve.start()
    for _ in range(EPOCHS):
        model.train()
        for images, targets in batches:
            loss = loop(images, targets)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            scheduler.step_update(step)
        with curve.paused():
            evaluator = loop.create_evaluator()
            evaluator.update(outputs(model, pixels), truth)
            curve.add(evaluator.compute()["map"] / 100)
    return curve


def plan_of(task: Task, folder: Path) -> Plan:
    """What `demo.finetune` would do of itself with so many photos, of which enough are held out, and five fresh labels.

    Here all of them are trained on; with nothing held out it would leave the backbone alone.
    """
    csv, labels = folder / "photos.csv", folder / "labels.json"
    labels.write_text(json.dumps({name: [] for name in LABELS}))
    write_csv(csv, task.trained, LABELS)
    told = ["--csv", csv, "--labels", labels, "--out", folder, "--model", task.model, "--epochs", EPOCHS]
    told += ["--train", "norm", "--seed", task.seed, "--workers", WORKERS]
    flags = parse_flags("finetune", [str(word) for word in told])
    return make_plan(flags, read_rows(csv), "cpu")


def with_ours(task: Task) -> Curve:
    """The phases of `demo.finetune` in their order, as it does them where nothing is held out."""
    with redirect_stderr(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        plan = plan_of(task, Path(folder))
        pixels = plain_pixels(plan.base, task.measured)
        return _ours(plan, Progress(Path(folder)), lambda model: measured_ap(model, pixels, task))


def _ours(plan: Plan, progress: Progress, measure: Callable[[torch.nn.Module], float]) -> Curve:
    recipe, targets, curve = plan.recipe, plan.training.targets, Curve()

    def add(model: torch.nn.Module) -> None:
        with curve.paused():
            curve.add(measure(model))

    torch.manual_seed(recipe.seed)
    curve.start()
    frozen = freeze(plan.training, plan.base, plan.origins)
    features, model = frozen.features, frozen.start.model
    cells, linear = Cells.build(targets, "distill", frozen.teacher), head.linear_head(frozen.start)
    moved = range(len(LABELS))
    with threads_for(linear):
        how = (recipe, progress, lambda: None)
        by_share = folds.out_of_fold(linear, features, cells, targets, plan.digests, moved, SHARES, *how)
        cells = folds.self_taught(cells, frozen.teacher, targets, by_share[SHARES.index(1.0)])
        head.calibrate_bias(linear, features, cells, moved)
        before = copy.deepcopy(model.state_dict())
        train_head(linear, features, cells, recipe, progress, lambda: None)
    add(model)
    augmented = TrainingPhotos(
        plan.training.paths, cells, plan.base.preprocess, recipe.seed, recipe.mosaic, recipe.min_crop
    )
    backbone = BackboneTraining(model, augmented, targets, recipe)
    backbone.run(progress, lambda: None, lambda: add(backbone.ema.module))
    tried = {
        share: Judged(unseen, frozen.teacher, targets, plan.base.threshold, "folds")
        for share, unseen in zip(SHARES, by_share, strict=True)
    }
    share, _ = choose(tried, np.zeros(len(LABELS), bool))
    blend(model, before, backbone.ema.module.state_dict(), share, half=False)
    add(model)
    return curve


METHODS = {"fastai": with_fastai, "timm": with_timm, "ours": with_ours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--csv", required=True)
    parser.add_argument("--model", required=True, help="a folder")
    given = parser.parse_args()
    csv = Path(given.csv).absolute()
    photos = photos_of(read_rows(csv), csv, LABELS, LABELS)
    known = (photos.targets >= 0).all(1)
    curves: dict[tuple[float, str], list[Curve]] = {}
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        trained, measured = (
            photos.where(np.isin(np.arange(len(photos)), rng.permutation(np.flatnonzero(known & side))[:count]))
            for side, count in ((~photos.is_valid, TRAINED), (photos.is_valid, MEASURED))
        )
        is_hidden = rng.random(trained.targets.shape) < HIDDEN
        for hidden in (0, HIDDEN):
            targets = np.where(is_hidden, -1, trained.targets).astype(np.float32) if hidden else trained.targets
            task = Task(replace(trained, targets=targets), measured, Path(given.model).absolute(), seed)
            names = list(METHODS)
            for name in names[seed % 3 :] + names[: seed % 3]:
                curve = METHODS[name](task)
                curves.setdefault((hidden, name), []).append(curve)
                points = "  ".join(f"{precision:.3f} at {seconds:.0f} s" for seconds, precision in curve.points)
                print(f"seed {seed}, {hidden:.0%} unknown, {name}: {points}", flush=True)
    print(f"\n{TRAINED} photos to train on, {MEASURED} to measure, {len(LABELS)} labels, {len(SEEDS)} seeds")
    titles = ("final mAP", "best mAP", "seconds to best", "ours gets there in", "ratio")
    print(f"{'unknown':<9}{'':<8}" + "".join(f"{title:>20}" for title in titles))
    for (hidden, name), runs in curves.items():
        cells = [spread([run.points[-1][1] for run in runs]), spread([run.best[1] for run in runs])]
        cells.append(spread([run.best[0] for run in runs], 0))
        if name != "ours":
            cells += beside(runs, curves[hidden, "ours"])
        print(f"{hidden:<9.0%}{name:<8}" + "".join(f"{cell:>20}" for cell in cells))


def spread(values: list[float], digits: int = 3) -> str:
    return f"{statistics.mean(values):.{digits}f} ±{statistics.stdev(values):.{digits}f}"


def beside(peer: list[Curve], ours: list[Curve]) -> list[str]:
    """Our seconds to a peer's best mAP, seed by seed, and the mean ratio to its own where we reached it."""
    reached = [run.reaches(other.best[1]) for run, other in zip(ours, peer, strict=True)]
    ratios = [s / other.best[0] for s, other in zip(reached, peer, strict=True) if s is not None]
    shown = ", ".join("never" if seconds is None else f"{seconds:.0f}" for seconds in reached)
    return [shown, f"{statistics.mean(ratios):.2f}" if ratios else "-"]


if __name__ == "__main__":
    main()
