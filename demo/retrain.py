"""Fine-tuning beside the page: one `python -m demo.finetune` at a time, started, watched and stopped from here.

The process has a session of its own and writes `log.txt` and `progress.json` into its out folder; this module
reads them, so that a page that is reloaded, or a second one, sees the same run. Trains nothing itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from demo.errors import EXIT_INTERRUPTED, BadInput
from demo.progress import LOG, PROGRESS
from demo.settings import ROOT, Settings

COMMAND = (sys.executable, "-m", "demo.finetune")
SECONDS_TO_STOP = 60
METRICS = "metrics.json"


@dataclass(frozen=True)
class Run:
    """One fine-tune as it stands.

    state: idle (none was started), running, done, failed or interrupted. loss: of the last step, None until known.
    eta_seconds: of this phase. history: one entry an epoch (`phase`, `epoch`, `loss`, `map`). metrics: the whole
    `metrics.json` once done. message: why it ended, for a person.
    """

    state: str = "idle"
    out: str = ""
    phase: str = "starting"
    step: int = 0
    steps: int = 0
    loss: float | None = None
    eta_seconds: float | None = None
    history: Sequence[dict[str, Any]] = ()
    metrics: dict[str, Any] = field(default_factory=dict)
    message: str = ""


class Retraining:
    """At most one run at a time. Any number of threads may ask."""

    def __init__(self, settings: Settings, command: Sequence[str] = COMMAND) -> None:
        self.settings = settings
        self._command = tuple(command)
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._out: Path | None = None

    def start(self, csv: Path, model: str, out: Path | None = None, flags: Sequence[str] = ()) -> Run:
        """Begin a run on `csv` from the checkpoint `model`; `out` is by default a new folder below `settings.runs`.

        Raises BadInput while another run goes on and where the out folder is taken.
        """
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                raise BadInput("A fine-tune is running already.", "One runs at a time.", "Wait for it, or cancel it.")
            out = (out or self._new_folder()).absolute()
            try:
                out.mkdir(parents=True)
            except OSError as error:
                raise BadInput(f"{out} cannot be made.", f"{error.strerror}.", "Name a new folder.") from error
            arguments = ["--csv", str(csv), "--model", model, "--out", str(out), *flags]
            with (out / LOG).open("wb") as log:
                self._process = subprocess.Popen(
                    [*self._command, *arguments],
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._out = out
        return self.status()

    def status(self) -> Run:
        """The last run as it stands now."""
        process, out = self._process, self._out
        if process is None or out is None:
            return Run()
        code = process.poll()  # before the files: what a process wrote before it ended is then seen
        progress = _json(out / PROGRESS)
        state = progress.get("state", "running")
        if code is None:
            state = "running"
        elif code in (-signal.SIGTERM, EXIT_INTERRUPTED):
            state = "interrupted"
        elif state == "running" or (code and state == "done"):
            state = "failed"
        known = {
            key: progress[key]
            for key in ("phase", "step", "steps", "loss", "eta_seconds", "history")
            if key in progress
        }
        return Run(
            state=state,
            out=str(out),
            metrics=_json(out / METRICS) if state == "done" else {},
            message=(progress.get("message") or self._last_words(out, code)) if state == "failed" else "",
            **known,
        )

    def cancel(self) -> Run:
        """Ask the run to stop and wait until it has; what it trained so far can be resumed from its folder."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return self.status()

    def _new_folder(self) -> Path:
        stamp = datetime.now().strftime("%Y-%m-%d-%H%M%S")
        names = [stamp, *(f"{stamp}-{number}" for number in range(2, 100))]
        return next(self.settings.runs / name for name in names if not (self.settings.runs / name).exists())

    def _last_words(self, out: Path, code: int | None) -> str:
        """Why a process ended, from the end of its log."""
        if code is not None and code < 0:
            return f"It was ended by {signal.Signals(-code).name}. Its log is {out / LOG}."
        with (out / LOG).open("rb") as log:
            log.seek(max(0, (out / LOG).stat().st_size - 4000))
            lines = log.read().decode("utf-8", "replace").splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        last = errors or [line for line in lines if line.strip()]
        return last[-1].removeprefix("error: ") if last else f"It ended with exit code {code}."


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
