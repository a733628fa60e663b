"""A folder for what does not outlive a process, and the end of those whose process is gone.

Uploads, archives being made and what gradio keeps lie in it. A process that was killed removes nothing; but the system
lets go of its lock, by which the next one to start knows what it may remove. Does not guard against other users of
the machine beyond the mode of the folder, which is its owner's alone.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX, LOCK = "tagloop-", ".lock"


class Scratch:
    """A new folder under `root`, the system's temporary directory by default; those of dead processes go.

    Raises OSError where none can be made.
    """

    def __init__(self, root: Path | None = None) -> None:
        root = Path(tempfile.gettempdir()) if root is None else root
        for path in root.glob(f"{PREFIX}*{LOCK}"):
            _remove_of_the_dead(path)
        while True:
            self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
            self._lock = FileLock(f"{self.folder}{LOCK}", mode=0o600)
            self._lock.acquire(timeout=0)
            if Path(self._lock.lock_file).exists():
                return
            self._lock.release()  # another process swept it between its making and its locking

    def close(self) -> None:
        """Remove the folder and all that is in it."""
        _remove(self.folder, self._lock)


def _remove_of_the_dead(path: Path) -> None:
    with suppress(OSError, Timeout):  # of the living, or of somebody else
        lock = FileLock(path)
        lock.acquire(timeout=0)
        _remove(path.with_name(path.name.removesuffix(LOCK)), lock)


def _remove(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
