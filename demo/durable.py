"""Writes that are on the disk when they return: an append that is rolled back when it fails, whole files, folders.

Covers power loss on POSIX file systems: file contents are synced, and so is the folder in which a name is new.
Does not lock: two that append to one file must take turns. Whole files may be put by many at once; the last one stays.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

WRITING = ".writing-"
"""How the name of a file begins that `put` is writing, and that a killed writer leaves."""


def append(fd: int, line: bytes) -> None:
    """Add `line` in one write to a file opened with O_APPEND, or leave the file as it was and raise OSError."""
    size = os.fstat(fd).st_size
    try:
        if os.write(fd, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(fd)
    except OSError:
        with suppress(OSError):  # what cannot be cut off now is a torn tail, which the next writer cuts off
            os.ftruncate(fd, size)
            os.fsync(fd)
        raise


def torn_tail(fd: int) -> bytes:
    """The bytes after the last line end of an open file; b"" where it ends with a whole line."""
    start, tail = os.fstat(fd).st_size, b""
    while start and b"\n" not in tail:
        size = min(start, 4096 + len(tail))
        start -= size
        tail = os.pread(fd, size, start) + tail
    return tail[tail.rfind(b"\n") + 1 :]


def cut(fd: int, tail: bytes) -> None:
    """Cut the last `len(tail)` bytes off an open file."""
    os.ftruncate(fd, os.fstat(fd).st_size - len(tail))
    os.fsync(fd)


def put(path: Path, content: bytes) -> None:
    """Write a whole file: whatever happens, `path` holds what it held or all of `content`. Raises OSError."""
    temporary = path.with_name(f"{WRITING}{secrets.token_hex(8)}")
    try:
        fill(temporary, content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def fill(path: Path, content: bytes) -> None:
    """Write a file's content to the disk, but not its name: `sync_folder` does that, once for many files."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed left in `folder`; for who knows that nobody writes there now."""
    for path in folder.glob(f"{WRITING}*"):
        path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make `folder`, an absolute path, and those above it. Raises OSError."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
