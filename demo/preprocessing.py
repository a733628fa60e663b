"""Decoded images become pixels: one `Preprocess` per checkpoint, as its family does it.

Alpha is settled here, because families differ: timm's and transformers' own loaders drop it, the anime taggers
paint it onto white. Augmentation for training is `demo.dataset`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from timm.data import create_transform

from demo.images import on_white


@dataclass(frozen=True)
class Preprocess:
    """Decoded image, mode RGB or RGBA, any size → float32 pixels (3, H, W), normalised.

    data: timm's data config (input_size, interpolation, mean, std, crop_pct, crop_mode).
    white: transparency lies on white; else it is dropped, and the colour under it shows.
    """

    data: dict[str, Any]
    white: bool = False

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return self._transform(self.rgb(image))

    def rgb(self, image: Image.Image) -> Image.Image:
        """The image without its alpha, as the checkpoint's family would see it."""
        return on_white(image) if self.white else image.convert("RGB")

    @cached_property
    def _transform(self) -> Callable[[Image.Image], torch.Tensor]:
        return create_transform(**self.data, is_training=False)
