"""Fine-tuning beside the page: one `python -m demo.finetune` at a time, started, watched and stopped from here.

The process has a session of its own and writes `log.txt` and `progress.json` into its out folder; this module
reads them, so that a page that is reloaded, or a second one, sees the same run. A request that comes while one runs
waits for its turn, and what the last one came to is kept beside it. Trains nothing itself, and forgets all of it when
the server ends. What it runs in is `demo.run_process`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from demo import logs, run_process
from demo.errors import EXIT_DONE, EXIT_INTERRUPTED, BadInput
from demo.layouts import METRICS
from demo.progress import LOG, PROGRESS
from demo.settings import MAX_WAITING_RUNS, Settings

COMMAND = (sys.executable, "-m", "demo.finetune")
SECONDS_TO_STOP = 60


@dataclass(frozen=True)
class Run:
    """One fine-tune as it stands.

    state: idle (none was started), running, done, failed or interrupted. model: the ref it starts from. loss: of the
    last step, None until known. eta_seconds: of this phase. history: one entry an epoch (`phase`, `epoch`, `epochs`,
    `loss`). metrics: the whole `metrics.json` once done. message: why it ended, for a person. waiting: requests whose
    turn comes after it. is_stale: the corrections have changed since it began, so it cannot go on. is_queued: its going
    on is among those that wait. before: of a run that goes on, the one that ended last.
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
    is_stale: bool = False
    is_queued: bool = False
    before: Run | None = None

    @property
    def name(self) -> str:
        """What its folder is called; empty for none."""
        return Path(self.out).name

    @property
    def ended(self) -> Run:
        """The run that ended last: this one, unless it goes on."""
        return self if self.state != "running" else self.before or Run()


@dataclass(frozen=True)
class _Request:
    """out: the folder of the run to go on with, None for a new one. version: of the CSV when that run began.

    asker: the context of whoever asked, in whose name it runs, also when its turn comes later.
    """

    csv: Path
    model: str
    flags: tuple[str, ...]
    out: Path | None = None
    version: tuple[int, int] | None = None
    asker: Context = field(default_factory=copy_context, compare=False)


@dataclass(frozen=True)
class _Started:
    """A process, and how its folder stood before it: what a run that it goes on with had left there.

    request: what to ask to go on with it. out: its folder.
    """

    process: run_process.Process
    request: _Request
    out: Path
    log_bytes: int
    progress: tuple[int, int] | None


