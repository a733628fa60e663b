"""`python -m demo.finetune --check`: what a run would read, before it takes anybody's afternoon."""

from __future__ import annotations

from demo.checkpoint import Checkpoint
from demo.dataset import read_image
from demo.errors import EXIT_DONE
from demo.evaluate import Photos


def check(photos: Photos, base: Checkpoint) -> int:
    """What there is, and one photo's way through the pipeline."""
    targets = photos.targets
    print(f"{len(photos)} images, {int(photos.is_valid.sum())} held out, {targets.shape[1]} labels")
    counts = ((targets == value).sum() for value in (1, 0, -1))
    print("cells: {} present, {} absent, {} unknown".format(*counts))
    image = read_image(photos.paths[0])
    pixels = base.preprocess(image)
    print(f"{photos.file_names[0]}: {image.width}×{image.height} {image.mode}")
    print(f"pixels {tuple(pixels.shape)} {pixels.dtype}, {pixels.min():.2f} to {pixels.max():.2f}")
    print(f"targets {targets[0].shape} {targets.dtype}, {int((targets[0] >= 0).sum())} known")
    return EXIT_DONE
