"""Progress of long work: a bar with rate and ETA on the terminal, and a JSON file that a page can read.

The file is replaced whole, at most twice a second, so that a reader never sees half of it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from demo.durable import put

PROGRESS, LOG = "progress.json", "log.txt"
"""Beside each other in a run's folder; the log is what a run in a process of its own said on stderr."""
_SECONDS_BETWEEN_WRITES = 0.5


class Bar:
    """A bar on the terminal with a rate and an ETA, as a context."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self._bar = tqdm(total=total, desc=title, unit=unit, file=sys.stderr, dynamic_ncols=True)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def step(self, count: int = 1) -> None:
        self._bar.update(count)


class Progress:
    """One run's progress.

    The file holds `phase`, `step`, `steps`, `loss`, `seconds`, `eta_seconds` (None until known), `history` (one
    entry an epoch: phase, epoch of epochs, loss) and `state`: running, done, failed or interrupted, with `message`.
    Without a folder there is only the bar.
    """

    def __init__(self, folder: Path | None) -> None:
        self.path = None if folder is None else folder / PROGRESS
        self.started = time.monotonic()
        self.history: list[dict[str, Any]] = []
        self._written = 0.0
        self._bar: tqdm | None = None
        self._phase: dict[str, Any] = {"phase": "reading", "step": 0, "steps": 0, "loss": None, "eta_seconds": None}

    def phase(self, name: str, steps: int, done: int = 0) -> None:
        """Begin a phase of so many steps, `done` of them done before."""
        self._close_bar()
        self._bar = tqdm(total=steps, initial=done, desc=name, unit="step", file=sys.stderr, dynamic_ncols=True)
        self._phase = {"phase": name, "step": done, "steps": steps, "loss": None, "eta_seconds": None}
        self._phase_started, self._phase_done = time.monotonic(), done
        self._write(force=True)

    def step(self, count: int = 1, loss: float | None = None) -> None:
        self._phase["step"] += count
        if self._bar is not None:
            self._bar.update(count)
        if loss is not None:
            self._phase["loss"] = round(loss, 5)
            if self._bar is not None:
                self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        if self._phase["step"] >= self._phase["steps"]:
            self._close_bar()
        done = self._phase["step"] - self._phase_done
        spent = time.monotonic() - self._phase_started
        self._phase["eta_seconds"] = round(spent / done * (self._phase["steps"] - self._phase["step"]), 1)
        self._write()

    def epoch(self, **figures: Any) -> None:
        """Keep one epoch's figures."""
        self.history.append({"phase": self._phase["phase"], **figures})
        self._write(force=True)

    def finish(self, state: str, message: str = "") -> None:
        self._close_bar()
        self._write(force=True, state=state, message=message)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _write(self, force: bool = False, state: str = "running", message: str = "") -> None:
        now = time.monotonic()
        if self.path is None or (not force and now - self._written < _SECONDS_BETWEEN_WRITES):
            return
        self._written = now
        record = self._phase | {
            "state": state,
            "message": message,
            "seconds": round(now - self.started, 1),
            "history": self.history,
        }
        put(self.path, json.dumps(record).encode())
