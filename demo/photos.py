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
        archive = _Zip(path)  # stays open, for the photos; reading its list again for each would take long
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BadInput(f"{_shown(name)} cannot be read.", f"{error}.", "Pack it again.") from error
    found = [
        Photo(_shown(entry.filename), partial(_read_entry, archive, entry))
        for entry in archive.infolist()
        if PurePosixPath(entry.filename).suffix.lower() in SUFFIXES
        and not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(entry.filename).parts)
    ]
    if not found:
        archive.close()
        raise BadInput(f"{_shown(name)} holds no photos.", "By their names none of the files in it is one.")
    return found


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
        self._file = _List(io.FileIO(path))
        try:
            super().__init__(self._file)
        except BaseException:
            self._file.close()
            raise
        self._file.most = None

    def close(self) -> None:
        super().close()
        self._file.close()


def _read_file(path: Path, most: int) -> bytes:
    if not path.is_file():
        raise ImageRejected("It is not there any more.")
    with path.open("rb") as file:
        return file.read(most + 1)


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    try:
        with archive.open(entry) as file:
            return file.read(most + 1)
    except Exception as error:  # zlib.error, lzma.LZMAError: each format has its own
        raise ImageRejected("It cannot be unpacked.", f"{type(error).__name__}: {error}.") from error


def _shown(name: str) -> str:
    """A name as one line of at most 200 characters."""
    text = "".join(character if character.isprintable() else " " for character in name).strip() or "photo"
    return text if len(text) <= 200 else f"…{text[-199:]}"
