"""Which parts of an image speak for a label: a heat map, in the place where the photo has them.

Gradient × value. An attention adds up its tokens' values, so the label's logit rests on the patch at j, to first
order, with the sum over heads and channels of v_j · ∂logit/∂v_j; that is attention × gradient (Chefer, Gur and Wolf
2021, arXiv:2103.15679) with its signs kept and summed over heads and rows, and HiResCAM's product (Draelos and Carin
2020, arXiv:2011.08891) taken of the values. The last three attentions are added up and the positive part is the map.
Values are seen by watching `scaled_dot_product_attention` in this thread alone, so nothing in the model is touched,
and every timm model of tokens serves: ViT, DeiT, BEiT, EVA, DINOv2, with any tokens of class or register.
Where the last features are a map themselves (Swin, convolutional networks) it is HiResCAM of those.

A map tells what this model's score rests on, near this image; not where the object ends, and nothing about the world.
`benchmarks/why.py` measures it, and docs/benchmarks.md has the methods it was chosen from.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.overrides import TorchFunctionMode

from demo.errors import DemoError
from demo.preprocessing import Preprocess
from demo.tagger import Tagger

SIDE = 160
"""Pixels of a map's longer side. A model sees some 14 to 32 patches along it."""
ATTENTIONS = 3
PROBE = 512


class NoHeatmap(DemoError):
    """This model has nothing that a map could be made of."""


class Heatmap(NamedTuple):
    """values: (h, w) float32 in [0, 1], 1 where most speaks for the label, all 0 where nothing does; over the whole
    photo, upright. seen: (h, w) bool, false for what preprocessing cut off, where values are 0.
    """

    values: np.ndarray
    seen: np.ndarray


class Window(NamedTuple):
    """Where the edges of a model's input lie on the photo, in fractions of its width and height.

    Inside 0 to 1 where the photo was cut, outside where it was padded.
    """

    left: float
    top: float
    right: float
    bottom: float


class Evidence:
    """One image that went through a model once, for the maps of any of its labels.

    Holds the activations of the model's end, and may be asked by many threads. Where the GPU is lent by the call it
    holds the pixels, which go through the model anew for each label. Raises NoHeatmap, then with the first map.
    """

    def __init__(self, tagger: Tagger, image: Image.Image) -> None:
        preprocess = tagger.checkpoint.preprocess
        self._size, self._window = image.size, window(preprocess, image.size)
        pixels = preprocess(image).unsqueeze(0)
        self._lent, self._pixels = tagger.lent, pixels.numpy() if tagger.lent else None
        if not tagger.lent:
            with tagger.running() as model:
                self._end = _end_of(model, pixels.to(tagger.device))
        self._lock = threading.Lock()

    def heatmap(self, label: int) -> Heatmap:
        """What speaks for the label at this position in logit order. Gradients of weights are not touched."""
        if self._lent:
            cells = torch.from_numpy(self._lent.compute(_cells_of, self._pixels, label))
        else:
            with self._lock:
                cells = _cells(self._end, label)
        return _on_photo(cells, self._size, self._window)


class Heatmaps:
    """Maps of the images that are looked at: of each model, the last image asked for stays at hand for other labels."""

    def __init__(self) -> None:
        self._last: WeakKeyDictionary[Tagger, tuple[str, Evidence]] = (
            WeakKeyDictionary()
        )  # a model that goes is not kept

    def of(self, tagger: Tagger, digest: str, image: Callable[[], Image.Image], label: int) -> Heatmap:
        """digest: the image's sha256. image: gives it where it is needed.

        Raises NoHeatmap, NotComputed, and what `image` raises.
        """
        known, evidence = self._last.get(tagger, ("", None))
        if evidence is None or known != digest:
            evidence = Evidence(tagger, image())
            self._last[tagger] = digest, evidence
        with tagger.explained():
            return evidence.heatmap(label)


def window(preprocess: Preprocess, size: tuple[int, int]) -> Window:
    """Where the model's input lies on a photo of `size` (width, height).

    Found by sending a picture of its own coordinates through the preprocessing, so that no step is told twice.
    """
    scale = min(1, max(PROBE / max(size), 16 / min(size)))
    width, height = (max(round(side * scale), 1) for side in size)
    ramps = np.zeros((height, width, 3), np.uint8)
    ramps[..., 0] = np.round(255 * (np.arange(width) + 0.5) / width)
    ramps[..., 1] = np.round(255 * (np.arange(height) + 0.5)[:, None] / height)
    lit = ramps.copy()
    lit[..., 2] = 255
    mean, std = (torch.tensor(preprocess.data[key]).reshape(-1, 1, 1) for key in ("mean", "std"))
    dark, light = (preprocess(Image.fromarray(probe)) * std + mean for probe in (ramps, lit))
    inside = (light[2] - dark[2]).numpy() > 0.99  # padding has its own colour, whatever the photo's
    if not inside.any():
        inside[:] = True
    rows, columns = inside.any(1), inside.any(0)
    left, right = _edges(dark[0].numpy()[rows].mean(0), columns)
    top, bottom = _edges(dark[1].numpy()[:, columns].mean(1), rows)
    return Window(left, top, right, bottom)


