"""The out folder of a fine-tune while it is no checkpoint yet: what may lie in it, whose it is, and how it stops.

A run leaves `state.json` and `state.safetensors` after every epoch; its fingerprint says which flags, model and
corrections they belong to, so that `--resume` never mixes two runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import threading
from pathlib import Path

from demo.durable import WRITING, make_folder, sweep
from demo.errors import BadInput, Interrupted
from demo.layouts import CARD, CONFIG, METRICS, TAGS, WEIGHTS
from demo.plan import Plan
from demo.progress import LOG, PROGRESS
from demo.report import REPORT

STATE, STATE_WEIGHTS = "state.json", "state.safetensors"
_BEGUN = {LOG, STATE, STATE_WEIGHTS, PROGRESS}
_UNFINISHED = {WEIGHTS, TAGS, METRICS, CARD, REPORT}
_BY_CONTENT = (
    *("resume", "check", "out", "device", "workers", "csv", "model", "labels"),
    *("weight", "pos_weight", "replay"),
)
"""Flags that may change between a run and its going on: what they name is compared by content."""


def stop_file(folder: Path) -> Path:
    """Beside a run's folder, however that is written; while it is there a run stops that can hear no signal."""
    folder = folder.resolve()  # "." has no name
    return folder.parent / f"{folder.name}.stop"


class Stop:
    """Raises Interrupted between two steps, once it is asked for; a context.

    By SIGINT or SIGTERM in a main thread, by `stop_file` in any other, which hears no signal.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, False
        self._file = None if threading.current_thread() is threading.main_thread() else stop_file(folder)

    def __enter__(self) -> Stop:
        heard = () if self._file else (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._ask) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> None:
        if self.asked or (self._file and self._file.exists()):
            raise Interrupted("Interrupted.", f"{self.folder} is no checkpoint yet.", "Go on with --resume.")

    def _ask(self, *_: object) -> None:
        self.asked = True


def prepare(folder: Path, flags: argparse.Namespace, plan: Plan) -> str:
    """Make the out folder and give this run's fingerprint. Raises BadInput for a folder with other things in it."""
    fingerprint = require_free(folder, flags, plan)
    try:
        make_folder(folder.resolve())
    except OSError as error:
        raise _not_made(folder, error) from error
    sweep(folder)
    return fingerprint


def require_free(folder: Path, flags: argparse.Namespace, plan: Plan) -> str:
    """Give the fingerprint of a run that this folder, where there is one, is for; raises BadInput where it is not."""
    told = {key: value for key, value in sorted(vars(flags).items()) if key not in _BY_CONTENT}
    photos, weights = plan.photos, (plan.recipe.weight, plan.recipe.pos_weight)
    cells = hashlib.sha256(photos.targets.tobytes() + photos.is_valid.tobytes()).hexdigest()
    content = json.dumps(
        [
            told,
            plan.base.identity,
            list(plan.origins.items()),
            photos.file_names,
            cells,
            [None if weight is None else weight.tolist() for weight in weights],
            plan.digests.tolist(),
        ]
    )
    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    try:
        held = {path.name for path in folder.iterdir() if not path.name.startswith(WRITING)}
    except FileNotFoundError:
        held = set()
    except OSError as error:
        raise _not_made(folder, error) from error
    if CONFIG in held:
        raise BadInput(f"--out {folder} already holds a checkpoint.", next_step="Name a new folder.")
    if held - {LOG} and not flags.resume:
        raise BadInput(f"--out {folder} is not empty.", next_step="Name a new folder, or go on with --resume.")
    if flags.resume and held - (_BEGUN | _UNFINISHED if PROGRESS in held else _BEGUN):
        raise BadInput(f"--out {folder} holds files of something else.", next_step="Name the folder of the run.")
    if STATE in held and json.loads((folder / STATE).read_text())["fingerprint"] != fingerprint:
        raise BadInput(
            f"{folder} was begun with other flags, another model or other corrections.",
            next_step="Use those, or a new folder.",
        )
    return fingerprint


def _not_made(folder: Path, error: OSError) -> BadInput:
    return BadInput(f"--out {folder} cannot be made.", f"{error.strerror}.", "Name a new folder.")
