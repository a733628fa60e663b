"""What users bring to train or score on, read into rows: tables, our JSON, images with `.txt` files beside them.

Promises that every bad row is collected with its line number, that labels named `null` or `nan` stay names, and
that a cell on which annotators disagree counts as unknown. Opens no image, writes nothing and fits no split.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from demo.errors import TableError
from demo.rows import from_bool_cell, shortened
from demo.table_formats import read_records
from demo.vocabularies import read_vocabulary

SHOWN = 10


@dataclass(frozen=True)
class Row:
    """What one line says of one image.

    line: its number in the file, from 1. path: absolute. is_valid: None where there is no such column.
    vocabulary_all: the labels that `reviewed` = `all` speaks of where the file itself says so (fastai); None means
    those of the row's model. one_word: the format has no spaces inside labels, so a `_` may stand for one.
    """

    line: int
    path: Path
    file_name: str
    labels: tuple[str, ...]
    rejected: tuple[str, ...] = ()
    reviewed: str = "listed"
    is_valid: bool | None = None
    model: str = ""
    annotator: str = ""
    vocabulary_all: tuple[str, ...] | None = None
    one_word: bool = False


@dataclass(frozen=True)
class Table:
    """The good rows of a file, what is wrong with the others (`line 7: …`), and what its reader should know."""

    path: Path
    rows: list[Row]
    problems: list[str]
    notes: list[str]
    unit: str = "line"


@dataclass(frozen=True)
class Merged:
    """One image and all its rows. is_valid: True where any row puts it into validation, None where none says."""

    path: Path
    file_name: str
    rows: tuple[Row, ...]
    is_valid: bool | None


@dataclass(frozen=True)
class Agreed:
    """What the annotators of an image agree on; `reviewed`, `model`, `vocabulary_all` as in Row.

    disputed: labels that one confirms and another denies. They are unknown, and in no other list.
    """

    labels: tuple[str, ...]
    rejected: tuple[str, ...]
    disputed: tuple[str, ...]
    reviewed: str
    model: str
    vocabulary_all: tuple[str, ...] | None


def read_table(path: Path | str) -> Table:
    """Read a file in any of the formats of `demo.table_formats`, or a folder of images with `.txt` files.

    Raises TableError when the file as a whole cannot be used. Rows that cannot are in `problems`.
    """
    path = Path(path).absolute()
    table = read_records(path)
    problems, notes, folder = list(table.problems), list(table.notes), path if path.is_dir() else path.parent
    if not table.has_split:
        notes.append("There is no is_valid column, so no row says whether it is for validation.")
    if table.file_column == "fname" and table.records:  # fastai keeps the images of train.csv in train/
        name = table.records[0][1]["fname"]
        if not _there(folder / name) and _there(folder / path.stem / name):
            folder = folder / path.stem
            notes.append(f"The images were found in {path.stem}/.")
    rows = []
    for line, record in table.records:
        try:
            file_name = record[table.file_column]
            image = Path(os.path.normpath(folder / file_name))
            if not _there(image):
                raise ValueError(f"there is no image {shortened(file_name)!r}")
            is_valid = from_bool_cell(record["is_valid"]) if table.has_split else None
            rows.append(Row(line=line, path=image, file_name=file_name, is_valid=is_valid, **table.say(record)))
        except ValueError as error:
            problems.append((line, str(error)))
    nameless = {row.model for row in rows if row.reviewed == "all" and row.vocabulary_all is None}
    for model in sorted(model for model in nameless if read_vocabulary(path.parent, model) is None):
        notes.append(
            f"Some rows are reviewed in full but the labels of their model {shortened(model)!r} are not kept beside "
            "the CSV: the labels of the model in use stand in for them."
        )
    return Table(
        path, rows, [f"{table.unit} {line}: {problem}" for line, problem in sorted(problems)], notes, table.unit
    )


def require_good(table: Table) -> None:
    """Raise TableError with the first bad rows, unless there are none."""
    if bad := table.problems:
        more = [f"and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
        raise TableError(
            f"{len(bad)} of {len(bad) + len(table.rows)} rows of {table.path} cannot be used:",
            "".join(f"\n  {problem}" for problem in bad[:SHOWN] + more) + "\n",
            "Correct or remove these lines, then run it again.",
        )


def merge_rows(rows: Iterable[Row]) -> list[Merged]:
    """One entry per image, in the order of first rows."""
    images: dict[Path, list[Row]] = {}
    for row in rows:
        images.setdefault(row.path, []).append(row)
    merged = []
    for path, same in images.items():
        sides = [row.is_valid for row in same if row.is_valid is not None]
        merged.append(Merged(path, same[0].file_name, tuple(same), any(sides) if sides else None))
    return merged


def labels_in(merged: Iterable[Merged]) -> tuple[str, ...]:
    """Every label that a row confirms or rejects, in the order of first mention."""
    return tuple(dict.fromkeys(name for image in merged for row in image.rows for name in row.labels + row.rejected))


def respelled(merged: Iterable[Merged], names: Sequence[str]) -> list[Merged]:
    """The same images, where a label written as one word is that of `names` which is written so.

    fastai's `red_sofa` is the model's `red sofa` where that is the only label that it could be.
    """
    written = Counter(name.replace(" ", "_") for name in set(names))
    meant = {word: name for name in names if written[word := name.replace(" ", "_")] == 1}

    @cache
    def read(labels: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(meant.get(name, name) for name in labels))

    def row(old: Row) -> Row:
        return replace(old, labels=read(old.labels), vocabulary_all=read(old.vocabulary_all)) if old.one_word else old

    return [replace(image, rows=tuple(map(row, image.rows))) for image in merged]


def agreed(image: Merged, folder: Path | str) -> Agreed:
    """What all rows of an image say together; `folder` is the CSV's. One row says what it says.

    Several, one of them reviewed in full, are spelled out: `rejected` then names all that they deny.
    """
    row = image.rows[0]
    if len(image.rows) == 1:
        return Agreed(row.labels, row.rejected, (), row.reviewed, row.model, row.vocabulary_all)
    spoken_of = _spoken_of((), folder)
    disputed = tuple(_disputed(image, spoken_of))
    confirmed = dict.fromkeys(name for row in image.rows for name in row.labels)
    denied = dict.fromkeys(name for row in image.rows for name in (*row.rejected, *sorted(spoken_of(row))))
    labels = tuple(name for name in confirmed if name not in disputed)
    rejected = tuple(name for name in denied if name not in confirmed)
    return Agreed(labels, rejected, disputed, "listed", row.model, None)


def targets(
    merged: Sequence[Merged], names: Sequence[str], model_names: Sequence[str], folder: Path | str
) -> np.ndarray:
    """Targets of shape (N, L), float32: 1 present, 0 absent, -1 unknown.

    names: the L labels. model_names: stand in for the labels of a row's model where none are kept in `folder`, the
    CSV's. `reviewed` = `all` makes every other label of that model absent; labels it never knew stay unknown.
    """
    at = {name: position for position, name in enumerate(names)}

    def columns(labels: Iterable[str]) -> np.ndarray:
        return np.array([at[name] for name in labels if name in at], dtype=np.intp)

    spoken_of, columns_of_all = _spoken_of(model_names, folder), cache(columns)
    cells = np.full((len(merged), len(names)), -1, dtype=np.float32)
    for of_image, image in zip(cells, merged, strict=True):
        for row in image.rows:
            of_image[columns_of_all(spoken_of(row))] = 0
            of_image[columns(row.rejected)] = 0
        for row in image.rows:
            of_image[columns(row.labels)] = 1
        of_image[columns(_disputed(image, spoken_of))] = -1
    return cells


def renamed(
    merged: Iterable[Merged], origins: Mapping[str, Sequence[str]], model_names: Sequence[str], folder: Path | str
) -> list[Merged]:
    """The same images, each row speaking of new labels too. origins: old labels by new one; the rest as in `targets`.

    A row confirms a new label where it confirms one of its origins, and denies it where it denies all of them.
    """
    spoken_of = _spoken_of(model_names, folder)
    joined = {new: olds for new, olds in origins.items() if olds and list(olds) != [new]}
    news: dict[str, list[str]] = {}
    for new, olds in joined.items():
        for old in olds:
            news.setdefault(old, []).append(new)

    @cache
    def with_new(spoken: frozenset[str]) -> tuple[str, ...]:
        return (*spoken, *(new for new, olds in joined.items() if spoken.issuperset(olds)))

    def row(old: Row) -> Row:
        spoken = spoken_of(old)
        labels = dict.fromkeys((*old.labels, *(new for name in old.labels for new in news.get(name, ()))))
        asked = dict.fromkeys(new for name in old.rejected for new in news.get(name, ()))
        denied = [new for new in asked if all(name in spoken or name in old.rejected for name in joined[new])]
        rejected = dict.fromkeys(name for name in (*old.rejected, *denied) if name not in labels)
        own = with_new(spoken) if old.reviewed == "all" else old.vocabulary_all
        return replace(old, labels=tuple(labels), rejected=tuple(rejected), vocabulary_all=own)

    return [replace(image, rows=tuple(map(row, image.rows))) for image in merged]


def disagreements(merged: Iterable[Merged], model_names: Sequence[str], folder: Path | str) -> str:
    """A note on the cells that count as unknown because annotators disagree, or ''. Arguments as in `targets`."""
    spoken_of = _spoken_of(model_names, folder)
    found = [(image.file_name, names) for image in merged if (names := _disputed(image, spoken_of))]
    if not found:
        return ""
    shown = "; ".join(f"{file_name} ({shortened(', '.join(names))})" for file_name, names in found[:SHOWN])
    cells = sum(len(names) for _, names in found)
    return f"{cells} cells on {len(found)} images count as unknown, because annotators disagree: {shown}" + (
        f"; and {len(found) - SHOWN} more." if len(found) > SHOWN else "."
    )


def _spoken_of(model_names: Sequence[str], folder: Path | str) -> Callable[[Row], frozenset[str]]:
    """A function that gives the labels on which a row speaks without listing them."""
    kept = cache(lambda model: frozenset(read_vocabulary(folder, model) or model_names))
    own = cache(frozenset)
    nothing: frozenset[str] = frozenset()

    def spoken_of(row: Row) -> frozenset[str]:
        if row.reviewed != "all":
            return nothing
        return kept(row.model) if row.vocabulary_all is None else own(row.vocabulary_all)

    return spoken_of


def _disputed(image: Merged, spoken_of: Callable[[Row], frozenset[str]]) -> list[str]:
    """Labels that one row of the image confirms and another denies."""
    if len(image.rows) == 1:
        return []
    confirmed = dict.fromkeys(name for row in image.rows for name in row.labels)
    return [
        name
        for name in confirmed
        if any(name in row.rejected or (name not in row.labels and name in spoken_of(row)) for row in image.rows)
    ]


def _there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, say
        return False
