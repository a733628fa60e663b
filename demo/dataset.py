"""A CSV and its images become what training needs: partly known targets, and augmented pixels.

Targets are float32 in [0, 1]; `kind` says of each cell what it teaches: KNOWN (a person decided), SOFT (the old
model's probability), UNUSED. Reading tables is `demo.tables`'; decoding is `demo.images`'.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from demo import images
from demo.errors import BadInput, ImageRejected
from demo.preprocessing import Preprocess

UNUSED, SOFT, KNOWN = 0, 1, 2


@dataclass(frozen=True)
class Cells:
    """values: (N, L) float32 in [0, 1]. kind: (N, L) uint8 of KNOWN, SOFT, UNUSED. present: (N, L) bool, confirmed."""

    values: np.ndarray
    kind: np.ndarray
    present: np.ndarray

    @classmethod
    def build(
        cls, targets: np.ndarray, unknown: str, teacher: np.ndarray | None = None, teacher_share: float = 0.0
    ) -> Cells:
        """From targets (N, L) of 1, 0, -1 and the old model's scores (N, L), NaN where it has none.

        unknown: "distill" gives unknown cells the teacher's score, "ignore" leaves them unused, "negative" makes
        them absent. Where there is no teacher, for a fresh label, "distill" has it softly absent, until
        `demo.folds.self_taught` looks closer: nobody looked for it there, and from its own photos alone it would be
        learned as everywhere. Without any photo of its own it learns nothing. teacher_share mixes the teacher into
        known cells too.
        """
        known = targets >= 0
        values = np.where(known, targets, 0).astype(np.float32)
        kind = np.where(known, KNOWN, UNUSED).astype(np.uint8)
        if unknown == "negative":
            kind[:] = KNOWN
        elif unknown == "distill" and teacher is not None:
            soft = ~known & np.isfinite(teacher)
            values[soft], kind[soft] = teacher[soft], SOFT
            kind[~known & np.isnan(teacher) & known.any(0)] = SOFT
        if teacher is not None and teacher_share > 0:
            mixed = known & np.isfinite(teacher)
            values[mixed] = (1 - teacher_share) * values[mixed] + teacher_share * teacher[mixed]
        return cls(values, kind, targets == 1)


def read_image(path: Path) -> Image.Image:
    """One decoded image, RGB or RGBA; raises BadInput with the file's name."""
    with _named(path):
        return images.decode(path.read_bytes())


def read_pixels(path: Path, preprocess: Preprocess) -> torch.Tensor:
    """Pixels (3, H, W) of an image file; raises BadInput with its name, for a shape that the model cannot take too."""
    image = read_image(path)
    with _named(path):
        return preprocess(image)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except (ImageRejected, OSError) as error:
        raise BadInput(f"{path} cannot be used: {error}", next_step="Replace it or take its row out.") from error


def unreadable(paths: Sequence[Path], read: Callable[[Path], object] = read_image) -> list[tuple[int, str]]:
    """Position and complaint of every image for which `read` raises BadInput."""

    def complaint(path: Path) -> str:
        try:
            read(path)
        except BadInput as error:
            return error.what
        return ""

    with ThreadPoolExecutor(4) as pool:
        return [(position, text) for position, text in enumerate(pool.map(complaint, paths)) if text]


def require_readable(paths: Sequence[Path], preprocess: Preprocess) -> None:
    """Raise BadInput that names every image of which no pixels can be made, ten of them in full."""
    if bad := [text for _, text in unreadable(paths, partial(read_pixels, preprocess=preprocess))]:
        more = [f"and {len(bad) - 10} more"] if len(bad) > 10 else []
        raise BadInput(
            f"{len(bad)} of {len(paths)} images cannot be used:",
            "".join(f"\n  {text}" for text in bad[:10] + more) + "\n",
            "Replace them or take their rows out.",
        )


def augmentation(data: dict, min_crop: float, flip: bool = True) -> v2.Compose:
    """Training pixels (3, H, W) for a timm data config: random crop and flip, a little colour, normalised.

    Recipe: random resized crop of `min_crop` to 1 of the area, flip, as in fastai's and timm's fine-tuning; without
    the flip where labels name sides or text.
    """
    size = tuple(data["input_size"][-2:])
    return v2.Compose(
        [
            v2.ToImage(),
            v2.RandomResizedCrop(size, (min_crop, 1.0), (0.75, 1.333), v2.InterpolationMode.BICUBIC, antialias=True),
            *([v2.RandomHorizontalFlip()] if flip else []),
            v2.ColorJitter(0.2, 0.2, 0.2),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(data["mean"], data["std"]),
        ]
    )


