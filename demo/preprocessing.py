"""Decoded images become pixels: one `Preprocess` per checkpoint, as its family does it.

Alpha is settled here, because families differ: timm's and transformers' own loaders drop it, the anime taggers
paint it onto white. The steps are animetimm's (`preprocess.json`) and two more: `pad_to_square`, and `timm`, which is
all of timm's own transform. Augmentation for training is `demo.dataset`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from PIL import Image, ImageColor
from timm.data import create_transform
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import to_tensor

from demo.errors import ImageRejected
from demo.images import on_white

MAX_SIDE = 4096
"""Longest side in pixels of a model's input, and of any step on the way there."""
MAX_STEPS = 16
MAX_CANVAS = 100_000_000
"""Most pixels of an image between two steps."""
TIMM = {"type": "timm"}
SQUARE = {"type": "pad_to_square"}


@dataclass(frozen=True)
class Preprocess:
    """Decoded image, mode RGB or RGBA, any size → float32 pixels (3, H, W), normalised.

    data: timm's data config (input_size, interpolation, mean, std, crop_pct, crop_mode).
    white: transparency lies on white; else it is dropped, and the colour under it shows.
    steps: what is done in turn, each an object with a `type` as in `preprocess.json`.
    """

    data: dict[str, Any]
    white: bool = False
    steps: tuple[Mapping[str, Any], ...] = (TIMM,)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Raises ImageRejected for an image so long and thin that a step would fill the memory."""
        pixels = self.rgb(image)
        for step in self._compiled:
            pixels = step(pixels)
        return pixels

    def rgb(self, image: Image.Image) -> Image.Image:
        """The image without its alpha, as the checkpoint's family would see it."""
        if image.mode == "RGB":  # converted to what it is already, it would be copied
            return image
        return on_white(image) if self.white else image.convert("RGB")

    def with_data(self, data: dict[str, Any]) -> Preprocess:
        """The same for another input size or crop: timm's transform, after what comes before it here."""
        return replace(self, data=data, steps=self.steps if TIMM in self.steps else (TIMM,))

    def to_config(self) -> dict[str, Any]:
        """What `from_config` reads beside `data`; empty where it is plain timm."""
        plain = not self.white and self.steps == (TIMM,)
        return {} if plain else {"white": self.white, "steps": [dict(step) for step in self.steps]}

    @classmethod
    def from_config(cls, data: dict[str, Any], config: Mapping[str, Any]) -> Preprocess:
        """Tried on an image. Steps without timm's say themselves what `data` is: input_size, mean, std.

        Raises ValueError, TypeError or KeyError for steps that cannot be taken.
        """
        steps = tuple(config.get("steps", (TIMM,)))
        if not 0 < len(steps) <= MAX_STEPS:
            raise ValueError(f"{len(steps)} steps")
        if TIMM in steps:
            channels, height, width = data["input_size"]
            if channels != 3 or not all(0 < side <= MAX_SIDE for side in (height, width)):
                raise ValueError(f"input_size is {data['input_size']}")
        else:
            told = {"crop_pct": 1.0, "crop_mode": "center", "mean": (0.0,) * 3, "std": (1.0,) * 3}
            for step in steps:
                if step["type"] == "resize":
                    told["interpolation"] = _filter(step).value
                elif step["type"] == "normalize":
                    told |= {key: tuple(_three(step[key])) for key in ("mean", "std")}
            data = data | told
            resize, *others = steps
            is_squash = [step["type"] for step in others] == ["to_tensor", "normalize"] and resize["type"] == "resize"
            if is_squash and len(_sides(resize["size"])) == 2:  # timm has this too, and can do without us
                data, steps = data | {"crop_mode": "squash", "input_size": (3, *resize["size"])}, (TIMM,)
        made = cls(data, bool(config.get("white", False)), steps)
        pixels = made(Image.new("RGB", (8, 8)))
        if not isinstance(pixels, torch.Tensor) or pixels.ndim != 3 or len(pixels) != 3:
            raise ValueError("the steps do not end in pixels of three channels")
        if not torch.isfinite(pixels).all():
            raise ValueError(f"std is {data['std']}")
        return replace(made, data=data | {"input_size": tuple(pixels.shape)})

    @cached_property
    def _compiled(self) -> list[Callable[[Any], Any]]:
        unknown = [step["type"] for step in self.steps if step["type"] not in _STEPS]
        if unknown:
            raise ValueError(f"the step {unknown[0]!r} is not one of {', '.join(_STEPS)}")
        return [_STEPS[step["type"]](step, self.data) for step in self.steps]


def steps_of(processor: Mapping[str, Any], default: str) -> tuple[list[dict[str, Any]], tuple[int, int]]:
    """The steps that a `preprocessor_config.json` of transformers means, and the (height, width) that comes out.

    default: its kind where it names none. Raises ValueError, TypeError, KeyError or IndexError.
    """
    kind = str(processor.get("image_processor_type") or processor.get("feature_extractor_type") or default)
    kind = re.sub("(Fast|Pil)$", "", kind.replace("FeatureExtractor", "ImageProcessor"))
    if kind not in _PROCESSORS:
        raise ValueError(f"images are made by a {kind}, not by one of {', '.join(_PROCESSORS)}")
    told = _PROCESSORS[kind] | {key: value for key, value in processor.items() if value is not None}
    for unknown in ("do_pad", "do_flip_channel_order", "do_grayscale"):
        if told.get(unknown):
            raise ValueError(f"images need {unknown}")
    steps: list[dict[str, Any]] = []
    size: list[int] = []
    if told.get("do_resize", True):
        size = _hw(told["size"], square=kind != "BitImageProcessor")
        steps.append({"type": "resize", "size": size, "interpolation": _RESAMPLING[told["resample"]]})
    if told.get("do_center_crop"):
        size = _hw(told["crop_size"], square=True)
        steps.append({"type": "center_crop", "size": size, "rounding": "down"})
    height, width = _sides(size)
    # (value × factor − mean) / std, for values from 0 to 1 and not to 255
    factor = 255 * told.get("rescale_factor", 1 / 255) if told.get("do_rescale", True) else 255.0
    mean, std = (told["image_mean"], told["image_std"]) if told.get("do_normalize", True) else ([0.0] * 3, [1.0] * 3)
    normal = {"mean": [value / factor for value in mean], "std": [value / factor for value in std]}
    return [*steps, {"type": "to_tensor"}, {"type": "normalize", **normal}], (height, width)


