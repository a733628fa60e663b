"""The only writer of the corrections CSV: one row per image and annotator, and no saved row is ever lost.

Promises: `save` and `save_many` return once images, rows and their folders are on the disk; a first save costs the
same at any file size, and many rows cost one write of the CSV; several processes may write at once; a tail torn by a
crash is healed and reported, and an image that a crash left without its row goes. Promises none of it on network file
systems whose locks do not work, nor when the CSV is changed by hand while a writer runs. Reading the tables that users
bring is `demo.tables`.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from demo.durable import WRITING, fill, make_folder, sweep, sync_folder
from demo.errors import BadInput, CorrectionsError, ImageRejected
from demo.ledger import Key, Ledger, errors, key_of, key_of_line
from demo.rows import HEADER, OWN_IMAGE, Correction, View, checked_line, checked_names, from_line, identity, to_line
from demo.strip_metadata import Reading, as_it_is, without_metadata
from demo.vocabularies import keep_vocabulary, read_vocabulary

__all__ = ["Correction", "Corrections", "View", "read_vocabulary"]


class Corrections:
    """The corrections of one folder. Any number of instances, threads and processes may share it.

    Raises CorrectionsError when the folder cannot be written or its CSV is somebody else's.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).absolute()
        self._ledger = Ledger(self.folder)
        self.csv_path, self.history_path = self._ledger.csv_path, self._ledger.history_path
        self._kept: dict[str, tuple[str, ...]] = {}  # vocabularies on the disk already
        with self._ledger.locked("opened"):
            for folder in (self.folder, self.folder / "vocabularies"):
                sweep(folder)
            self._ledger.refresh()
            self._settle((self.folder / "images").glob(f"{WRITING}*"))

    @property
    def healed(self) -> str:
        """What the last healing of a torn tail did, or ''."""
        return self._ledger.healed

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
        rows: dict[Key, Correction] = {}
        lines: dict[Key, bytes] = {}
        ledger = self._ledger
        with ledger.locked("saved"), self._hiding() as hidden:
            ledger.refresh()
            before: dict[bytes, list[bytes]] | None = None
            for image, extension in images:
                if not image:
                    raise BadInput("There are no image bytes to save.")
                digest = hashlib.sha256(image).hexdigest()
                key = digest, annotator
                own = view
                if not isinstance(own, View):
                    if before is None:
                        before = _by_digest(ledger.lines()) if ledger.keys else {}
                    own = own(digest, rows.get(key) or self._row_of(key, before))
                rows[key] = row = own.row(digest, extension, annotator)
                lines[key] = checked_line(row)
                self._keep_vocabulary(row.model, own.vocabulary)
                self._take_image(image, self.image_path(row), hidden)
            arrived = self._arrived(hidden)
            if not ledger.keys.isdisjoint(lines):
                ledger.rewrite(lines, self._hide_into(hidden))
            elif lines:
                ledger.append(lines.values())
            self._show(arrived, hidden)
        return list(rows.values())

    def restore(self, found: Iterable[tuple[Correction, bytes]], vocabularies: Mapping[str, Sequence[str]]) -> None:
        """Take back rows as they were saved elsewhere, each with its picture; a row that is here already stays.

        The pictures may lack the metadata of the files that they are named by. vocabularies: of models that rows
        speak of. Raises as `save`; nothing is taken back then.
        """
        ledger = self._ledger
        with ledger.locked("restored"), self._hiding() as hidden:
            ledger.refresh()
            lines: dict[Key, bytes] = {}
            for row, image in found:
                key, path = key_of(row.file_name, row.annotator), self.image_path(row)
                if key not in ledger.keys:
                    lines[key] = checked_line(row)
                    if not path.exists():
                        self._take_image(image, path, hidden)
            for model, names in vocabularies.items():
                self._keep_vocabulary(model, names)
            arrived = self._arrived(hidden)
            if lines:
                ledger.append(lines.values())
            self._show(arrived, hidden)

    def rows_of(self, digests: Collection[str], annotator: str = "") -> dict[str, Correction]:
        """An annotator's rows of those of the images, by sha256, that have one; the others are not parsed.

        Raises CorrectionsError for a damaged one.
        """
        with self._read() as ledger:
            saved = [digest for digest in digests if (digest, annotator) in ledger.keys]
            lines = _by_digest(ledger.lines()) if saved else {}
        rows = {digest: self._row_of((digest, annotator), lines) for digest in saved}
        return {digest: row for digest, row in rows.items() if row is not None}

    def rows(self) -> list[Correction]:
        """Every row, in the order of first saves. Raises CorrectionsError naming the line of a damaged one."""
        return [self.row(line, at) for at, line in enumerate(self.lines(), start=2)]

    def row(self, line: bytes, at: int) -> Correction:
        """The row of one of `lines`; `at` is its number in the file. Raises CorrectionsError for a damaged one."""
        return _parsed(line, f"line {at} of {self.csv_path}")

    def lines(self) -> list[bytes]:
        """Every row as its line of the CSV, as `rows` orders them."""
        with self._read() as ledger:
            return ledger.lines()

    def saved_of(self, digests: Iterable[str], annotator: str = "") -> set[str]:
        """Those of the images, by sha256, that an annotator has a row of; without reading the file again."""
        with self._read() as ledger:
            return {digest for digest in digests if (digest, annotator) in ledger.keys}

    def totals(self) -> dict[str, int]:
        """`{"rows": …, "images": …}`, without reading the file again."""
        with self._read() as ledger:
            return {"rows": len(ledger.keys), "images": len({digest for digest, _ in ledger.keys})}

    def delete(self, file_name: str, annotator: str = "") -> Correction:
        """Move the row of `file_name` and `annotator` to the history; the image goes with its last row.

        Returns the row that was deleted. Raises BadInput when there is none.
        """
        key = key_of(file_name, annotator)
        with self._ledger.locked("deleted"), self._hiding() as hidden:
            self._ledger.refresh()
            if key not in self._ledger.keys:
                whose = f"by {annotator}" if annotator else "without an annotator"
                raise BadInput(f"There is no correction of {file_name} {whose}.", next_step="Look at the table again.")
            line = self._ledger.rewrite({key: b""}, self._hide_into(hidden))[key]
            return _parsed(line, f"the deleted one, now in {self.history_path}")

    def image_path(self, correction: Correction) -> Path:
        """Where the uploaded bytes are."""
        return self.folder / correction.file_name

    def write_zip(self, target: Path | str | BinaryIO, read: Reading = as_it_is) -> int:
        """Write CSV, images and vocabularies as one zip and return its number of rows. Saving goes on meanwhile.

        Every row in the zip has its image there: one whose image is gone, is refused by `read`, or is not one saved
        here, is left out. Where `read` gives images another kind, rows name them by it.
        """
        lines, packed = [], {}
        with errors("packed"), zipfile.ZipFile(target, "w", strict_timestamps=False) as archive:
            for line in self.lines():
                name, _ = identity(line) or ("", "")
                if name not in packed:
                    if not OWN_IMAGE.fullmatch(name):
                        continue
                    try:
                        data, suffix = read(self.folder / name)
                    except (FileNotFoundError, ImageRejected):  # the one: deleted since its row was read
                        continue
                    packed[name] = str(PurePosixPath(name).with_suffix(suffix))
                    archive.writestr(packed[name], data)
                if packed[name] != name:
                    line = to_line(replace(from_line(line), file_name=packed[name]))
                lines.append(line)
            for path in sorted(self.folder.glob("vocabularies/*.json")):
                archive.write(path, f"vocabularies/{path.name}")
            archive.writestr("corrections.csv", HEADER + b"".join(lines))
        return len(lines)

    @contextmanager
    def _read(self) -> Iterator[Ledger]:
        with self._ledger.locked("read"):
            self._ledger.refresh()
            yield self._ledger

    # What follows runs under the lock.

    # An image has its name as long as a row has it. On its way in and out it is hidden under another one, which
    # tells who comes after a crash to look whether there is a row.

    @contextmanager
    def _hiding(self) -> Iterator[set[Path]]:
        """A set for the images that are hidden meanwhile; at the end they are named or gone, as the rows say."""
        hidden: set[Path] = set()
        try:
            yield hidden
        except BaseException:
            with suppress(OSError, CorrectionsError):
                self._ledger.refresh()
                self._settle(hidden)
            raise
        for path in hidden:
            path.unlink(missing_ok=True)
        if hidden:
            sync_folder(self.folder / "images")

    def _hide_into(self, hidden: set[Path]) -> Callable[[set[str]], None]:
        def hide(file_names: set[str]) -> None:
            for name in filter(OWN_IMAGE.fullmatch, file_names):
                path = self.folder / name
                hidden.add(_hidden(path))
                with suppress(FileNotFoundError):
                    path.replace(_hidden(path))

        return hide

    def _settle(self, hidden: Iterable[Path]) -> None:
        """Name the hidden images that a row has, and remove the others."""
        if hidden := [path for path in hidden if path.exists()]:
            named = {who[0] for line in self._ledger.lines() if (who := identity(line))}
            for path in hidden:
                if f"images/{_shown(path).name}" in named:
                    path.replace(_shown(path))
                else:
                    path.unlink(missing_ok=True)

    def _row_of(self, key: Key, lines: Mapping[bytes, Sequence[bytes]]) -> Correction | None:
        for line in reversed(lines.get(key[0].encode(), ())):
            if key_of_line(line) == key:
                return _parsed(line, f"the one of image {key[0]} in {self.csv_path}")
        return None

    def _keep_vocabulary(self, model: str, names: Sequence[str] | None) -> None:
        if names is not None and self._kept.get(model) != tuple(names):
            names = checked_names("vocabulary", names)
            keep_vocabulary(self.folder, model, names)
            self._kept[model] = names

    def _take_image(self, image: bytes, path: Path, hidden: set[Path]) -> None:
        if _hidden(path) in hidden:
            return  # it comes twice
        make_folder(path.parent)
        if not path.exists():
            hidden.add(_hidden(path))
            fill(_hidden(path), image)
        elif not _shows_same(path.read_bytes(), image):
            raise CorrectionsError(
                f"{path} holds other bytes than its name says.",
                "An image is named by the hash of its bytes and is never overwritten.",
                "Move that file away and save again.",
            )

    def _arrived(self, hidden: Collection[Path]) -> list[Path]:
        """What is hidden so far, once it is on the disk."""
        if hidden:
            sync_folder(self.folder / "images")
        return list(hidden)

    def _show(self, arrived: Collection[Path], hidden: set[Path]) -> None:
        for path in arrived:
            path.replace(_shown(path))
            hidden.remove(path)
        if arrived:
            sync_folder(self.folder / "images")


def _hidden(shown: Path) -> Path:
    return shown.with_name(WRITING + shown.name)


def _shown(hidden: Path) -> Path:
    return hidden.with_name(hidden.name.removeprefix(WRITING))


def _shows_same(kept: bytes, image: bytes) -> bool:
    """Whether what is kept is the image, or as `restore` got it, without its metadata."""
    try:
        return kept == image or kept == without_metadata(image)[0]
    except ImageRejected:
        return False


def _by_digest(lines: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    """Lines by the sha256 of their image, found by where it stands: to parse 100,000 of them takes a second."""
    found: dict[bytes, list[bytes]] = {}
    for line in lines:
        found.setdefault(line[len("images/") : len("images/") + 64], []).append(line)
    return found


def _parsed(line: bytes, where: str) -> Correction:
    try:
        return from_line(line)
    except ValueError as error:
        raise CorrectionsError(
            f"The corrections have a damaged row: {where}.", f"{error}.", "Correct or remove that line."
        ) from error
