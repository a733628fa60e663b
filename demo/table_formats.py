"""The formats of tables that users bring, each made into records and a way to read one.

Told apart by the first line; a folder is one of images with `.txt` files beside them. Looks into no image: what the
rows mean together is `demo.tables`. What a label means that a row does not name is the format's: absent where it is
made for complete lists (fastai's), unknown where nothing says that anybody looked for it (all others).
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from demo import spelling
from demo.errors import TableError
from demo.images import find_images
from demo.rows import COLUMNS, REVIEWED, from_list_cell, lost_in_utf8, shortened

FILE_COLUMNS = ("file_name", "fname", "filename", "file", "path", "image", "image_path", "image_name")
CELLS = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1, "": -1}  # pandas writes 1.0 beside empty cells
LIST_LINE = re.compile(r"[^\t\n]+\t *-?[01] *(,|\r?\n|$)")
_ESCAPE = r"""\\(?:[\\'"abfnrtv]|x[0-9a-f]{2}|u[0-9a-f]{4}|U00(?:0[0-9a-f]|10)[0-9a-f]{4})"""
QUOTED = rf"""('(?:[^'\\\n]|{_ESCAPE})*'|"(?:[^"\\\n]|{_ESCAPE})*")"""
QUOTED_LIST = re.compile(rf"\[\s*(?:{QUOTED}(?:\s*,\s*|\s+|(?=\s*\])))*\]")

Record = Mapping[str, str]
Say = Callable[[Record], dict]


@dataclass(frozen=True)
class Records:
    """Line number and cells by column of every line of the right length.

    say: from a record to labels, rejected, reviewed, model, annotator, vocabulary_all and one_word, as far as the
    format has them; raises ValueError. problems: line number and what is wrong there. unit: what is numbered.
    """

    records: list[tuple[int, Record]]
    file_column: str
    has_split: bool
    say: Say
    problems: list[tuple[int, str]]
    notes: list[str]
    unit: str = "line"


def read_records(path: Path) -> Records:
    """Read the file or folder at `path`. Raises TableError when it cannot be used as a whole."""
    if path.is_dir():
        return _captions(path)
    text, notes, problems = _text(path), [], []
    if text.startswith("{"):
        return _json(path, text)
    if text.startswith(",".join(COLUMNS)) and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        notes.append("The last row was torn while it was being saved and is left out.")
    is_list = bool(LIST_LINE.match(text))
    lines = _list_file(path, text, notes) if is_list else _csv_lines(text, problems)
    (_, header), *lines = lines or [(1, [])]
    header = [name.strip() for name in header]
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise TableError(f"{path} has the column or label {shortened(twice)!r} twice.", next_step="Rename one.")
    records = []
    for line, cells in lines:
        if len(cells) == len(header):
            records.append((line, dict(zip(header, cells, strict=True))))
        else:
            problems.append((line, f"it has {len(cells)} cells where {len(header)} are needed"))
    file_column, say = _format(path, header, [record for _, record in records], is_list, notes)
    if not records and not problems:
        raise TableError(f"{path} has no rows.", "There is nothing below its header.", "Save some corrections first.")
    return Records(records, file_column, not is_list and "is_valid" in header, say, problems, notes)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    except OSError as error:
        raise TableError(f"{path} cannot be read.", f"{error.strerror}.", "Name a CSV or a list file.") from None
    if "\0" in text:
        raise TableError(f"{path} is not a text file.", "A table is UTF-8 text.", "Save it as CSV in UTF-8.")
    if not text.strip():
        raise TableError(f"{path} is empty.", next_step="Save some corrections first, or name another file.")
    return text


def _csv_lines(text: str, problems: list[tuple[int, str]]) -> list[tuple[int, list[str]]]:
    """Line number and cells of every line that is not blank."""
    reader, lines, line = csv.reader(io.StringIO(text, newline=""), strict=True), [], 1
    try:
        for cells in reader:
            if cells:
                lines.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        problems.append((line, f"it is not CSV and nothing below it was read: {error}"))
    return lines


def _list_file(path: Path, text: str, notes: list[str]) -> list[tuple[int, list[str]]]:
    """PaddleClas' `path<TAB>0,1,0,…` as the lines of a CSV whose header is '' and the label names."""
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        name, _, cells = line.partition("\t")
        if line.strip():
            lines.append((number, [name, *cells.strip().split(",")]))
    count = len(lines[0][1]) - 1
    beside = next((path.parent / n for n in ("label_list.txt", "labels.txt") if (path.parent / n).is_file()), None)
    if beside is None:
        names = [f"label_{number}" for number in range(count)]
        notes.append(
            "There is no label_list.txt or labels.txt beside the list: its labels are called label_0, label_1, …"
        )
    else:
        names = [line.strip() for line in _text(beside).split("\n") if line.strip()]
        numbered = [re.fullmatch(r"(\d+)[\s,:]+(.+)", name) for name in names]
        for start in (0, 1):  # numbers that count up are no part of the names
            if all(match and int(match[1]) == at for at, match in enumerate(numbered, start)):
                names = [match[2] for match in numbered]
                break
        if len(names) != count:
            raise TableError(
                f"{beside} names {len(names)} labels but {path} has {count} values a line.",
                next_step="Put the label list that belongs to it there, or none.",
            )
    return [(0, ["", *names]), *lines]


def _format(path: Path, header: list[str], records: list[Record], is_list: bool, notes: list[str]) -> tuple[str, Say]:
    """The column of file names, and a function from a record to what it says. Raises TableError."""
    if not is_list and {"labels", "file_name"} <= set(header):
        if not {"rejected", "reviewed"} & set(header):
            notes.append("No column says what is absent: labels that a row does not list count as unknown there.")
        return "file_name", _say_ours
    if not is_list and {"labels", "fname"} <= set(header):
        vocabulary = tuple(dict.fromkeys(n for record in records for n in spelling.from_words(record["labels"])))
        return "fname", lambda record: {
            "labels": spelling.from_words(record["labels"]),
            "reviewed": "all",
            "vocabulary_all": vocabulary,
            "one_word": True,
        }
    file_column = "" if is_list else next((n for f in FILE_COLUMNS for n in header if n.lower() == f), None)
    # Not a label: the file, the split, and the index that pandas writes without a name.
    columns = [name for name in header if name not in (file_column, "") and (is_list or name != "is_valid")]
    marked = []
    for name in columns:
        values = {record[name].strip() for record in records}
        if any(CELLS.get(value, -1) >= 0 for value in values) or values <= CELLS.keys():
            marked.append(name)
    if file_column is None or not marked:
        raise TableError(
            f"{path} has no columns of a kind that is read here.",
            f"Its first line is {shortened(', '.join(header))!r}.",
            "Use the columns file_name,labels (JSON lists), or fname,labels,is_valid (labels separated by spaces), or "
            "a file_name column and one 0/1 column a label, or lines of path<TAB>0,1,0.",
        )
    if ignored := [name for name in columns if name not in marked]:
        notes.append(f"Columns without a 0 or 1 are left out: {shortened(', '.join(ignored))}.")
    return file_column, lambda record: _say_marked(record, marked)


def _json(path: Path, text: str) -> Records:
    """What `demo.exports` writes as JSON."""
    try:
        document = json.loads(text)
        images, vocabularies = document["images"], document.get("vocabularies", {})
        fits = isinstance(images, list) and isinstance(vocabularies, dict)
        kept = {model: from_list_cell(json.dumps(names)) for model, names in vocabularies.items()} if fits else {}
    except (ValueError, KeyError, RecursionError) as error:
        fits, why = False, f"{error}"
    else:
        why = '"images" is no list, or "vocabularies" no object.'
    if not fits:
        raise TableError(
            f"{path} is not an export of corrections.", why, 'It is {"images": [{"file_name", "labels", …}, …]}.'
        )
    records, problems = [], []
    for number, image in enumerate(images, start=1):
        told = {key: cell for key, cell in image.items() if cell is not None} if isinstance(image, dict) else {}
        if isinstance(told.get("file_name"), str) and "labels" in told:
            texts = {key: cell if isinstance(cell, str) else json.dumps(cell) for key, cell in told.items()}
            records.append((number, texts))
        else:
            problems.append((number, "it has no file_name or no labels"))

    def say(record: Record) -> dict:
        row = _say_ours(record)
        return row | {"vocabulary_all": kept.get(row["model"]) if row["reviewed"] == "all" else None}

    has_split = bool(records) and all("is_valid" in record for _, record in records)
    return Records(records, "file_name", has_split, say, problems, [], "image")


def _captions(path: Path) -> Records:
    """A folder of images, those below it too, each with its labels in a `.txt` of the same name."""
    records, problems, alone = [], [], 0
    for number, image in enumerate(find_images([path]), start=1):
        beside = image.with_suffix(".txt")
        if not beside.is_file():
            alone += 1
            continue
        try:
            text = beside.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError):
            problems.append((number, f"{beside.name} is not readable as UTF-8 text"))
            continue
        records.append((number, {"file_name": str(image.relative_to(path)), "labels": text}))
    if not records and not problems:
        raise TableError(
            f"{path} is a folder without labels.",
            "No image in it has a .txt file of the same name beside it.",
            "Name a CSV or a list file, metadata.csv or a JSON export.",
        )
    notes = ["Labels that a .txt file does not list count as unknown there."]
    if alone:
        notes.append(f"{alone} images without a .txt file are left out.")
    return Records(
        records,
        "file_name",
        False,
        lambda record: {"labels": spelling.from_commas(record["labels"])},
        problems,
        notes,
        "image",
    )


def _names(cell: str) -> tuple[str, ...]:
    """The labels of a list cell: JSON, or a list as Python or NumPy print it. Raises ValueError."""
    try:
        return from_list_cell(cell)
    except ValueError:
        if not QUOTED_LIST.fullmatch(cell.strip()):
            raise
        return from_list_cell(json.dumps([ast.literal_eval(match[0]) for match in re.finditer(QUOTED, cell)]))


def _say_ours(record: Record) -> dict:
    labels, rejected = _names(record["labels"]), _names(record.get("rejected", "[]"))
    reviewed = record.get("reviewed", "listed")
    if both := set(labels) & set(rejected):
        raise ValueError(f"the label {shortened(min(both))!r} is both in labels and in rejected")
    if reviewed not in REVIEWED:
        raise ValueError(f"reviewed is {shortened(reviewed)!r} and not one of {', '.join(REVIEWED)}")
    who = {name: record.get(name, "") for name in ("model", "annotator")}
    if lost := lost_in_utf8([*who.values()]):
        raise ValueError(f"the name {lost}")
    return {"labels": labels, "rejected": rejected, "reviewed": reviewed, **who}


def _say_marked(record: Record, columns: list[str]) -> dict:
    says = {1: [], 0: [], -1: []}
    for name in columns:
        if (value := CELLS.get(record[name].strip())) is None:
            raise ValueError(f"{shortened(name)!r} is {shortened(record[name])!r} and not 1, 0, -1 or empty")
        says[value].append(name)
    return {"labels": tuple(says[1]), "rejected": tuple(says[0])}
