"""The two phases of a fine-tune: the head on cached features, then the backbone with it.

Knows tensors, photos and cells; nothing of CSVs, folders of runs or reports (`demo.finetune` puts those
together). Same seed, same machine, same result: every random draw comes from (seed, epoch, item).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch.utils.data import DataLoader

from demo.compiling import forward_of
from demo.dataset import KNOWN, SOFT, Cells, TrainingPhotos, loader, repeats
from demo.distributed import ALONE, Group
from demo.losses import check_finite, known_cell_loss
from demo.progress import Progress

LAYER_DECAY = 0.75
WEIGHT_DECAY = 0.05
HEAD_PULL = 0.1
"""Strength of the pull of `train_head`. Ten times weaker forgets more; twice as strong is no better."""

LR_BACKBONE = {"norm": 1e-3, "full": 1e-4}
"""The backbone's highest rate by what moves: norms and biases, a few numbers a layer, want larger steps."""

NORM_HEAD_SHARE = 0.1
"""Of the head's rate, beside norms and biases, where it has learned already: at its full rate what it knows of the few
photos that this phase is for is worn off by their crops (benchmarks/finetune.py)."""

MIN_HEAD_STEPS = 300
"""On few photos an epoch is a step or two; the head gets this many steps however few epochs that would be."""

EMA_DECAY = 0.998
CPU_CHUNK = 16
"""Images that a CPU computes together, whichever process does: with other neighbours an image rounds otherwise."""


@dataclass(frozen=True)
class Recipe:
    """What a fine-tune needs besides data; see `python -m demo.finetune --help` for each.

    weight, pos_weight: (L,) float32 on the CPU; see `demo.losses.known_cell_loss`.
    """

    train: str
    loss: str
    epochs: int
    head_epochs: int
    batch_size: int
    lr_head: float
    lr_backbone: float
    distill_weight: float
    mosaic: float
    min_crop: float
    balance: float
    workers: int
    seed: int
    device: str
    flip: bool = True
    weight: torch.Tensor | None = None
    pos_weight: torch.Tensor | None = None

    @property
    def together(self) -> int:
        """Images that one process scores together."""
        return min(self.batch_size, CPU_CHUNK) if self.device == "cpu" else self.batch_size


def cell_loss(
    logits: torch.Tensor,
    values: torch.Tensor,
    kind: torch.Tensor,
    recipe: Recipe,
    counts: tuple[float, float] | None = None,
) -> torch.Tensor:
    """The loss of a batch: logits and values (B, L), kind (B, L) of KNOWN, SOFT, UNUSED.

    Of a part of a batch, with the `counts` of the whole one's known and soft cells, it is what the part adds to it.
    """
    known, soft = kind == KNOWN, kind == SOFT
    return known_cell_loss(
        logits,
        values,
        known,
        soft,
        kind=recipe.loss,
        soft_weight=recipe.distill_weight,
        counts=counts,
        weight=None if recipe.weight is None else recipe.weight.to(logits.device),
        pos_weight=None if recipe.pos_weight is None else recipe.pos_weight.to(logits.device),
    )


