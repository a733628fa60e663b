"""A fine-tune on a GPU that is lent by the call: on ZeroGPU it stands for the process that `demo.retrain` starts.

The call says for how long it wants the GPU, by the number of images. Where that was not enough the GPU is taken back:
what was trained up to the last whole epoch can be gone on with, in another call. Watched and stopped by files, since
it runs in a thread of a process that is not this one's child.
"""

from __future__ import annotations

import contextvars
import signal
import subprocess
import threading
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from demo import zero
from demo.errors import EXIT_BAD_INPUT, EXIT_BUG, BadInput, DemoError
from demo.run_folder import stop_file

SECONDS_AN_IMAGE = 0.5
"""Both phases and the figures, decoding included; an estimate, not measured there."""

MOST_SECONDS = 900
"""Of one call. A quota that is smaller than what a call asks for gets it nothing."""


def _seconds(arguments: Sequence[str], log: Path, images: int) -> float:
    return min(2 * zero.SECONDS_TO_BEGIN + SECONDS_AN_IMAGE * images, MOST_SECONDS)


@zero.gpu(_seconds)
def _finetune(arguments: Sequence[str], log: Path, images: int) -> int:
    """The exit code of `python -m demo.finetune` with these arguments; what it says goes to the end of the log."""
    from demo import finetune

    with log.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            return finetune.main(arguments)
        except Exception:
            traceback.print_exc()
            return EXIT_BUG


def _rows(csv: Path) -> int:
    try:
        with csv.open("rb") as rows:
            return sum(1 for _ in rows)
    except OSError as error:
        raise BadInput(f"{csv} cannot be read.", f"{error.strerror}.") from error


_lock = threading.Lock()  # of the following, and of a stop file beside whether its run has ended
_under_way: set[Path] = set()
"""The stop files of the runs that have not ended where the GPU is, whether they were given up or not."""


class LentRun:
    """Begins at once, and answers as a subprocess.Popen does.

    The GPU is asked for in the name of whoever's request this thread is answering; out: the run's folder, of which no
    other run is under way. Raises BadInput where one is that was told to end and has not. What keeps it from training
    is an exit code, and the reason in the log.
    """

    def __init__(self, arguments: Sequence[str], out: Path, log: Path, csv: Path) -> None:
        self.returncode: int | None = None
        self._log, self._stop, self._ended = log, stop_file(out), threading.Event()
        with _lock:
            if self._stop in _under_way:
                raise BadInput(f"{out} is not free yet.", "The run in it was told to end.", "Try again in a minute.")
            self._stop.unlink(missing_ok=True)  # left there by a server that was killed
            _under_way.add(self._stop)
        told = [*arguments, "--workers", "0"]  # a process that ZeroGPU made may have no children that load images
        asker = contextvars.copy_context()
        threading.Thread(target=asker.run, args=(self._run, told, csv), name="lent run", daemon=True).start()

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises TimeoutExpired."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("demo.finetune", timeout)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Ask it to stop, whatever the signal."""
        with _lock:
            if self.returncode is None:
                self._stop.touch()

    def kill(self) -> None:
        """Give it up: it is over here, and ends there at its next step; until then its folder is not free."""
        self.send_signal(signal.SIGKILL)
        with _lock:
            self._end(EXIT_BUG)

    def _run(self, arguments: Sequence[str], csv: Path) -> None:
        code = EXIT_BUG
        try:
            code = _finetune(arguments, self._log, _rows(csv))
        except DemoError as error:
            code = EXIT_BAD_INPUT
            with self._log.open("a", encoding="utf-8") as log:
                print(f"error: {error}", file=log)
        finally:
            with _lock:
                _under_way.discard(self._stop)
                with suppress(OSError):  # the folder around it is gone
                    self._stop.unlink(missing_ok=True)
                self._end(code)

    def _end(self, code: int) -> None:
        if self.returncode is None:
            self.returncode = code
        self._ended.set()
