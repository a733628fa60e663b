"""The corrections CSV as a file of lines: locked, healed, appended to, rewritten, and indexed by its rows' keys.

Knows what line belongs to which image and annotator, not what a row says. Everything but `locked` is for who is
inside it. `demo.corrections` says what is promised.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from demo import memory
from demo.durable import append, cut, make_folder, put, torn_tail
from demo.errors import CorrectionsError
from demo.messages import Message
from demo.rows import HEADER, identity, shortened

MUCH = 2**20
"""Bytes of a rewritten CSV from which on what its copies took is given back at once."""

Key = tuple[str, str]
"""What there is one row of: an image, by its sha256, and an annotator."""


class Ledger:
    """The CSV and its history in one folder. keys: of all rows. healed: what the last healing did, or ''."""

    def __init__(self, folder: Path) -> None:
        self.csv_path, self.history_path = folder / "corrections.csv", folder / "history.csv"
        self.healed: Message | str = ""
        self.keys: set[Key] = set()
        self._lock = FileLock(folder / "corrections.csv.lock", timeout=30, poll_interval=0.005)
        # The file stays open: as long as it is, no other file can get its inode number, so the same number means
        # that the first `_size` bytes are those whose rows are in `keys` already.
        self._fd: int | None = None
        self._size = 0

    def __del__(self) -> None:
        self._close()

    @contextmanager
    def locked(self, done: str) -> Iterator[None]:
        """Alone with the folder, which is there. What the system refuses could not be `done`."""
        with errors(done):
            make_folder(self.csv_path.parent)
            with self._lock:
                yield

    def refresh(self) -> None:
        """Heal a torn tail and bring the index up to date, reading only what was added since the last time.

        Raises CorrectionsError for a file that is somebody else's.
        """
        try:
            now = self.csv_path.stat()
        except FileNotFoundError:
            return self._close()
        if self._fd is not None:
            known = os.fstat(self._fd)
            if (known.st_dev, known.st_ino) != (now.st_dev, now.st_ino) or now.st_size < self._size:
                self._close()
        if self._fd is None:
            self._fd = os.open(self.csv_path, os.O_RDWR | os.O_APPEND)
        self._heal()
        start = max(self._size, len(HEADER))
        self._size = os.fstat(self._fd).st_size
        for line in _lines(os.pread(self._fd, self._size - start, start)):
            if found := key_of_line(line):
                self.keys.add(found)

    def lines(self) -> list[bytes]:
        """Every row as its line, as of the last refresh."""
        return [] if self._fd is None else _lines(os.pread(self._fd, self._size - len(HEADER), len(HEADER)))

    def append(self, lines: Iterable[bytes]) -> None:
        """Add rows whose keys are new, in one write."""
        if self._fd is None:
            put(self.csv_path, HEADER)
            self.refresh()
        # the next refresh finds these rows as it finds those of other processes
        append(self._fd, b"".join(lines))

    def rewrite(self, new: Mapping[Key, bytes], leaving: Callable[[set[str]], None]) -> dict[Key, bytes]:
        """Put each line (b"" to delete) where the row of its key stands, once that is in the history, or at the end.

        leaving: told the file names that no row will have any more, before the CSV is replaced. Returns the lines that
        stood there.
        """
        lines = self.lines()
        found = [identity(line) for line in lines]
        keys = [who and key_of(*who) for who in found]
        replaced = {key: at for at, key in enumerate(keys) if key in new}
        if replaced.keys() != self.keys & new.keys():
            self._close()  # the index is of no use any more; the next refresh makes a new one
            raise CorrectionsError(f"{self.csv_path} was changed by hand meanwhile.", next_step="Try again.")
        self._remember(b"".join(line for line, key in zip(lines, keys, strict=True) if key in new))
        written = [who for who, key in zip(found, keys, strict=True) if key not in new]
        written += [identity(line) for line in new.values()]
        gone = {who[0] for who, key in zip(found, keys, strict=True) if key in new}
        leaving(gone - {who[0] for who in written if who})
        rest = dict(new)
        kept = [rest.pop(key, b"") if key in new else line for line, key in zip(lines, keys, strict=True)]
        content = HEADER + b"".join([*kept, *rest.values()])
        put(self.csv_path, content)
        index = (self.keys | new.keys()) - {key for key, line in new.items() if not line}
        self._close()
        self._fd = os.open(self.csv_path, os.O_RDWR | os.O_APPEND)
        self._size, self.keys = len(content), index  # known already: no need to read it all again
        was = {key: lines[at] for key, at in replaced.items()}
        if len(content) > MUCH:
            del lines, found, keys, kept, content
            memory.give_back()
        return was

    def _close(self) -> None:
        if getattr(self, "_fd", None) is not None:
            os.close(self._fd)
        self._fd, self._size, self.keys = None, 0, set()

    def _heal(self) -> None:
        head, torn = os.pread(self._fd, len(HEADER), 0), torn_tail(self._fd)
        if head != HEADER and not (HEADER.startswith(head) and head == torn):
            self._close()
            raise CorrectionsError(
                f"{self.csv_path} is not a corrections CSV of ours, and was left as it is.",
                f"It starts with {shortened(head.decode(errors='replace'))!r}, not with {HEADER.decode()!r}.",
                "Restore its first line, or move the file away.",
            )
        if torn:
            with suppress(OSError):  # a full disk must not stand in the way of healing
                kept = os.open(f"{self.csv_path}.torn", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
                try:
                    append(kept, torn + b"\n")
                finally:
                    os.close(kept)
            cut(self._fd, torn)
            self.healed = Message(
                "The last row of {file} was torn while it was being saved: {bytes} bytes were cut off and are in "
                "{file}.torn. Every row whose save was confirmed is there.",
                file=self.csv_path.name,
                bytes=len(torn),
            )
        if len(head) < len(HEADER):
            append(self._fd, HEADER)

    def _remember(self, lines: bytes) -> None:
        """Append replaced rows to the history, which heals as the CSV does."""
        if not self.history_path.exists():
            put(self.history_path, HEADER)
        history = os.open(self.history_path, os.O_RDWR | os.O_APPEND)
        try:
            if torn := torn_tail(history):
                cut(history, torn)
            append(history, lines)
        finally:
            os.close(history)


def key_of(file_name: str, annotator: str) -> Key:
    """The key of a row: its image by the hash in its name, whatever its extension."""
    name = file_name.rpartition("/")[2]
    return name.rpartition(".")[0] or name, annotator


def key_of_line(line: bytes) -> Key | None:
    """The key of a line; None for a damaged one."""
    who = identity(line)
    return key_of(*who) if who else None


def _lines(data: bytes) -> list[bytes]:
    """Whole lines with their ends; bytes.splitlines would also split at a lone return."""
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


@contextmanager
def errors(done: str) -> Iterator[None]:
    """What the system refuses becomes a CorrectionsError."""
    try:
        yield
    except OSError as error:
        raise CorrectionsError(
            f"The corrections could not be {done}.",
            f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.",
            "What was saved before is untouched. Make room or give access there, then try again.",
        ) from error