def train_head(
    head: torch.nn.Linear,
    features: torch.Tensor,
    cells: Cells,
    recipe: Recipe,
    progress: Progress,
    stop: Callable[[], None],
) -> None:
    """Train a linear head in place on features (N, D). `stop` raises where a person wants it to end.

    AdamW with a cosine, and a pull of each row back to its start in place of weight decay: what no cell
    contradicts stays as it was. The pull is a prior, so that its weight beside a cell's loss is the same whatever the
    number of photos: few photos move a row little, many as far as they say. It counts changes of logits, whatever
    the scale of features. Biases are free.
    """
    values, kind = torch.from_numpy(cells.values), torch.from_numpy(cells.kind)
    start = head.weight.detach().clone()
    batch = min(max(recipe.batch_size, 32), len(features))
    per_epoch = math.ceil(len(features) / batch)
    epochs = max(recipe.head_epochs, math.ceil(MIN_HEAD_STEPS / per_epoch)) if recipe.head_epochs else 0
    steps = epochs * per_epoch
    strength = HEAD_PULL * (features**2).sum(1).mean().item() / max(int((kind == KNOWN).sum()), 1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=recipe.lr_head, weight_decay=0)
    progress.phase("head", steps)
    step = 0
    for epoch in range(epochs):
        total = 0.0
        order = torch.from_numpy(np.random.default_rng((recipe.seed, 1, epoch)).permutation(len(features)))
        for rows in order.split(batch):
            stop()
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr_head * 0.5 * (1 + math.cos(math.pi * step / steps))
            logits = head(features[rows])
            pull = ((head.weight - start) ** 2).sum()
            loss = cell_loss(logits, values[rows], kind[rows], recipe)
            optimizer.zero_grad()
            (loss + strength * pull).backward()
            optimizer.step()
            total += loss.item()
            step += 1
            progress.step(loss=loss.item())
        if (epoch + 1) % max(epochs // 20, 1) == 0:
            progress.epoch(epoch=epoch + 1, epochs=epochs, loss=round(total / per_epoch, 5))


class BackboneTraining:
    """The second phase: norms and biases (`norm`) or everything (`full`) with the head, and an EMA of it all.

    AdamW with layer decay and 10 % warm-up before a cosine, all timm's. `state()` and `restore()` carry it over
    an interruption; both speak in names and tensors, so that safetensors can hold them.

    A group takes the steps of one process: on CPUs each batch is computed in the same chunks whoever takes them, and
    their gradients are summed in fp64, where their order does not matter; a GPU computes its part of a batch at once.
    Batch norms keep their statistics, which would speak of one chunk.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        photos: TrainingPhotos,
        targets: np.ndarray,
        recipe: Recipe,
        group: Group = ALONE,
    ) -> None:
        self.model, self.photos, self.targets, self.recipe = model.to(recipe.device), photos, targets, recipe
        self.group = group
        if recipe.train == "norm":
            head = {id(parameter) for parameter in model.get_classifier().parameters()}
            for parameter in model.parameters():
                parameter.requires_grad_(parameter.ndim <= 1 or id(parameter) in head)
        self.ema = ModelEmaV3(model, decay=EMA_DECAY, use_warmup=True)
        self.optimizer = create_optimizer_v2(
            model, opt="adamw", lr=1.0, weight_decay=WEIGHT_DECAY, layer_decay=LAYER_DECAY
        )
        self._set_rates()
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        precise = torch.float64 if recipe.device == "cpu" else torch.float32
        self._sums = torch.zeros(sum(map(torch.numel, self._trained)), dtype=precise, device=recipe.device)
        self.epoch = 0
        orders = [len(self._order(epoch)) for epoch in range(recipe.epochs)]
        self.lengths = [math.ceil(length / recipe.batch_size) for length in orders]
        self._logits = forward_of(
            self.model, recipe.device, photos.preprocess.data["input_size"], sum(orders) // group.size
        )
        warmup = max(sum(self.lengths) // 10, 1)
        self.scheduler = CosineLRScheduler(
            self.optimizer,
            t_initial=max(sum(self.lengths) - warmup, 1),
            lr_min=0,
            warmup_t=warmup,
            warmup_prefix=True,
            t_in_epochs=False,
        )

    def run(self, progress: Progress, stop: Callable[[], None], after_epoch: Callable[[], None]) -> None:
        """Train the epochs that are left; `after_epoch` saves. When `stop` raises, the epoch under way is lost."""
        recipe = self.recipe
        progress.phase("backbone", sum(self.lengths), done=sum(self.lengths[: self.epoch]))
        while self.epoch < recipe.epochs:
            self.photos.epoch = self.epoch
            self.photos.order = self._order(self.epoch)
            total, step = 0.0, sum(self.lengths[: self.epoch])
            for module in self.model.modules():
                module.train(not isinstance(module, torch.nn.modules.batchnorm._BatchNorm))
            batches = self._batches()
            loaded = iter(loader(self.photos, [items for batch in batches for _, items in batch], recipe.workers))
            for batch in batches:
                stop()
                self.scheduler.step_update(step + 1)
                loss = self._backward(step, {number: next(loaded) for number, _ in batch})
                torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
                self.optimizer.step()
                step += 1
                self.ema.update(self.model, step)
                total += loss
                progress.step(loss=loss)
            mean = total / self.lengths[self.epoch]
            progress.epoch(epoch=self.epoch + 1, epochs=recipe.epochs, loss=round(mean, 5))
            self.epoch += 1
            after_epoch()

    def _backward(self, step: int, chunks: dict[int, list[torch.Tensor]]) -> float:
        """Leave the gradient of a batch's loss in the parameters, and give the loss.

        chunks: pixels, values and kind of those that this process takes, by their number in the batch.
        """
        cells = [sum(int((kind == which).sum()) for *_, kind in chunks.values()) for which in (KNOWN, SOFT)]
        counts, total = self.group.sum(*cells), 0.0
        self.optimizer.zero_grad()
        sums = self._sums.zero_().split([parameter.numel() for parameter in self._trained])
        for number, chunk in chunks.items():
            pixels, values, kind = (tensor.to(self.recipe.device) for tensor in chunk)
            # dropout draws from here, whatever was drawn before
            torch.manual_seed(int(np.random.default_rng((self.recipe.seed, 3, step, number)).integers(2**62)))
            with self._autocast():
                logits = self._logits(pixels)
            check_finite(logits)
            loss = cell_loss(logits, values, kind, self.recipe, counts)
            loss.backward()
            total += loss.item()
            for parameter, its_sum in zip(self._trained, sums, strict=True):
                if parameter.grad is not None:
                    its_sum += parameter.grad.flatten()
                    parameter.grad = None
        self.group.add_up(self._sums)
        for parameter, its_sum in zip(self._trained, sums, strict=True):
            parameter.grad = its_sum.view_as(parameter).to(parameter.dtype)
        return self.group.sum(total)[0]

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that `restore` needs, as named tensors."""
        state = {"epoch.done": torch.tensor(self.epoch)}
        state |= {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        state |= {f"ema.{name}": tensor for name, tensor in self.ema.module.state_dict().items()}
        for number, entry in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in entry.items()}
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        parts: dict[str, dict[str, torch.Tensor]] = {"epoch": {}, "model": {}, "ema": {}, "optimizer": {}}
        for name, tensor in state.items():
            part, _, key = name.partition(".")
            parts[part][key] = tensor
        self.model.load_state_dict(parts["model"])
        self.ema.module.load_state_dict(parts["ema"])
        entries: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in parts["optimizer"].items():
            number, _, name = key.partition(".")
            entries.setdefault(int(number), {})[name] = tensor
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": entries})
        self.epoch = int(parts["epoch"]["done"])

    def _batches(self) -> list[list[tuple[int, list[int]]]]:
        """This process's chunks, numbered, of each batch: lists of items. Batches are of nearly equal length."""
        batches = np.array_split(np.arange(len(self.photos.order)), self.lengths[self.epoch])
        return [self.group.share(list(enumerate(self._chunks(batch)))) for batch in batches]

    def _chunks(self, batch: np.ndarray) -> list[list[int]]:
        count = math.ceil(len(batch) / CPU_CHUNK) if self.recipe.device == "cpu" else min(self.group.size, len(batch))
        return [chunk.tolist() for chunk in np.array_split(batch, count)]

    def _order(self, epoch: int) -> np.ndarray:
        return repeats(self.targets, self.recipe.balance, np.random.default_rng((self.recipe.seed, 2, epoch)))

    def _set_rates(self) -> None:
        """Rates as shares of 1, which timm's schedulers multiply by: the head's own, the backbone's by depth."""
        head = {id(parameter) for parameter in self.model.get_classifier().parameters()}
        has_learned = self.recipe.train == "norm" and self.recipe.head_epochs > 0
        lr_head = self.recipe.lr_head * (NORM_HEAD_SHARE if has_learned else 1)
        for group in self.optimizer.param_groups:
            in_head = any(id(parameter) in head for parameter in group["params"])
            depth = group.get("lr_scale", 1.0)
            group["lr_scale"] = lr_head if in_head else self.recipe.lr_backbone * depth

    def _autocast(self) -> AbstractContextManager:
        device = self.recipe.device
        if device == "mps":
            return nullcontext()
        pays = torch.cuda.is_bf16_supported() if device == "cuda" else torch.cpu._is_avx512_bf16_supported()
        return torch.autocast(device, dtype=torch.bfloat16, enabled=pays)


@torch.inference_mode()
def predict(
    model: torch.nn.Module, pixels: DataLoader, device: str, step: Callable[[int], None], stop: Callable[[], None]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (N·V, D) before the head and logits (N·V, L) of photos with V views each, fp32 on the CPU."""
    model.eval().to(device)
    head = model.get_classifier()
    features, logits = [torch.zeros(0, head.in_features)], [torch.zeros(0, head.out_features)]
    for batch in pixels:
        hidden = model.forward_head(model.forward_features(batch.flatten(0, 1).to(device)), pre_logits=True)
        features.append(hidden.float().cpu())
        logits.append(head(hidden).float().cpu())
        step(len(batch))
        stop()
    return torch.cat(features), torch.cat(logits)