def _sides(value: object) -> list[int]:
    """One or two sides in pixels."""
    sides = [value] if isinstance(value, int) else value
    if not isinstance(sides, list | tuple) or len(sides) not in (1, 2):
        raise ValueError(f"size is {value!r}")
    if not all(type(side) is int and 0 < side <= MAX_SIDE for side in sides):
        raise ValueError(f"size is {value!r}")
    return list(sides)


def _two(value: object) -> list[int]:
    sides = _sides(value)
    return sides * 2 if len(sides) == 1 else sides


def _three(value: object) -> list[float]:
    values = [float(item) for item in (value if isinstance(value, list | tuple) else [value])]
    return values * 3 if len(values) == 1 else values


def _filter(step: Mapping[str, Any]) -> InterpolationMode:
    return InterpolationMode(step.get("interpolation", "bilinear"))


def _check_canvas(image: Image.Image, pixels: float) -> None:
    if pixels > MAX_CANVAS:
        raise ImageRejected(
            f"This image has {image.width} × {image.height} pixels.",
            "It is too long and thin to be prepared for this model.",
            "Crop it first.",
        )


def _in_proportion(resize: Callable, shorter: float) -> Callable:
    """A resize that brings the shorter side to so many pixels, unless the longer one would take all memory."""

    def checked(image: Image.Image) -> Any:
        _check_canvas(image, shorter**2 * max(image.size) / min(image.size))
        return resize(image)

    return checked


def _timm(step: Mapping[str, Any], data: Mapping[str, Any]) -> Callable:
    transform = create_transform(**data, is_training=False)
    fits = data.get("crop_mode") in ("squash", "border")
    return transform if fits else _in_proportion(transform, max(data["input_size"][1:]) / (data.get("crop_pct") or 1))


def _pad_to_square(step: Mapping[str, Any], data: Mapping[str, Any]) -> Callable:
    def pad(image: Image.Image) -> Image.Image:
        side = max(image.size)
        _check_canvas(image, side**2)
        canvas = Image.new("RGB", (side, side), "white")
        canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return canvas

    return pad


def _pad_to_size(step: Mapping[str, Any], data: Mapping[str, Any]) -> Callable:
    """Fit into `size` (width, height), the rest in `background_color`."""
    width, height = _two(step["size"])
    colour = step.get("background_color", "white")
    colour = ImageColor.getrgb(colour)[:3] if isinstance(colour, str) else tuple(map(int, _three(colour)))
    resample = Image.Resampling[_filter(step).value.upper()]

    def pad(image: Image.Image) -> Image.Image:
        ratio = min(width / image.width, height / image.height)
        inner = [max(round(side * ratio), 1) for side in image.size]
        canvas = Image.new("RGB", (width, height), colour)
        canvas.paste(image.resize(inner, resample), ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return canvas

    return pad


def _resize(step: Mapping[str, Any], data: Mapping[str, Any]) -> Callable:
    """One side: the shorter one, the other in proportion. Two: (height, width)."""
    sides, longest = _sides(step["size"]), step.get("max_size")
    if longest is not None:
        longest = _sides(longest)[0]
    resize = transforms.Resize(sides, _filter(step), max_size=longest, antialias=True)
    return _in_proportion(resize, sides[0]) if len(sides) == 1 and longest is None else resize


def _center_crop(step: Mapping[str, Any], data: Mapping[str, Any]) -> Callable:
    """`size` (height, width); half a pixel is rounded as torchvision does, or down as transformers does."""
    height, width = _two(step["size"])
    if step.get("rounding") != "down":
        return transforms.CenterCrop((height, width))

    def crop(image: Image.Image) -> Image.Image:
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))

    return crop


def _normalize(step: Mapping[str, Any], data: Mapping[str, Any]) -> Callable:
    return transforms.Normalize(_three(step["mean"]), _three(step["std"]))


_STEPS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Callable]] = {
    "timm": _timm,
    "pad_to_square": _pad_to_square,
    "pad_to_size": _pad_to_size,
    "resize": _resize,
    "center_crop": _center_crop,
    "to_tensor": lambda step, data: to_tensor,
    "maybe_to_tensor": lambda step, data: to_tensor,
    "normalize": _normalize,
}


def _hw(size: Any, square: bool) -> list[int]:
    """(height, width), or the shorter side alone."""
    if isinstance(size, int):
        return [size, size] if square else [size]
    return [size["height"], size["width"]] if "height" in size else [size["shortest_edge"]]


_RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""By Pillow's numbers."""
_HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_PROCESSORS: dict[str, dict[str, Any]] = {
    "ViTImageProcessor": {"size": 224, "resample": 2, **_HALF},
    "DeiTImageProcessor": {"size": 256, "resample": 3, "do_center_crop": True, "crop_size": 224, **_HALF},
    "BeitImageProcessor": {"size": 224, "resample": 3, "crop_size": 224, **_HALF},
    "BitImageProcessor": {
        "size": 224,
        "resample": 3,
        "do_center_crop": True,
        "crop_size": 224,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
}
"""What each of transformers' image processors does where its file says nothing."""
