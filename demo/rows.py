"""One row of the corrections CSV: its columns, its cells, and the line of bytes it becomes and comes back from.

Promises: what was put in comes back exactly; one row is one line, whatever a label holds; no cell starts a
spreadsheet formula; there is nothing in it that UTF-8 cannot keep. Does no input or output: files are
`demo.corrections`.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime

from demo.errors import BadInput

REVIEWED = ("listed", "all")
OWN_IMAGE = re.compile(r"images/[0-9a-f]{64}\.[a-z0-9]{1,5}")
# Beside \x00-\x1f, which JSON escapes: whatever some reader takes for a line's end, and what UTF-8 cannot hold.
_CONTROL = "\x7f-\x9f\u2028\u2029\ud800-\udfff"
_HALF = re.compile("[\ud800-\udfff]")

csv.field_size_limit(2**31 - 1)  # the default of 128 kB is less than the labels of one row may take


@dataclass(frozen=True)
class Correction:
    """One row, in the order of the columns. `labels`, `rejected` and `model_labels` are tuples of label names."""

    file_name: str
    labels: tuple[str, ...]
    rejected: tuple[str, ...]
    reviewed: str
    is_valid: bool
    model_labels: tuple[str, ...]
    threshold: float
    model: str
    annotator: str
    saved_at: str


COLUMNS = tuple(field.name for field in fields(Correction))
HEADER = (",".join(COLUMNS) + "\n").encode()


@dataclass(frozen=True)
class View:
    """What a person says of an image and what the model had said: the columns that a save decides on.

    vocabulary: all label names of `model`, which are kept once per model because `reviewed` = `all` speaks of every
    one of them; None where they are not known.
    """

    labels: Sequence[str]
    rejected: Sequence[str]
    reviewed: str
    model_labels: Sequence[str]
    threshold: float
    model: str
    vocabulary: Sequence[str] | None = None

    def row(self, digest: str, extension: str, annotator: str) -> Correction:
        """The row of an image, by sha256 and kind (`png`), saved now. Raises BadInput for what is no list of labels."""
        return Correction(
            file_name=f"images/{digest}.{extension.lower().lstrip('.')}",
            labels=checked_names("labels", self.labels),
            rejected=checked_names("rejected", self.rejected),
            reviewed=self.reviewed,
            is_valid=int(digest[:8], 16) % 5 == 0,
            model_labels=checked_names("model_labels", self.model_labels),
            threshold=float(self.threshold) + 0.0,  # -0.0 would start with a minus
            model=self.model,
            annotator=annotator,
            saved_at=now(),
        )


def now() -> str:
    """The time as rows have it: of two the later one is the greater text."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def to_list_cell(names: Sequence[str]) -> str:
    """JSON list of `names`, as `json_line` writes it."""
    return json_line(list(names))


def json_line(value: object) -> str:
    """JSON of `value`: readable text without a single line break or control character."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(f"[{_CONTROL}]", lambda match: f"\\u{ord(match[0]):04x}", text)


def from_list_cell(cell: str) -> tuple[str, ...]:
    """Label names of a list cell. Raises ValueError unless it is a JSON list that `checked_names` would take."""
    try:
        names = json.loads(cell)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not {str}.issuperset(map(type, names)):
        raise ValueError(f"{shortened(cell)!r} is not a JSON list of strings")
    if "" in names or len(set(names)) < len(names):
        raise ValueError(f"{shortened(cell)!r} holds an empty label or one label twice")
    if lost := lost_in_utf8(names):
        raise ValueError(f"the label {lost}")
    return tuple(map(sys.intern, names))  # of 100,000 rows, all share their names


def from_bool_cell(cell: str) -> bool:
    """`True` or `False`, in any case since spreadsheets write TRUE. Raises ValueError."""
    if cell.lower() not in ("true", "false"):
        raise ValueError(f"is_valid is {shortened(cell)!r} and not True or False")
    return cell.lower() == "true"


def to_line(row: Correction) -> bytes:
    cells = [getattr(row, column) for column in COLUMNS]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(to_list_cell(c) if isinstance(c, tuple) else c for c in cells)
    return text.getvalue().encode()


def from_line(line: bytes) -> Correction:
    """Raises ValueError for a line that is no row."""
    cells = dict(zip(COLUMNS, _cells(line), strict=True))
    lists = {name: from_list_cell(cells[name]) for name in ("labels", "rejected", "model_labels")}
    is_valid, threshold = from_bool_cell(cells["is_valid"]), float(cells["threshold"])
    return Correction(**cells | lists | {"is_valid": is_valid, "threshold": threshold})


def identity(line: bytes) -> tuple[str, str] | None:
    """File name and annotator of a line, or None for one that is no row."""
    try:
        cells = _cells(line)
    except ValueError:
        return None
    return (cells[0], cells[COLUMNS.index("annotator")]) if len(cells) == len(COLUMNS) else None


def checked_line(row: Correction) -> bytes:
    """The line of a row that is fit to be saved. Raises BadInput."""
    if not OWN_IMAGE.fullmatch(row.file_name):
        raise BadInput(f"{shortened(row.file_name)!r} does not end like an image file.", next_step="Use png, jpg, …")
    if row.reviewed not in REVIEWED:
        raise BadInput(f"reviewed is {row.reviewed!r}.", next_step=f"Use one of {', '.join(REVIEWED)}.")
    if both := set(row.labels) & set(row.rejected):
        raise BadInput(f"The label {shortened(min(both))!r} is both confirmed and rejected.", next_step="Choose one.")
    if not 0 <= row.threshold <= 1:  # NaN is neither
        raise BadInput(f"The threshold is {row.threshold}.", next_step="Use a number from 0 to 1.")
    if not row.model:
        raise BadInput("The row names no model.", "What `reviewed` = `all` speaks of goes by the model.")
    for what, text in (("model", row.model), ("annotator", row.annotator)):
        if lost := lost_in_utf8([text]):
            raise BadInput(f"The {what} {lost}.", next_step="Use another name.")
        if text.startswith(("=", "+", "-", "@")) or re.search(f"[\x00-\x1f{_CONTROL}]", text):
            raise BadInput(
                f"The {what} is {shortened(text)!r}.",
                "It would start a formula or a new line in a spreadsheet.",
                "Use a name that starts with a letter or digit and has no control characters.",
            )
    return to_line(row)


def checked_names(what: str, names: Sequence[str]) -> tuple[str, ...]:
    """`names` as a tuple, when they are distinct, non-empty strings that UTF-8 can keep. Raises BadInput."""
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise BadInput(f"{what} is {shortened(repr(names))}.", "It must be a list of strings.")
    if "" in names or len(set(names)) < len(names):
        raise BadInput(f"{what} holds an empty label or one label twice.", next_step="Name each label once.")
    if lost := lost_in_utf8(names):
        raise BadInput(f"The label {lost}.", next_step="Rename that label.")
    return tuple(names)


def lost_in_utf8(texts: Sequence[str]) -> str:
    """What to say of the first text that UTF-8 cannot keep, or ''. JSON can hold such: an emoji cut in half, say."""
    if text := next(filter(_HALF.search, texts), ""):
        return f"{shortened(text)!r} has characters that UTF-8 text cannot keep"
    return ""


def shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}…"


def _cells(line: bytes) -> list[str]:
    """Cells of one line, read on its own so that a stray quote cannot swallow the next. Raises ValueError."""
    try:
        return next(csv.reader([line.decode().rstrip("\r\n")], strict=True), [])
    except csv.Error as error:
        raise ValueError(str(error)) from None
