"""What 100 corrections of one label teach: python -m benchmarks.corrections --csv FILE --model REF --labels MAP.json

For each label that the map starts fresh, a *base* is trained on the rows that are not `is_valid`, with that label's
cells hidden: a head on frozen features. Then 100 of those photos, drawn by a seed, decide that label alone, and
`python -m demo.finetune --train head` learns from them. The rows that are `is_valid` measure base, corrected model,
and a head that was taught everything. Seconds are the whole command's; those of CPU, of all its processes, say what
it would take beside nothing else.

A flip is a decision on another label that came out otherwise on those photos, decided or not, with each model at its
own recommended threshold: where the page's slider starts.

From a ViT-Tiny of ImageNet, means of five scenes (November 2026): AP 0.247 before, 0.932 after, 0.961 with everything
taught; 0.34 % of other decisions flipped; 9.7 seconds, 11.7 of CPU.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.frozen import Frozen, arguments, first_head, freeze, read, recipe, scores, write_csv
from demo import head
from demo.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from demo.metrics import average_precisions
from demo.settings import ROOT
from demo.thresholds import active, sweep

CORRECTED = 100
SEED = 0


def as_checkpoint(frozen: Frozen, linear: torch.nn.Linear, targets: np.ndarray) -> Checkpoint:
    """The start with this head, its threshold the best on targets (N, L) of the photos that measure."""
    held_out = frozen.photos.is_valid
    threshold = sweep(scores(linear, frozen.features[held_out]), targets[held_out]).best()
    base = replace(frozen.start, model=copy.deepcopy(frozen.start.model), metrics={"threshold": threshold})
    head.linear_head(base).load_state_dict(linear.state_dict())
    return base


def fine_tuned(csv: Path, base: Path, out: Path) -> tuple[Checkpoint, float, float]:
    """The new model, the seconds of the whole command, and the seconds of CPU that it took."""
    command = [sys.executable, "-m", "demo.finetune", "--csv", csv, "--model", base, "--out", out]
    started, before = time.perf_counter(), os.times()
    done = subprocess.run([*command, "--train", "head", "--device", "cpu"], cwd=ROOT, capture_output=True, text=True)
    seconds, after = time.perf_counter() - started, os.times()
    if done.returncode:
        raise SystemExit(done.stderr)
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return load_checkpoint(out), seconds, spent


def main() -> None:
    given = arguments(__doc__).parse_args()
    frozen = freeze(*read(Path(given.csv).absolute(), given.model, given.labels))
    photos, how = frozen.photos, recipe("bce", SEED)
    taught, measured = np.flatnonzero(~photos.is_valid), np.flatnonzero(photos.is_valid)
    features, truth = frozen.features[measured], photos.targets[measured]
    everything = average_precisions(scores(first_head(frozen, taught, photos.targets[taught], how), features), truth)
    print(f"{len(taught)} photos to train on, {len(measured)} to measure; {CORRECTED} corrections of one label")
    titles = ("seconds", "CPU seconds", "base AP", "corrected", "everything", "gap closed", "flips", "thresholds")
    print(f"{'label':<10}" + "".join(f"{title:>12}" for title in titles))
    table = []
    for column, (label, origin) in enumerate(frozen.origins.items()):
        if origin:
            continue
        targets = photos.targets.copy()
        targets[:, column] = -1
        rng = np.random.default_rng((SEED, column))
        rows = rng.choice(taught[photos.targets[taught, column] >= 0], CORRECTED, replace=False)
        with tempfile.TemporaryDirectory() as folder:
            base = as_checkpoint(frozen, first_head(frozen, taught, targets[taught], how), targets)
            save_checkpoint(Path(folder, "base"), base)
            before = scores(head.linear_head(base), features)
            corrections = photos.where(np.isin(np.arange(len(photos)), rows))
            csv = Path(folder, "corrections.csv")
            write_csv(csv, replace(corrections, targets=corrections.targets[:, [column]]), [label])
            new, seconds, spent = fine_tuned(csv, Path(folder, "base"), Path(folder, "new"))
        after = scores(head.linear_head(new), features)
        ap, corrected = (average_precisions(said, truth)[column] for said in (before, after))
        closed = (corrected - ap) / (everything[column] - ap)
        changed = active(before, base.threshold) != active(after, new.threshold)
        flips = np.delete(changed, column, axis=1).mean()
        table.append((seconds, spent, ap, corrected, everything[column], closed, flips))
        shown = f"{base.threshold:.2f}, {new.threshold:.2f}"
        print(f"{label:<10}" + line(*table[-1]) + f"{shown:>12}", flush=True)
    print(f"{'mean':<10}" + line(*np.mean(table, axis=0)))


def line(
    seconds: float, spent: float, ap: float, corrected: float, everything: float, closed: float, flips: float
) -> str:
    cells = (f"{seconds:.1f}", f"{spent:.1f}", f"{ap:.3f}", f"{corrected:.3f}", f"{everything:.3f}")
    return "".join(f"{cell:>12}" for cell in (*cells, f"{closed:.0%}", f"{flips:.2%}"))


if __name__ == "__main__":
    main()
