"""Heat maps: milliseconds a map, and whether it lies on the photo that has the label.

    python -m benchmarks.why [--csv photos.csv]

Times are of the embedded model on the example photos, decoded. With --csv (the corrections CSV) photos are put side by
side in pairs, and the map is asked for a label that one has and the other lacks. Printed are the share of the map on
the right photo, how often its highest point lies there, and by how much the logit falls when the fifth of the patches
that it ranks highest is made grey; the same for other methods.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from demo.checkpoint import load_checkpoint
from demo.heatmaps import Evidence
from demo.images import decode
from demo.settings import EXAMPLES
from demo.tagger import Tagger

PAIRS, ROUNDS, SIDE = 60, 20, 288
Case = tuple[Image.Image, int, tuple]


def times(tagger: Tagger) -> None:
    first, more, tag = [], [], []
    images = [decode(path.read_bytes()) for path in sorted(EXAMPLES.glob("*.jpg"))]
    for turn in range(ROUNDS):
        image, started = images[turn % len(images)], time.perf_counter()
        tagger.tag(image)
        tag.append(time.perf_counter() - started)
        started = time.perf_counter()
        evidence = Evidence(tagger, image)
        evidence.heatmap(0)
        first.append(time.perf_counter() - started)
        for label in range(1, 5):
            started = time.perf_counter()
            evidence.heatmap(label)
            more.append(time.perf_counter() - started)
    for name, seconds in (("scores alone", tag), ("first label", first), ("further label", more)):
        median, high = 1000 * np.median(seconds), 1000 * np.percentile(seconds, 95)
        print(f"{name:<14}{median:7.0f} ms, at the 95th percentile {high:.0f}")


def cases(tagger: Tagger, path: Path) -> list[Case]:
    """Pairs, the position of a label, and the half where it is."""
    names = tagger.checkpoint.labels.names
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            (row["file_name"], json.loads(row["labels"]), set(json.loads(row["rejected"])))
            for row in csv.DictReader(file)
        ]
    chance, found = random.Random(0), []
    while len(found) < PAIRS:
        (one, has, _), (other, _, lacks) = chance.sample(rows, 2)
        labels = [label for label in has if label in lacks and label in names]
        if not labels:
            continue
        position = names.index(chance.choice(labels))
        photos = [
            ImageOps.fit(decode((path.parent / name).read_bytes()).convert("RGB"), (SIDE, SIDE))
            for name in (one, other)
        ]
        is_left = chance.random() < 0.5
        pair = Image.new("RGB", (2 * SIDE, SIDE))
        for photo, place in zip(photos, (0, SIDE) if is_left else (SIDE, 0), strict=True):
            pair.paste(photo, (place, 0))
        if (
            tagger.tag(pair).scores[position]
            >= tagger.checkpoint.threshold
            > 2 * tagger.tag(photos[1]).scores[position]
        ):
            found.append((pair, position, np.s_[:, :9] if is_left else np.s_[:, 9:]))
    return found


def methods(model: torch.nn.Module, pixels: torch.Tensor, label: int) -> dict[str, torch.Tensor]:
    """Maps (18, 18) by other methods, from activations and attention matrices written out."""
    kept: dict[str, list[torch.Tensor]] = {"norm": [], "attention": []}
    hooks = []
    for block in model.blocks:
        block.attn.fused_attn = False
        for name, module in (("norm", block.norm1), ("attention", block.attn.attn_drop)):
            hooks.append(module.register_forward_hook(lambda _, given, made, name=name: kept[name].append(made)))
    logit = model(pixels)[0, label]
    for hook in hooks:
        hook.remove()
    for block in model.blocks:
        block.attn.fused_attn = True
    norm, *matrices = kept["norm"][-1], *kept["attention"]
    gradient, *gradients = torch.autograd.grad(logit, [norm, *matrices])
    rolled = torch.eye(matrices[0].shape[-1])
    for matrix, slope in zip(matrices, gradients, strict=True):
        rolled = rolled + (matrix * slope)[0].relu().mean(0) @ rolled
    told = {
        "HiResCAM, last norm": (norm * gradient)[0].sum(-1),
        "Grad-CAM, last norm": norm[0] @ gradient[0, 1:].mean(0),
        "gradient of attention (LeGrad)": sum(slope[0].relu().mean((0, 1)) for slope in gradients),
        "attention × gradient, rolled out": rolled[0],
    }
    return {name: cells[1:].relu().reshape(18, 18).detach() for name, cells in told.items()}


def compare(tagger: Tagger, path: Path) -> None:
    model, found = tagger.checkpoint.model, {}
    for pair, label, half in cases(tagger, path):
        pixels = tagger.checkpoint.preprocess(pair)[None]
        ours = torch.from_numpy(Evidence(tagger, pair).heatmap(label).values)[None, None]
        cells = torch.nn.functional.interpolate(ours, (18, 18), mode="area")[0, 0]
        for name, told in {
            "gradient × value": cells,
            **methods(model, pixels, label),
            "chance": torch.rand(18, 18),
        }.items():
            grey = torch.ones(18 * 18).index_fill(0, told.flatten().topk(65).indices, 0).reshape(1, 1, 18, 18)
            with torch.no_grad():
                before, after = model(
                    torch.cat([pixels, pixels * grey.repeat_interleave(16, 2).repeat_interleave(16, 3)])
                )
            share = (told[half].sum() / told.sum()).item() if told.sum() > 0 else 0.5
            fall = (before - after)[label].item()
            found.setdefault(name, []).append((share, bool(told[half].max() == told.max()), fall))
    print(f"\n{'':<34}{'share':>8}{'highest':>9}{'fall':>7}")
    for name, rows in found.items():
        share, highest, fall = np.mean(rows, 0)
        print(f"{name:<34}{share:8.2f}{highest:9.2f}{fall:7.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, help="photos whose labels are known, as the corrections CSV has them")
    arguments = parser.parse_args()
    tagger = Tagger(load_checkpoint(), "cpu")
    times(tagger)
    if arguments.csv:
        compare(tagger, arguments.csv)


if __name__ == "__main__":
    main()
