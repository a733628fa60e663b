"""Corrections in the formats of other tools: fastai's CSV, Hugging Face's ImageFolder, `.txt` beside images, JSON.

One entry per image: what its annotators agree on (`demo.tables.agreed`). Everything is made piece by piece as it is
read, so that an export may be larger than the memory. `demo.tables.read_table` reads each of them back.

Only JSON and ImageFolder keep what is absent or unknown. fastai's format has no unknown: whoever reads it takes a
label that is not listed as absent. A `.txt` file says nothing of labels that it does not list.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from demo import spelling
from demo.errors import ImageRejected
from demo.rows import json_line, to_list_cell
from demo.strip_metadata import Reading, as_it_is
from demo.tables import Agreed, Merged, agreed
from demo.vocabularies import read_vocabulary, vocabulary_bytes, vocabulary_name

PIECE_BYTES = 2**18

File = tuple[str, Iterable[bytes]]
"""A file's path inside a zip or folder, and its content in pieces."""

Naming = Callable[[Merged], str]
"""What an image is called in a file that has no images with it."""


def fastai_csv(images: Sequence[Merged], folder: Path, name: Naming) -> Iterator[bytes]:
    """`fname,labels,is_valid` as `ImageDataLoaders.from_csv(label_delim=" ", valid_col="is_valid")` reads it.

    Images on which no label is confirmed are left out: fastai stops at an empty cell. `folder` is the CSV's, here
    and below.
    """
    words = spelling.words(_known_labels(images, folder))
    yield b"fname,labels,is_valid\n"
    for image in images:
        if labels := agreed(image, folder).labels:
            fname = name(image)
            fname = f"./{fname}" if fname.startswith(("=", "+", "-", "@")) else fname
            yield _line(fname, " ".join(words[label] for label in labels), bool(image.is_valid))


def to_json(images: Sequence[Merged], folder: Path, name: Naming) -> Iterator[bytes]:
    """`{"vocabularies": {MODEL: [label, …]}, "images": [{…}, …]}`, an image a line.

    Of an image: `file_name`; `labels`, which are present; `rejected`, which are absent; `unknown`, on which
    annotators disagree; `reviewed`: `listed`, every other label is unknown, or `all`, every other label of
    `vocabularies[model]` is absent; `model`; `is_valid`, null where the table did not say.
    """
    yield b'{"vocabularies": {'
    for number, (model, labels) in enumerate(_vocabularies(images, folder).items()):
        yield f"{',' if number else ''}\n{json_line(model)}: {json_line(labels)}".encode()
    yield b'},\n"images": ['
    for number, image in enumerate(images):
        said = agreed(image, folder)
        entry = {
            "file_name": name(image),
            "labels": said.labels,
            "rejected": said.rejected,
            "unknown": said.disputed,
            "reviewed": said.reviewed,
            "model": said.model,
            "is_valid": image.is_valid,
        }
        yield f"{',' if number else ''}\n{json_line(entry)}".encode()
    yield b"\n]}\n"


def imagefolder(images: Sequence[Merged], folder: Path, read: Reading = as_it_is) -> Iterator[File]:
    """The files of an ImageFolder: the images, `metadata.csv` with our columns, and the vocabularies it speaks of.

    An image that is gone since its row was read, or that `read` refuses, is left out, here and in `captions`.
    """
    there: list[tuple[str, Merged]] = []
    for stem, image in _named(images):
        if (found := _content(image.path, read)) is not None:
            content, suffix = found
            there.append((f"images/{stem}{suffix}", image))
            yield f"images/{stem}{suffix}", [content]
    for model, labels in _vocabularies((image for _, image in there), folder).items():
        yield f"vocabularies/{vocabulary_name(model)}", [vocabulary_bytes(model, labels)]
    yield "metadata.csv", _metadata(there, folder)


def captions(images: Sequence[Merged], folder: Path, read: Reading = as_it_is) -> Iterator[File]:
    """Each image and, in a `.txt` of the same name, its labels separated by commas, as LoRA trainers read them."""
    for stem, image in _named(images):
        if (found := _content(image.path, read)) is not None:
            content, suffix = found
            yield f"{stem}{suffix}", [content]
            yield f"{stem}.txt", [spelling.commas(agreed(image, folder).labels).encode()]


def zipped(files: Iterable[File]) -> Iterator[bytes]:
    """The bytes of a zip of `files`. Images are compressed already, so nothing is."""
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w") as archive:
        for name, content in files:
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry:
                for piece in content:
                    entry.write(piece)
                    yield pieces.taken()
    yield pieces.taken()


def gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of at least a quarter of a megabyte, which cost less to send one by one."""
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= PIECE_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


class _Pieces(io.RawIOBase):
    """A file that holds what was written only until it is taken."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, piece: bytes) -> int:
        self._held += piece
        return len(piece)

    def taken(self) -> bytes:
        held, self._held = bytes(self._held), bytearray()
        return held


def _metadata(images: list[tuple[str, Merged]], folder: Path) -> Iterator[bytes]:
    has_split = any(image.is_valid is not None for _, image in images)
    yield _line("file_name", "labels", "rejected", "reviewed", "model", *(["is_valid"] if has_split else []))
    for name, image in images:
        said: Agreed = agreed(image, folder)
        cells = [name, to_list_cell(said.labels), to_list_cell(said.rejected), said.reviewed, said.model]
        yield _line(*cells, *([bool(image.is_valid)] if has_split else []))


def _vocabularies(images: Iterable[Merged], folder: Path) -> dict[str, tuple[str, ...]]:
    """The labels of every model of which an image is reviewed in full, as far as they are known."""
    found: dict[str, tuple[str, ...]] = {}
    for image in images:
        row = image.rows[0]
        if len(image.rows) == 1 and row.reviewed == "all" and row.model not in found:
            labels = row.vocabulary_all
            found[row.model] = (read_vocabulary(folder, row.model) or ()) if labels is None else labels
    return {model: labels for model, labels in found.items() if labels}


def _known_labels(images: Iterable[Merged], folder: Path) -> set[str]:
    """Every label that a row or the vocabulary of its model names: a label must not be spelled like another of them."""
    rows = [row for image in images for row in image.rows]
    vocabularies = {row.vocabulary_all or () for row in rows}
    vocabularies |= {read_vocabulary(folder, model) or () for model in {row.model for row in rows}}
    return {name for row in rows for name in row.labels + row.rejected}.union(*vocabularies)


def _named(images: Iterable[Merged]) -> Iterator[tuple[str, Merged]]:
    """Each image with the stem of a file name, which no other has."""
    taken: set[str] = set()
    for image in images:
        stem, number = image.path.stem, 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{image.path.stem}-{number}"
        taken.add(stem.casefold())
        yield stem, image


def _content(path: Path, read: Reading) -> tuple[bytes, str] | None:
    try:
        return read(path)
    except (FileNotFoundError, ImageRejected):
        return None


def _line(*cells: object) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()