class TrainingPhotos(Dataset):
    """Augmented photos with their cells; item i depends on (seed, epoch, i) alone, so a resumed run is the same.

    mosaic: the share of items that are four photos in a 2 by 2 grid. A grid has a label that any of its photos
    has, lacks one that all are known to lack, and takes the highest of its teacher scores otherwise.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        cells: Cells,
        preprocess: Preprocess,
        seed: int,
        mosaic: float = 0.0,
        min_crop: float = 0.6,
        flip: bool = True,
    ) -> None:
        self.paths, self.cells, self.seed, self.mosaic = list(paths), cells, seed, mosaic
        self.preprocess, data = preprocess, preprocess.data
        self.epoch = 0
        self.order = np.arange(len(paths))
        self.height, self.width = data["input_size"][-2:]
        self.whole = augmentation(data, min_crop, flip)
        self.quarter = augmentation(data | {"input_size": (3, self.height // 2, self.width // 2)}, min_crop, flip)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, item: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pixels (3, H, W), values (L,) float32, kind (L,) uint8."""
        rng = np.random.default_rng((self.seed, self.epoch, item))
        row = int(self.order[item])
        grid = rng.random() < self.mosaic
        # torchvision draws from torch's global generator
        torch.manual_seed(int(rng.integers(2**62)))
        if not grid:
            return self.whole(self._photo(row)), *self._cells([row])
        rows = [row, *rng.choice(self.order, 3)]
        tiles = [self.quarter(self._photo(tile)) for tile in rows]
        pixels = torch.cat([torch.cat(tiles[:2], 2), torch.cat(tiles[2:], 2)], 1)
        pixels = torch.nn.functional.pad(pixels, (0, self.width % 2, 0, self.height % 2), mode="replicate")
        return pixels, *self._cells(rows)

    def _photo(self, row: int) -> Image.Image:
        return self.preprocess.rgb(read_image(self.paths[row]))

    def _cells(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        values, kind = self.cells.values[rows], self.cells.kind[rows]
        if len(rows) == 1:
            return torch.from_numpy(values[0]), torch.from_numpy(kind[0])
        of_present = self.cells.present[rows]
        present = of_present.any(0)
        joined = np.where(present, values.max(0, where=of_present, initial=0), values.max(0))
        return torch.from_numpy(joined), torch.from_numpy(np.where(present, KNOWN, kind.min(0)).astype(np.uint8))


class PlainPhotos(Dataset):
    """Photos through the checkpoint's own preprocessing: pixels (3, H, W)."""

    def __init__(self, paths: Sequence[Path], preprocess: Preprocess, count: int = 1) -> None:
        self.paths, self.preprocess, self.count = list(paths), preprocess, count

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: int) -> torch.Tensor:
        """Pixels (V, 3, H, W): the whole photo, and with five views its overlapping quarters."""
        image = read_image(self.paths[item])
        return torch.stack([self.preprocess(view) for view in views(image)[: self.count]])


def views(image: Image.Image) -> list[Image.Image]:
    """The image and its four quarters, each 5/9 of a side, so that neighbours overlap by a fifth of their side."""
    width, height = image.size
    w, h = max(round(width * 5 / 9), 1), max(round(height * 5 / 9), 1)
    corners = [(0, 0), (width - w, 0), (0, height - h), (width - w, height - h)]
    return [image, *(image.crop((x, y, x + w, y + h)) for x, y in corners)]


def repeats(targets: np.ndarray, often: float, rng: np.random.Generator) -> np.ndarray:
    """Row numbers, rows with labels rarer than `often` (a share of the rows) repeated: r = max over its labels.

    Repeat-factor sampling, sqrt(often / frequency), of Gupta, Dollár and Girshick, "LVIS", CVPR 2019; the
    fraction is drawn. With `often` 0 every row comes once.
    """
    frequency = (targets == 1).mean(0)
    factor = np.sqrt(often / np.maximum(frequency, 1e-9))
    row_factor = np.maximum(np.where(targets == 1, factor, 0).max(1, initial=0), 1)
    whole = np.floor(row_factor + rng.random(len(targets))).astype(int)
    return rng.permutation(np.repeat(np.arange(len(targets)), whole))


def loader(dataset: Dataset, batches: int | list[list[int]], workers: int) -> DataLoader:
    """Batches of so many items in the dataset's order, or of the items listed."""
    how = {"batch_size": batches} if isinstance(batches, int) else {"batch_sampler": batches}
    return DataLoader(dataset, **how, num_workers=workers, worker_init_fn=_leave_signals_to_the_parent)


def _leave_signals_to_the_parent(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def batched(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
