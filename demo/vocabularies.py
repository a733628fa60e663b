"""The label names of every model that corrections speak of, kept once per model beside the CSV.

Needed because `reviewed` = `all` says that every other label of that row's model is absent, and the model may be
gone or renamed when the row is read. Does not lock: whoever writes holds the lock of the CSV.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from demo.durable import make_folder, put
from demo.errors import CorrectionsError
from demo.rows import from_list_cell, to_list_cell


def read_vocabulary(csv_folder: Path | str, model_id: str) -> tuple[str, ...] | None:
    """Label names of the model `model_id` as kept beside the CSV, or None. Raises CorrectionsError when damaged."""
    path = _path(Path(csv_folder), model_id)
    try:
        return from_list_cell(json.dumps(json.loads(path.read_text(encoding="utf-8"))["labels"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorrectionsError(f"{path} cannot be read.", f"{error}.", "Restore it, or move it away.") from error


def keep_vocabulary(csv_folder: Path, model_id: str, names: tuple[str, ...]) -> None:
    """Keep `names` for `model_id`. Raises CorrectionsError when others were kept for it, OSError from the disk."""
    kept = read_vocabulary(csv_folder, model_id)
    if kept is None:
        path = _path(csv_folder, model_id)
        make_folder(path.parent)
        put(path, vocabulary_bytes(model_id, names))
    elif kept != names:
        raise CorrectionsError(
            f"The labels of {model_id} are not those that were kept for it.",
            "Rows saved earlier with everything reviewed speak of the labels as they were.",
            "Give the changed checkpoint a name of its own.",
        )


def vocabulary_bytes(model_id: str, names: tuple[str, ...]) -> bytes:
    """What is kept of a model: the content of its file."""
    return f'{{"model": {json.dumps(model_id)}, "labels": {to_list_cell(names)}}}\n'.encode()


def vocabulary_name(model_id: str) -> str:
    """The name of a model's file in the folder `vocabularies` beside the CSV.

    By a hash alone: `datasets` takes a file with the word test or valid in its name for a split.
    """
    return f"{hashlib.sha256(model_id.encode(errors='surrogatepass')).hexdigest()[:24]}.json"


def _path(csv_folder: Path, model_id: str) -> Path:
    return csv_folder / "vocabularies" / vocabulary_name(model_id)