class Retraining:
    """At most one run at a time, and at most `MAX_WAITING_RUNS` that wait. Any number of threads may ask.

    On ZeroGPU one that was told to end and did not within `SECONDS_TO_STOP` is given up: the next one may begin before
    it has come to its next step, in another folder.
    """

    def __init__(self, settings: Settings, command: Sequence[str] = COMMAND) -> None:
        self.settings = settings
        self._command = tuple(command)
        self._lock = threading.RLock()
        self._last: _Started | None = None
        self._before: _Started | None = None
        self._waiting: deque[_Request] = deque()
        self._closed = False

    def start(self, csv: Path, model: str, flags: Sequence[str] = ()) -> Run:
        """Fine-tune the checkpoint `model` on `csv` into a new folder below `settings.runs`, now or after what runs.

        The CSV is read when the run begins. Raises BadInput where too many wait, where no folder can be made, and
        where retraining is closed.
        """
        return self._ask(_Request(csv, model, tuple(flags)))

    def resume(self, name: str) -> Run:
        """Go on with the run that ended last, now or after what runs, if `name` is what its folder is called.

        Raises BadInput where it is another, where it was not interrupted and did not fail, where the corrections have
        changed, and as `start` does.
        """
        with self._lock:
            self._check_open()
            ended = self.status().ended
            if ended.name != name or ended.state not in ("interrupted", "failed"):
                raise BadInput("There is no such fine-tune to go on with.", "It is not the one that ended last.")
            if ended.is_stale:
                raise BadInput("It cannot go on.", "The corrections have changed since it began.", "Start anew.")
            began = next(one for one in (self._last, self._before) if one and one.out.name == name)
            return self._ask(replace(began.request, asker=copy_context()))

    def _ask(self, request: _Request) -> Run:
        with self._lock:
            self._check_open()
            if not self._is_running():
                self._begin(request)
            elif request.out is not None and request in self._waiting:
                pass  # asked for twice
            elif len(self._waiting) < MAX_WAITING_RUNS:
                self._waiting.append(request)
            else:
                why = f"{MAX_WAITING_RUNS} more wait for it to end."
                raise BadInput("A fine-tune is running already.", why, "Wait for one to end, or cancel one.")
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

    def _begin(self, request: _Request) -> None:
        """Start a process, and a thread that begins the next request when it has ended."""
        goes_on = request.out is not None
        try:
            out = request.out or self._new_folder()
            if not goes_on:
                request = replace(request, out=out, version=_version(request.csv))
            out.mkdir(parents=True, exist_ok=goes_on)
            arguments = ["--csv", str(request.csv), "--model", request.model, "--out", str(out)]
            arguments += ["--device", self.settings.device, *request.flags, *(["--resume"] if goes_on else [])]
            progress, log_bytes = _version(out / PROGRESS), _length(out / LOG)
            process = request.asker.run(run_process.start, self._command, arguments, request.csv, out)
        except OSError as error:
            where = request.out or self.settings.runs
            raise BadInput(f"No fine-tune can begin in {where}.", f"{error.strerror}.", "Name a new folder.") from error
        if self._last is not None and self._last.out != out:
            self._before = self._last
        self._last = _Started(process, request, out, log_bytes, progress)
        logs.event("retraining_started", resumed=goes_on)
        threading.Thread(target=self._then_next, args=(process,), name="retraining", daemon=True).start()

    def _then_next(self, process: run_process.Process) -> None:
        started, code = time.monotonic(), process.wait()
        level = "info" if code == EXIT_DONE else "warning"
        logs.event("retraining_ended", level, status=code, seconds=time.monotonic() - started)
        with self._lock:
            while self._waiting and not self._closed and not self._is_running():
                try:
                    self._begin(self._waiting.popleft())
                except BadInput:  # it must not hold up those behind it
                    logs.event("retraining_refused", "warning")

    def status(self) -> Run:
        """The last run as it stands now, and beside it, where it goes on, the one that ended before it."""
        with self._lock:
            last, before, waiting = self._last, self._before, tuple(self._waiting)
        if last is None:
            return Run()
        run = _status(last, waiting)
        return replace(run, before=_status(before, waiting)) if before and run.state == "running" else run

    def cancel(self, name: str | None = None) -> Run:
        """Ask the run to stop and wait until it has; what it trained so far can be resumed. What waits comes next.

        name: what the folder of the run is called that is meant; another one goes on.
        """
        last = self._last
        process = last.process if last is not None and name in (None, last.out.name) else None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
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


def _status(started: _Started, waiting: Sequence[_Request]) -> Run:
    out, code = started.out, started.process.poll()  # before the files: what it wrote before it ended is then seen
    progress, now = _json(out / PROGRESS), _version(out / PROGRESS)
    its_own = progress if now != started.progress else {}
    if code is None:
        state = "running"
    elif code in (-signal.SIGTERM, EXIT_INTERRUPTED):
        state = "interrupted"
    else:
        state = "done" if code == EXIT_DONE and its_own.get("state") == "done" else "failed"
    message = ""
    if state == "failed":
        message = (its_own.get("state") == "failed" and its_own.get("message")) or _last_words(started)
    known = {
        key: progress[key] for key in ("phase", "step", "steps", "loss", "eta_seconds", "history") if key in progress
    }
    return Run(
        state=state,
        out=str(out),
        model=started.request.model,
        metrics=_json(out / METRICS) if state == "done" else {},
        waiting=len(waiting),
        is_stale=state in ("interrupted", "failed") and _version(started.request.csv) != started.request.version,
        is_queued=started.request in waiting,
        message=message,
        **known,
    )


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


def _length(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


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
