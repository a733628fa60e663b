"""`python -m demo.finetune --check`: what a run would read and learn from, before it takes anybody's afternoon.

Lists every bad row with its line, walks one photo through the pipeline with shapes and ranges, and draws a grid of
augmented photos with what is said of them. Trains nothing and leaves the out folder alone.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from demo import head
from demo.dataset import KNOWN, SOFT, UNUSED, Cells, TrainingPhotos, read_image, unreadable
from demo.durable import make_folder, put
from demo.errors import BadInput
from demo.plan import Plan
from demo.tables import Merged
from demo.training import cell_loss

KINDS = {"known": KNOWN, "soft": SOFT, "unused": UNUSED}
COLUMNS, TILES, SIDE, CAPTION = 4, 12, 240, 64
"""A grid of at most so many tiles, each of so many pixels with a caption of so many below it."""


def list_bad_rows(problems: Sequence[str], rows: Sequence[Merged], unit: str) -> list[Merged]:
    """Print every bad line to stderr, those of images that do not decode too; gives the rows that can be used.

    unit: what the numbers before the problems count, "line" or "image".
    """
    bad = dict(unreadable([image.path for image in rows]))
    lines = [*problems]
    for position, complaint in bad.items():
        lines += [f"{unit} {row.line}: {complaint}" for row in rows[position].rows]
    for line in sorted(lines, key=lambda text: int(text.removeprefix(f"{unit} ").partition(":")[0])):
        print(line, file=sys.stderr)
    good = [image for position, image in enumerate(rows) if position not in bad]
    total = len(problems) + sum(len(image.rows) for image in rows)
    print(f"{len(lines)} of {total} rows cannot be used", file=sys.stderr if lines else sys.stdout)
    return good


def check(plan: Plan, flags: argparse.Namespace, grid: Path) -> None:
    """Say what there is, walk one photo through, and write the picture `grid`. Raises BadInput where it cannot be."""
    photos, recipe, targets = plan.photos, plan.recipe, plan.photos.targets
    print(f"{len(photos)} images, {int(photos.is_valid.sum())} held out, {targets.shape[1]} labels")
    print("cells: {} present, {} absent, {} unknown".format(*((targets == value).sum() for value in (1, 0, -1))))
    training = photos.where(~photos.is_valid)
    cells, preprocess = Cells.build(training.targets, flags.unknown), plan.base.preprocess
    drawn = (recipe.seed, recipe.mosaic, recipe.min_crop, recipe.flip)
    augmented = TrainingPhotos(training.paths, cells, preprocess, *drawn)
    walk(plan, augmented, flags)
    try:
        make_folder(grid.resolve().parent)
        put(grid, picture(augmented, tuple(plan.origins), training.file_names))
    except OSError as error:
        raise BadInput(f"{grid} cannot be written.", f"{error.strerror}.", "Name another --out.") from error
    print(f"{grid}: {min(TILES, len(training))} augmented photos with what is said of them")


def walk(plan: Plan, augmented: TrainingPhotos, flags: argparse.Namespace) -> None:
    """Print every step of the first photo that decides something: file, image, pixels, features, scores, loss."""
    training, base = plan.photos.where(~plan.photos.is_valid), plan.base
    row = int((training.targets >= 0).any(1).argmax())
    path = training.paths[row]
    image = read_image(path)
    print(f"{training.file_names[row]}:")
    _step("file", f"{path.stat().st_size} bytes")
    _step("decoded", f"{image.width}×{image.height} {image.mode}, {_range(np.asarray(image))}")
    pixels = base.preprocess(image)
    _step("pixels", f"{_shape(pixels)}, {_range(pixels)}")
    _step("augmented pixels", f"{_shape(augmented[row][0])}, {_range(augmented[row][0])}")
    with torch.inference_mode():
        hidden = base.model.eval().forward_head(base.model.forward_features(pixels[None]), pre_logits=True)
        logits = base.model.get_classifier()(hidden).float()
    _step("features", f"{_shape(hidden[0])}, {_range(hidden)}")
    _step("old logits", f"{_shape(logits[0])}, {_range(logits)}")
    scores = (logits.softmax(-1) if base.single_label else logits.sigmoid()).numpy()
    _step("old scores", f"{_shape(logits[0])}, {_range(scores)}")
    teacher = head.teacher_scores(scores, base, plan.origins)
    # of all photos: what a fresh label's unknown cell teaches depends on whether another one decides it
    of_all = np.broadcast_to(teacher, training.targets.shape)
    cells = Cells.build(training.targets, flags.unknown, of_all, flags.teacher_share)
    values, kind = cells.values[row], cells.kind[row]
    counts = (f"{(kind == which).sum()} {name}" for name, which in KINDS.items())
    _step("targets", f"{values.shape} {values.dtype}, {_range(values)}; cells: {', '.join(counts)}")
    start = torch.logit(torch.from_numpy(np.nan_to_num(teacher, nan=0.5)), eps=1e-6)
    loss = cell_loss(start, torch.from_numpy(values)[None], torch.from_numpy(kind)[None], plan.recipe)
    _step("loss", f"{loss.item():.4f} before training")


def picture(augmented: TrainingPhotos, names: Sequence[str], file_names: Sequence[str]) -> bytes:
    """A PNG of the first epoch's first photos as the training sees them, captions below; they are printed too."""
    data, count = augmented.preprocess.data, min(TILES, len(augmented))
    mean, std = (torch.tensor(data[key]).view(3, 1, 1) for key in ("mean", "std"))
    columns = min(COLUMNS, count)
    sheet = Image.new("RGB", (columns * SIDE, -(-count // columns) * (SIDE + CAPTION)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for item in range(count):
        pixels, values, kind = augmented[item]
        shown = ((pixels * std + mean).clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
        tile = Image.fromarray(shown)
        tile.thumbnail((SIDE - 8, SIDE - 8))
        left, top = item % columns * SIDE, item // columns * (SIDE + CAPTION)
        sheet.paste(tile, (left + 4, top + 4))
        said = {
            word: [names[column] for column in torch.nonzero((kind == KNOWN) & ((values >= 0.5) == present)).flatten()]
            for word, present in (("", True), ("not ", False))
        }
        file_name = file_names[int(augmented.order[item])]
        lines = [f"{item + 1}: {Path(file_name).name}"]
        lines += [word + ", ".join(found) for word, found in said.items() if found]
        print("  " + "; ".join(_printable(line) for line in lines))
        for number, line in enumerate(lines):
            draw.text((left + 6, top + SIDE + 18 * number), _fitting(_printable(line), font), "black", font)
    target = io.BytesIO()
    sheet.save(target, "PNG")
    return target.getvalue()


def _fitting(text: str, font: ImageFont.FreeTypeFont) -> str:
    """The text, cut so that it fits a tile."""
    if font.getlength(text[:200]) <= SIDE - 12 and len(text) <= 200:
        return text
    kept = next(end for end in range(min(len(text), 200), -1, -1) if font.getlength(text[:end] + "…") <= SIDE - 12)
    return text[:kept] + "…"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "·" for character in text)


def _step(name: str, what: str) -> None:
    print(f"  {name:<17} {what}")


def _shape(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _range(values: np.ndarray | torch.Tensor) -> str:
    return f"{float(values.min()):.3g} to {float(values.max()):.3g}"
