"""Fine-tuning beside the page: one `python -m demo.finetune` at a time, started, watched and stopped from here.

The process has a session of its own and writes `log.txt` and `progress.json` into its out folder; this module
reads them, so that a page that is reloaded, or a second one, sees the same run. A request that comes while one runs
waits for its turn. Trains nothing itself, and forgets what waits when the server ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from demo.errors import EXIT_DONE, EXIT_INTERRUPTED, BadInput
from demo.layouts import METRICS
from demo.progress import LOG, PROGRESS
from demo.settings import ROOT, Settings

COMMAND = (sys.executable, "-m", "demo.finetune")
SECONDS_TO_STOP = 60
MAX_WAITING = 3


@dataclass(frozen=True)
class Run:
    """One fine-tune as it stands.

    state: idle (none was started), running, done, failed or interrupted. model: the ref it starts from. loss: of the
    last step, None until known. eta_seconds: of this phase. history: one entry an epoch (`phase`, `epoch`, `epochs`,
    `loss`). metrics: the whole `metrics.json` once done. message: why it ended, for a person. waiting: requests whose
    turn comes after it.
    """

    state: str = "idle"
    out: str = ""
    model: str = ""
    phase: str = "starting"
    step: int = 0
    steps: int = 0
    loss: float | None = None
    eta_seconds: float | None = None
    history: Sequence[dict[str, Any]] = ()
    metrics: dict[str, Any] = field(default_factory=dict)
    message: str = ""
    waiting: int = 0


@dataclass(frozen=True)
class _Request:
    csv: Path
    model: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class _Started:
    """A process, and how its folder stood before it: what a run that it goes on with had left there."""

    process: subprocess.Popen
    request: _Request
    out: Path
    log_bytes: int
    progress: tuple[int, int] | None


class Retraining:
    """At most one run at a time, and at most `MAX_WAITING` that wait. Any number of threads may ask."""

    def __init__(self, settings: Settings, command: Sequence[str] = COMMAND) -> None:
        self.settings = settings
        self._command = tuple(command)
        self._lock = threading.RLock()
        self._last: _Started | None = None
        self._waiting: deque[_Request] = deque()
        self._closed = False

    def start(self, csv: Path, model: str, flags: Sequence[str] = ()) -> Run:
        """Fine-tune the checkpoint `model` on `csv` into a new folder below `settings.runs`, now or after what runs.

        The CSV is read when the run begins. Raises BadInput where too many wait, where no folder can be made, and
        where retraining is closed.
        """
        with self._lock:
            self._check_open()
            request = _Request(csv, model, tuple(flags))
            if not self._is_running():
                self._begin(request, self._new_folder())
            elif len(self._waiting) < MAX_WAITING:
                self._waiting.append(request)
            else:
                why = f"{MAX_WAITING} more wait for it to end."
                raise BadInput("A fine-tune is running already.", why, "Wait for one to end, or cancel one.")
        return self.status()

    def resume(self) -> Run:
        """Go on with the last run, where it was interrupted or failed. Raises BadInput where it was not."""
        with self._lock:
            self._check_open()
            if self._last is None or self.status().state not in ("interrupted", "failed"):
                raise BadInput("There is no fine-tune to go on with.", "None was interrupted.", "Start one.")
            self._begin(self._last.request, self._last.out, resume=True)
        return self.status()

    def forget_waiting(self) -> Run:
        """Take back the requests that wait; the run that goes on is left alone."""
        with self._lock:
            self._waiting.clear()
        return self.status()

    def _check_open(self) -> None:
        if not self.settings.retraining:
            raise BadInput("No fine-tune is started here.", "This server has it switched off.", "Run your own.")
        if self._closed:
            raise BadInput("No fine-tune is started any more.", "The server is ending.", "Start it again.")

    def _is_running(self) -> bool:
        return self._last is not None and self._last.process.poll() is None

    def _begin(self, request: _Request, out: Path, resume: bool = False) -> None:
        """Start a process, and a thread that begins the next request when it has ended."""
        try:
            out.mkdir(parents=True, exist_ok=resume)
        except OSError as error:
            raise BadInput(f"{out} cannot be made.", f"{error.strerror}.", "Name a new folder.") from error
        arguments = ["--csv", str(request.csv), "--model", request.model, "--out", str(out), *request.flags]
        progress = _version(out / PROGRESS)
        with (out / LOG).open("ab") as log:
            log_bytes = log.tell()
            process = subprocess.Popen(
                [*self._command, *arguments, *(["--resume"] if resume else [])],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._last = _Started(process, request, out, log_bytes, progress)
        threading.Thread(target=self._then_next, args=(process,), daemon=True).start()

    def _then_next(self, process: subprocess.Popen) -> None:
        process.wait()
        with self._lock:
            if self._waiting and not self._closed and not self._is_running():
                with suppress(BadInput):  # no folder can be made: it goes on waiting, and who starts another is told
                    self._begin(self._waiting[0], self._new_folder())
                    self._waiting.popleft()

    def status(self) -> Run:
        """The last run as it stands now."""
        with self._lock:
            last, waiting = self._last, len(self._waiting)
        if last is None:
            return Run()
        out, code = last.out, last.process.poll()  # before the files: what it wrote before it ended is then seen
        progress, now = _json(out / PROGRESS), _version(out / PROGRESS)
        its_own = progress if now != last.progress else {}
        if code is None:
            state = "running"
        elif code in (-signal.SIGTERM, EXIT_INTERRUPTED):
            state = "interrupted"
        else:
            state = "done" if code == EXIT_DONE and its_own.get("state") == "done" else "failed"
        message = ""
        if state == "failed":
            message = (its_own.get("state") == "failed" and its_own.get("message")) or _last_words(last)
        known = {
            key: progress[key]
            for key in ("phase", "step", "steps", "loss", "eta_seconds", "history")
            if key in progress
        }
        return Run(
            state=state,
            out=str(out),
            model=last.request.model,
            metrics=_json(out / METRICS) if state == "done" else {},
            waiting=waiting,
            message=message,
            **known,
        )

    def cancel(self) -> Run:
        """Ask the run to stop and wait until it has; what it trained so far can be resumed. What waits comes next."""
        process = self._last and self._last.process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return self.status()

    def close(self) -> Run:
        """The server ends: forget what waits, stop the run, and start no other; what it trained can be resumed."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
        return self.cancel()

    def _new_folder(self) -> Path:
        stamp = datetime.now().strftime("%Y-%m-%d-%H%M%S")
        names = [stamp, *(f"{stamp}-{number}" for number in range(2, 100))]
        runs = self.settings.runs.absolute()
        return next(runs / name for name in names if not (runs / name).exists())


def _last_words(started: _Started) -> str:
    """Why a process ended, from the end of what it added to its log."""
    log, code = started.out / LOG, started.process.returncode
    if code < 0:
        return f"It was ended by {signal.Signals(-code).name}. Its log is {log}."
    try:
        lines = log.read_bytes()[started.log_bytes :][-4000:].decode("utf-8", "replace").splitlines()
    except OSError as error:
        return f"Its log {log} cannot be read: {error.strerror}."
    errors = [line for line in lines if line.startswith("error: ")]
    last = errors or [line for line in lines if line.strip()]
    return last[-1].removeprefix("error: ") if last else f"It ended with exit code {code}."


def _version(path: Path) -> tuple[int, int] | None:
    """What changes whenever a file is replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