def _edges(ramp: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Coordinates at both ends of an axis, whose pixels `inside` have the coordinates of `ramp` at their centres."""
    at = np.flatnonzero(inside)
    slope = np.polyfit(at, ramp[at], 1)[0] if len(at) > 2 else 1 / len(at)
    slope = max(float(slope), 1e-4)
    start = float(ramp[at].mean() - slope * (at.mean() + 0.5))
    return start, start + slope * len(inside)


class _Watch(TorchFunctionMode):
    """Collects the values of a model's last attentions, and lets gradients begin at the first of them."""

    def __init__(self, skip: int) -> None:
        super().__init__()
        self.skip, self.values = skip, []

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        if self.skip > 0:
            self.skip -= 1
            return func(*args, **(kwargs or {}))
        if not self.values:
            args = (*args[:2], args[2].detach().requires_grad_(), *args[3:])
            torch.set_grad_enabled(True)  # until the no_grad around the model ends; what came before keeps no memory
        self.values.append(args[2])
        return func(*args, **(kwargs or {}))


class _End(NamedTuple):
    """A model's end: `sources`, from each of which a graph leads to the logits (1, L), each with the dimensions that
    are its channels; and the rows and columns of patches.
    """

    sources: list[torch.Tensor]
    channels: list[tuple[int, ...]]
    grid: tuple[int, int]
    logits: torch.Tensor


def _end_of(model: torch.nn.Module, pixels: torch.Tensor) -> _End:
    attentions = sum(getattr(module, "fused_attn", False) is True for module in model.modules())
    with torch.no_grad(), _Watch(attentions - ATTENTIONS) as watch:
        features = model.forward_features(pixels)
        if not isinstance(features, torch.Tensor) or features.ndim not in (3, 4):
            raise _no_map(model)
        if features.ndim == 4:
            channel = 3 if getattr(model, "output_fmt", "NCHW") == "NHWC" else 1
            rows, columns = (side for at, side in enumerate(features.shape) if at not in (0, channel))
        else:
            channel, patch = 2, getattr(getattr(model, "patch_embed", None), "patch_size", None)
            if patch is None or (getattr(model, "num_prefix_tokens", 0) and not watch.values):
                raise _no_map(model)  # without values of attentions a class token tells nothing about patches
            rows, columns = (side // step for side, step in zip(pixels.shape[-2:], patch, strict=True))
            if features.shape[1] < rows * columns:
                raise _no_map(model)
        # windows of attention and tokens that were made fewer are left out: their order is their model's own
        values = [value for value in watch.values if len(value) == 1 and value.shape[2] >= rows * columns]
        if not features.requires_grad:
            features = features.detach().requires_grad_()
        with torch.enable_grad():
            logits = model.forward_head(features)
    channels = [*[(1, 3)] * len(values), (channel,)]
    return _End([*values, features], channels, (rows, columns), logits.float())


def _cells(end: _End, label: int) -> torch.Tensor:
    """What each patch contributes to a label's logit: (rows, columns) on the CPU."""
    sources, channels, (rows, columns), logits = end
    gradients = torch.autograd.grad(logits[0, label], sources, retain_graph=True)
    told = [
        (source.detach().float() * gradient.float()).sum(dimensions).flatten()[-rows * columns :]
        for source, gradient, dimensions in zip(sources, gradients, channels, strict=True)
    ]
    return torch.stack(told).sum(0).reshape(rows, columns).cpu()


def _cells_of(model: torch.nn.Module, pixels: torch.Tensor, label: int) -> np.ndarray:
    return _cells(_end_of(model, pixels), label).numpy()


def _no_map(model: torch.nn.Module) -> NoHeatmap:
    return NoHeatmap("There is no map for this model.", f"{type(model).__name__} keeps no track of places.")


def _on_photo(cells: torch.Tensor, size: tuple[int, int], window: Window) -> Heatmap:
    """Contributions (rows, columns) of a model's input as a map of the photo, whose size is (width, height)."""
    width, height = (max(round(side * SIDE / max(size)), 1) for side in size)
    x = ((torch.arange(width) + 0.5) / width - window.left) / (window.right - window.left)
    y = ((torch.arange(height) + 0.5) / height - window.top) / (window.bottom - window.top)
    seen = ((y >= 0) & (y < 1))[:, None] & ((x >= 0) & (x < 1))
    places = torch.stack(torch.broadcast_tensors(2 * x - 1, (2 * y - 1)[:, None]), -1)
    placed = F.grid_sample(
        cells.relu()[None, None], places[None], mode="bicubic", padding_mode="border", align_corners=False
    )
    values = torch.where(seen, placed[0, 0].relu(), 0)
    highest = values.max()
    return Heatmap((values / highest if highest > 0 else values).numpy(), seen.numpy())
