"""Where a photo's bytes come from: a file, or a file in a zip, which is never unpacked to the disk."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from demo.errors import BadInput, ImageRejected
from demo.images import SUFFIXES
from demo.settings import MAX_ZIP_LIST_BYTES

_ZIP = (b"PK\3\4", b"PK\5\6")
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What zipfile unpacks no further than it is asked to; of the others it unpacks all that a file holds, however much."""


@dataclass(frozen=True)
class Photo:
    """name: for people, as it was given, one line. read: its bytes, at most so many and one more; raises ImageRejected
    or OSError."""

    name: str
    read: Callable[[int], bytes]


def photo_of(path: Path, name: str = "") -> Photo:
    return Photo(_shown(name or path.name), partial(_read_file, path))


def photos_of(path: Path, name: str) -> list[Photo]:
    """The photos of a file that was given under a name: those in it, where it is a zip. Raises BadInput or OSError."""
    with path.open("rb") as file:
        if file.read(4) not in _ZIP:
            return [photo_of(path, name)]
    try:
        archive = _Zip(path)  # kept for the photos; reading its list again for each would take long
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BadInput(f"{_shown(name)} cannot be read.", f"{error}.", "Pack it again.") from error
    found = [
        Photo(_shown(entry.filename), partial(_read_entry, archive, entry))
        for entry in archive.take_list()
        if PurePosixPath(entry.filename).suffix.lower() in SUFFIXES
        and not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(entry.filename).parts)
    ]
    if not found:
        raise BadInput(f"{_shown(name)} holds no photos.", "By their names none of the files in it is one.")
    return found


class _File(io.RawIOBase):
    """A file that is open only while something is read: zips may wait for hours, many of them, and some are deleted."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at}.get(whence)
        self._at = offset + (self._path.stat().st_size if start is None else start)
        return self._at

    def readinto(self, buffer: memoryview) -> int:
        with self._path.open("rb", buffering=0) as file:
            file.seek(self._at)
            count = file.readinto(buffer)
        self._at += count
        return count


class _List(io.BufferedReader):
    """A file of which at most so much is read at once."""

    most: int | None = MAX_ZIP_LIST_BYTES

    def read(self, size: int | None = -1) -> bytes:
        if self.most is not None and size is not None and size > self.most:
            raise zipfile.BadZipFile("It lists too many files")
        return super().read(size)


class _Zip(zipfile.ZipFile):
    """A zip whose list of files is not longer than `MAX_ZIP_LIST_BYTES`; zipfile reads all of it whatever it says."""

    def __init__(self, path: Path) -> None:
        file = _List(_File(path))
        super().__init__(file)
        file.most = None

    def take_list(self) -> list[zipfile.ZipInfo]:
        """What is in it; not kept here, since a list of 180,000 files that are no photos takes 60 MB."""
        entries, self.filelist, self.NameToInfo = self.filelist, [], {}
        return entries


def _read_file(path: Path, most: int) -> bytes:
    if not path.is_file():
        raise ImageRejected("It is not there any more.")
    with path.open("rb") as file:
        return file.read(most + 1)


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    if entry.compress_type not in _BOUNDED:
        raise ImageRejected("It is packed by another method than deflate.", "", "Pack the zip again, as usual.")
    try:
        with archive.open(entry) as file:
            return file.read(most + 1)
    except FileNotFoundError:
        raise ImageRejected("It is not there any more.") from None
    except Exception as error:  # zlib.error, struct.error: each fault has its own
        raise ImageRejected("It cannot be unpacked.", f"{type(error).__name__}: {error}.") from error


def _shown(name: str) -> str:
    """A name as one line of at most 200 characters."""
    text = "".join(character if character.isprintable() else " " for character in name).strip() or "photo"
    return text if len(text) <= 200 else f"…{text[-199:]}"
