"""The only writer of the corrections CSV: one row per image and annotator, and no saved row is ever lost.

Promises: `save` and `save_many` return once images, rows and their folders are on the disk; a first save costs the
same at any file size, and many rows cost one write of the CSV; several processes may write at once; a tail torn by a
crash is healed and reported. Promises none of it on network file systems whose locks do not work, nor when the CSV is
changed by hand while a writer runs. Reading the tables that users bring is `demo.tables`.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from demo.durable import append, cut, make_folder, put, sweep, sync_folder, torn_tail
from demo.errors import BadInput, CorrectionsError
from demo.messages import Message
from demo.rows import HEADER, OWN_IMAGE, Correction, View, checked_line, checked_names, from_line, identity, shortened
from demo.vocabularies import keep_vocabulary, read_vocabulary

__all__ = ["Correction", "Corrections", "View", "read_vocabulary"]


class Corrections:
    """The corrections of one folder. Any number of instances, threads and processes may share it.

    healed: what the last healing of a torn tail did, or ''.
    Raises CorrectionsError when the folder cannot be written or its CSV is somebody else's.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).absolute()
        self.csv_path = self.folder / "corrections.csv"
        self.history_path = self.folder / "history.csv"
        self.healed = ""
        self._lock = FileLock(self.folder / "corrections.csv.lock", timeout=30, poll_interval=0.005)
        # The file stays open: as long as it is, no other file can get its inode number, so the same number means
        # that the first `_size` bytes are those whose rows are in `_keys` already.
        self._fd: int | None = None
        self._size = 0
        self._keys: set[tuple[str, str]] = set()
        self._kept: dict[str, tuple[str, ...]] = {}  # vocabularies on the disk already
        with self._locked("opened"):
            for folder in (self.folder, self.folder / "images", self.folder / "vocabularies"):
                sweep(folder)
            self._refresh()

    def __del__(self) -> None:
        self._close()

    def save(
        self,
        image: bytes,
        extension: str,
        *,
        labels: Sequence[str],
        rejected: Sequence[str],
        reviewed: str,
        model_labels: Sequence[str],
        threshold: float,
        model: str,
        annotator: str = "",
        vocabulary: Sequence[str] | None = None,
    ) -> Correction:
        """Save one person's view of one image; a second save by the same annotator replaces the first.

        image, extension: the uploaded bytes and their kind (`png`). The others are those of `View`.
        Raises BadInput for what cannot be saved, CorrectionsError when the disk does not take it.
        """
        view = View(labels, rejected, reviewed, model_labels, threshold, model, vocabulary)
        return self.save_many([(image, extension)], view, annotator)[0]

    def save_many(
        self,
        images: Iterable[tuple[bytes, str]],
        view: View | Callable[[str, Correction | None], View],
        annotator: str = "",
    ) -> list[Correction]:
        """Save one person's view of many images, each once: one write of the CSV, however many there are.

        images: bytes and kind of each, taken one at a time. view: what to save, or what gives it from an image's sha256
        and the person's row of it, None where there is none; nobody else writes between that row and the new one.
        Raises as `save`, and whatever `images` and `view` raise; nothing is saved then, of the whole batch.
        """
        rows: dict[tuple[str, str], Correction] = {}
        lines: dict[tuple[str, str], bytes] = {}
        with self._locked("saved"):
            self._refresh()
            before: dict[bytes, list[bytes]] | None = None
            for image, extension in images:
                if not image:
                    raise BadInput("There are no image bytes to save.")
                digest = hashlib.sha256(image).hexdigest()
                key = digest, annotator
                own = view
                if not isinstance(own, View):
                    if before is None:
                        before = _by_digest(self._read_lines()) if self._keys else {}
                    own = own(digest, rows.get(key) or self._row_of(key, before))
                rows[key] = row = own.row(digest, extension, annotator)
                lines[key] = checked_line(row)
                self._keep_vocabulary(row.model, own.vocabulary)
                self._keep_image(image, self.image_path(row))
            if lines:
                sync_folder(self.folder / "images")
            if not self._keys.isdisjoint(lines):
                self._rewrite(lines)
            elif lines:
                if self._fd is None:
                    put(self.csv_path, HEADER)
                    self._refresh()
                # the next refresh finds these rows as it finds those of other processes
                append(self._fd, b"".join(lines.values()))
        return list(rows.values())

    def rows_of(self, digests: Collection[str], annotator: str = "") -> dict[str, Correction]:
        """An annotator's rows of those of the images, by sha256, that have one; the others are not parsed.

        Raises CorrectionsError for a damaged one.
        """
        lines = _by_digest(self.lines())
        rows = {digest: self._row_of((digest, annotator), lines) for digest in digests}
        return {digest: row for digest, row in rows.items() if row is not None}

    def rows(self) -> list[Correction]:
        """Every row, in the order of first saves. Raises CorrectionsError naming the line of a damaged one."""
        return [self.row(line, at) for at, line in enumerate(self.lines(), start=2)]

    def row(self, line: bytes, at: int) -> Correction:
        """The row of one of `lines`; `at` is its number in the file. Raises CorrectionsError for a damaged one."""
        return _parsed(line, f"line {at} of {self.csv_path}")

    def lines(self) -> list[bytes]:
        """Every row as its line of the CSV, as `rows` orders them."""
        with self._locked("read"):
            self._refresh()
            return [] if self._fd is None else self._read_lines()

    def saved_of(self, digests: Iterable[str], annotator: str = "") -> set[str]:
        """Those of the images, by sha256, that an annotator has a row of; without reading the file again."""
        with self._locked("read"):
            self._refresh()
            return {digest for digest in digests if (digest, annotator) in self._keys}

    def totals(self) -> dict[str, int]:
        """`{"rows": …, "images": …}`, without reading the file again."""
        with self._locked("read"):
            self._refresh()
            return {"rows": len(self._keys), "images": len({digest for digest, _ in self._keys})}

    def delete(self, file_name: str, annotator: str = "") -> Correction:
        """Move the row of `file_name` and `annotator` to the history; the image goes with its last row.

        Returns the row that was deleted. Raises BadInput when there is none.
        """
        key = _key(file_name, annotator)
        with self._locked("deleted"):
            self._refresh()
            if key not in self._keys:
                whose = f"by {annotator}" if annotator else "without an annotator"
                raise BadInput(f"There is no correction of {file_name} {whose}.", next_step="Look at the table again.")
            return _parsed(self._rewrite({key: b""})[key], f"the deleted one, now in {self.history_path}")

    def image_path(self, correction: Correction) -> Path:
        """Where the uploaded bytes are."""
        return self.folder / correction.file_name

    def write_zip(self, target: Path | str | BinaryIO) -> int:
        """Write CSV, images and vocabularies as one zip and return its number of rows. Saving goes on meanwhile.

        Every row in the zip has its image there: one whose image is gone, or is not one saved here, is left out.
        """
        lines, packed = [], set()
        with _errors("packed"), zipfile.ZipFile(target, "w", strict_timestamps=False) as archive:
            for line in self.lines():
                name, _ = identity(line) or ("", "")
                if name not in packed:
                    if not OWN_IMAGE.fullmatch(name):
                        continue
                    try:
                        archive.write(self.folder / name, name)
                    except FileNotFoundError:  # deleted since its row was read
                        continue
                    packed.add(name)
                lines.append(line)
            for path in sorted(self.folder.glob("vocabularies/*.json")):
                archive.write(path, f"vocabularies/{path.name}")
            archive.writestr("corrections.csv", HEADER + b"".join(lines))
        return len(lines)

    # What follows runs under the lock.

    @contextmanager
    def _locked(self, done: str) -> Iterator[None]:
        with _errors(done):
            make_folder(self.folder)
            with self._lock:
                yield

    def _close(self) -> None:
        if getattr(self, "_fd", None) is not None:
            os.close(self._fd)
        self._fd, self._size, self._keys = None, 0, set()

    def _refresh(self) -> None:
        """Heal a torn tail and bring the index up to date, reading only what was added since the last time."""
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
            if found := identity(line):
                self._keys.add(_key(*found))

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

    def _read_lines(self) -> list[bytes]:
        return _lines(os.pread(self._fd, self._size - len(HEADER), len(HEADER)))

    def _row_of(self, key: tuple[str, str], lines: Mapping[bytes, Sequence[bytes]]) -> Correction | None:
        for line in reversed(lines.get(key[0].encode(), ())):
            who = identity(line)
            if who and _key(*who) == key:
                return _parsed(line, f"{who[0]} in {self.csv_path}")
        return None

    def _rewrite(self, new: Mapping[tuple[str, str], bytes]) -> dict[tuple[str, str], bytes]:
        """Put each line (b"" to delete) where the row of its key stands, once that is in the history, or at the end.

        Returns the lines that stood there.
        """
        lines = self._read_lines()
        found = [identity(line) for line in lines]
        keys = [who and _key(*who) for who in found]
        replaced = {key: at for at, key in enumerate(keys) if key in new}
        if replaced.keys() != self._keys & new.keys():
            self._close()  # the index is of no use any more; the next call makes a new one
            raise CorrectionsError(f"{self.csv_path} was changed by hand meanwhile.", next_step="Try again.")
        self._remember(b"".join(line for line, key in zip(lines, keys, strict=True) if key in new))
        rest = dict(new)
        kept = [rest.pop(key, b"") if key in new else line for line, key in zip(lines, keys, strict=True)]
        content = HEADER + b"".join([*kept, *rest.values()])
        put(self.csv_path, content)
        index = (self._keys | new.keys()) - {key for key, line in new.items() if not line}
        self._close()
        self._fd = os.open(self.csv_path, os.O_RDWR | os.O_APPEND)
        self._size, self._keys = len(content), index  # known already: no need to read it all again
        written = [who for who, key in zip(found, keys, strict=True) if key not in new]
        written += [identity(line) for line in new.values()]
        used = {who[0] for who in written if who}
        for name in {who[0] for who, key in zip(found, keys, strict=True) if key in new} - used:
            if OWN_IMAGE.fullmatch(name):
                (self.folder / name).unlink(missing_ok=True)
        return {key: lines[at] for key, at in replaced.items()}

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

    def _keep_vocabulary(self, model: str, names: Sequence[str] | None) -> None:
        if names is not None and self._kept.get(model) != tuple(names):
            names = checked_names("vocabulary", names)
            keep_vocabulary(self.folder, model, names)
            self._kept[model] = names

    def _keep_image(self, image: bytes, path: Path) -> None:
        make_folder(path.parent)
        if not path.exists():
            put(path, image, sync=False)
        elif path.read_bytes() != image:
            raise CorrectionsError(
                f"{path} holds other bytes than its name says.",
                "An image is named by the hash of its bytes and is never overwritten.",
                "Move that file away and save again.",
            )


def _by_digest(lines: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    """Lines by the sha256 of their image, found by where it stands: to parse 100,000 of them takes a second."""
    found: dict[bytes, list[bytes]] = {}
    for line in lines:
        found.setdefault(line[len("images/") : len("images/") + 64], []).append(line)
    return found


def _key(file_name: str, annotator: str) -> tuple[str, str]:
    """What there is one row of: an image, by its hash and whatever its extension, and an annotator."""
    name = file_name.rpartition("/")[2]
    return name.rpartition(".")[0] or name, annotator


def _lines(data: bytes) -> list[bytes]:
    """Whole lines with their ends; bytes.splitlines would also split at a lone return."""
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


def _parsed(line: bytes, where: str) -> Correction:
    try:
        return from_line(line)
    except ValueError as error:
        raise CorrectionsError(
            f"The corrections have a damaged row: {where}.", f"{error}.", "Correct or remove that line."
        ) from error


@contextmanager
def _errors(done: str) -> Iterator[None]:
    """What the system refuses becomes a CorrectionsError."""
    try:
        yield
    except OSError as error:
        raise CorrectionsError(
            f"The corrections could not be {done}.",
            f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.",
            "What was saved before is untouched. Make room or give access there, then try again.",
        ) from error
