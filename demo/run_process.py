"""What a fine-tune runs in: a process with a session of its own; on ZeroGPU a call (`demo.lent_run`)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from demo.progress import LOG
from demo.settings import ROOT


class Process(Protocol):
    """What runs, as a subprocess.Popen is asked of it."""

    returncode: int | None

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


class _Process(subprocess.Popen):
    def kill(self) -> None:
        """Those that load its images too."""
        os.killpg(self.pid, signal.SIGKILL)


def start(command: Sequence[str], arguments: Sequence[str], csv: Path, out: Path) -> Process:
    """Run `python -m demo.finetune` or another command in its place; what it says goes to the end of the log in `out`.

    Raises BadInput where another call still uses the folder.
    """
    from demo import zero  # with PyTorch

    if zero.IS_HERE:
        from demo.lent_run import LentRun

        return LentRun(arguments, out, out / LOG, csv)
    with (out / LOG).open("ab") as log:
        return _Process(
            [*command, *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
