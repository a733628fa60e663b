"""The rows that a dataset repo of the Hub holds, read at one commit and changed on top of that commit or not at all.

The repo is a valid ImageFolder: `data/<start time>-<random>/metadata.csv` with the columns of the corrections CSV and
its images in `images/` beside it. Each process has a folder of its own and begins another after FOLDER_ROWS rows, since
the Hub takes 10,000 files a folder and every change sends a whole metadata.csv. `vocabularies/` has the labels of
models of which rows are reviewed in full. All other files are left alone.

Whoever commits says on top of which commit: where somebody else was faster nothing is written and `Overtaken` raised.
So no folder is ever overwritten by who has not read it, and an answer that was lost is told from a commit that was.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_url
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import (
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from demo.errors import HubError
from demo.hub import reason, require_repo_name
from demo.ledger import Key, key_of_line
from demo.rows import HEADER, Correction, from_line, from_list_cell, json_line, to_line
from demo.vocabularies import vocabulary_bytes, vocabulary_name

FOLDER_ROWS = 1000
FILES_AT_ONCE = 8
ANSWER_SECONDS = 60
"""After which a connection that says nothing is given up; huggingface_hub alone would wait for ever."""

Answer = TypeVar("Answer")

_TABLE = re.compile(r"data/[\w-]+/metadata\.csv", re.ASCII)
_FAULTS = (HTTPError, OSError, ValueError, RuntimeError)
_STATUS = {
    401: ("it does not know the token", "Set HF_TOKEN to a token that may write to {owner}."),
    403: ("the token may not write there", "Set HF_TOKEN to a token that may write to {owner}."),
    404: ("there is nothing of that name", "Check the spelling of {name}, and HF_ENDPOINT where it is set."),
    429: ("too many requests", "It is tried again by itself."),
}


class Overtaken(HubError):
    """Somebody else committed meanwhile: nothing was written, and what is there has to be read anew."""


@dataclass(frozen=True)
class Put:
    """A row to be there, and its picture where that is not there yet: bytes and extension."""

    row: Correction
    picture: tuple[bytes, str] | None


class HubRows:
    """What the dataset `name` held at the commit `head`; '' before the first `read`, and while it is in doubt.

    private: whether only its owner may read it; None where that is not known. unreadable: tables that are not ours
    any more, because somebody changed them by hand. Raises BadInput for a name that is not `owner/name`.
    """

    def __init__(self, name: str) -> None:
        require_repo_name(name, "dataset")
        self.name, self.head = name, ""
        self.private: bool | None = None
        self.unreadable: list[str] = []
        self._api = HfApi()
        self._tables: dict[str, dict[Key, bytes]] = {}  # the lines of each folder
        self._folder_of: dict[Key, str] = {}
        self._pictures: dict[str, dict[str, str]] = {}  # of each folder: file names by sha256
        self._vocabularies: set[str] = set()
        self._own = _new_folder()

    # What is there

    def _line(self, key: Key) -> bytes:
        return self._tables[self._folder_of[key]][key]

    def keys(self) -> Collection[Key]:
        return self._folder_of.keys()

    def saved_at(self, key: Key) -> str:
        """When the row of that key was saved; '' without one."""
        return saved_at(self._line(key)) if key in self._folder_of else ""

    def says(self, key: Key, row: Correction) -> bool:
        """Whether the row is there just as it is, whatever its picture's extension."""
        if key not in self._folder_of:
            return False
        name = self.picture(key)
        return name is not None and self._line(key) == _to_line(replace(row, file_name=f"images/{name}"))

    def picture(self, key: Key) -> str | None:
        """The name of the picture in the folder where the row of that key is, or would be put."""
        return self._pictures.get(self._folder_of.get(key, self._own), {}).get(key[0])

    def row(self, key: Key) -> Correction:
        """The row as it was saved. Raises ValueError for a damaged one."""
        return _from_line(self._line(key))

    def pictures(self, keys: Sequence[Key]) -> list[bytes]:
        """The pictures of those rows. Raises HubError."""
        folders = [self._folder_of[key] for key in keys]
        names = [self._pictures[folder][key[0]] for folder, key in zip(folders, keys, strict=True)]
        return self._talk(lambda: self._files([f"{f}/images/{n}" for f, n in zip(folders, names, strict=True)]))

    def vocabulary(self, model: str) -> tuple[str, ...] | None:
        """The labels of a model; None where they are not kept there, or not as we write them. Raises HubError."""
        path = f"vocabularies/{vocabulary_name(model)}"
        if path not in self._vocabularies:
            return None
        (content,) = self._talk(lambda: self._files([path]))
        try:
            return from_list_cell(json.dumps(json.loads(content)["labels"]))
        except (ValueError, KeyError, TypeError):
            return None

    # Reading and changing it

    def read(self, make: bool = False) -> bool:
        """Take in what is there now. `make`: where there is no such repo, make a private one, and tell so.

        Raises HubError.
        """
        self.head = ""
        return self._talk(lambda: self._read(make))

    def _read(self, make: bool) -> bool:
        is_new = False
        try:
            info = self._api.dataset_info(self.name, timeout=ANSWER_SECONDS)
        except RepositoryNotFoundError:
            if not make:
                raise
            self._api.create_repo(self.name, repo_type="dataset", private=True, exist_ok=True)
            is_new = True
            info = self._api.dataset_info(self.name, timeout=ANSWER_SECONDS)
        paths = [file.rfilename for file in info.siblings or ()]
        names = sorted(filter(_TABLE.fullmatch, paths))
        tables, unreadable = {}, []
        for name, content in zip(names, self._files(names, info.sha), strict=True):
            table = _table(content)
            if table is None:
                unreadable.append(name)
            else:
                tables[name.rpartition("/")[0]] = table
        pictures: dict[str, dict[str, str]] = {}
        for path in paths:
            folder, between, file = path.rpartition("/images/")
            if between and folder.startswith("data/"):
                pictures.setdefault(folder, {})[file.rpartition(".")[0]] = file
        folder_of: dict[Key, str] = {}
        for folder, table in tables.items():
            for key, line in table.items():
                if key not in folder_of or saved_at(tables[folder_of[key]][key]) < saved_at(line):
                    folder_of[key] = folder
        self._tables, self._folder_of, self._pictures = tables, folder_of, pictures
        self._vocabularies = {path for path in paths if path.startswith("vocabularies/")}
        self.private, self.unreadable, self.head = bool(info.private), unreadable, info.sha
        return is_new

    def change(
        self, put: Mapping[Key, Put], gone: Collection[Key], vocabularies: Mapping[str, tuple[str, ...]]
    ) -> None:
        """Put rows, remove others with the pictures that no row has any more, and keep vocabularies: in one commit.

        A row that is there stays in its folder. Raises Overtaken, and HubError; `head` is then ''.
        """
        folder_of = self._folder_of | {key: self._folder_of.get(key, self._own) for key in put}
        touched = {folder_of[key] for key in put}
        touched |= {folder for folder, table in self._tables.items() if not table.keys().isdisjoint(gone)}
        tables = {folder: dict(self._tables.get(folder, {})) for folder in touched}
        pictures = {folder: dict(self._pictures.get(folder, {})) for folder in touched}
        files: dict[str, bytes] = {}
        for key, one in put.items():
            folder = folder_of[key]
            if one.picture is not None:
                content, extension = one.picture
                pictures[folder][key[0]] = f"{key[0]}.{extension}"
                files[f"{folder}/images/{key[0]}.{extension}"] = content
            tables[folder][key] = _to_line(replace(one.row, file_name=f"images/{pictures[folder][key[0]]}"))
        for key in gone:
            folder_of.pop(key, None)
            for table in tables.values():
                table.pop(key, None)
        removed = []
        for folder, table in tables.items():
            used = {digest for digest, _ in table}
            removed += [f"{folder}/images/{pictures[folder].pop(d)}" for d in pictures[folder].keys() - used]
            if table:
                files[f"{folder}/metadata.csv"] = HEADER + b"".join(table.values())
            else:
                removed.append(f"{folder}/metadata.csv")
        kept = {
            f"vocabularies/{vocabulary_name(model)}": vocabulary_bytes(model, names)
            for model, names in vocabularies.items()
        }
        files |= {path: content for path, content in kept.items() if path not in self._vocabularies}
        self._commit(files, removed, f"{len(put)} rows saved, {len(gone)} deleted")
        self._tables, self._folder_of = self._tables | tables, folder_of
        if len(self._tables.get(self._own, ())) >= FOLDER_ROWS:
            self._own = _new_folder()
        self._pictures = self._pictures | pictures
        self._vocabularies = self._vocabularies | kept.keys()

    def _commit(self, files: Mapping[str, bytes], removed: Sequence[str], message: str) -> None:
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        operations += [CommitOperationDelete(path) for path in removed]
        parent, self.head = self.head, ""
        done = self._talk(
            lambda: self._api.create_commit(
                self.name, operations, commit_message=message, repo_type="dataset", parent_commit=parent
            )
        )
        self.head = done.oid

    def _files(self, paths: Sequence[str], commit: str = "") -> list[bytes]:
        with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
            return list(threads.map(lambda path: self._file(path, commit or self.head), paths))

    def _file(self, path: str, commit: str) -> bytes:
        url = hf_hub_url(self.name, path, repo_type="dataset", revision=commit, endpoint=self._api.endpoint)
        answer = get_session().get(url, headers=build_hf_headers())
        hf_raise_for_status(answer)
        return answer.content

    def _talk(self, ask: Callable[[], Answer]) -> Answer:
        """What the Hub answers; every fault as a HubError."""
        get_session().timeout = ANSWER_SECONDS
        try:
            return ask()
        except _FAULTS as error:
            raise _explain(error, self.name) from error


def _new_folder() -> str:
    return f"data/{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def _table(content: bytes) -> dict[Key, bytes] | None:
    """The lines of a metadata.csv by key; None for one that is not as we write it."""
    head, *lines = content.split(b"\n")
    try:
        keys = [_key(line + b"\n") for line in lines[:-1]]
    except ValueError:
        return None
    whole = head + b"\n" == HEADER and lines and not lines[-1] and len(set(keys)) == len(keys)
    return dict(zip(keys, (line + b"\n" for line in lines), strict=False)) if whole else None


# A line is one of the corrections CSV, but that the annotator is a JSON string like the labels: `datasets` guesses what
# type a column has, and takes one without annotators for numbers and all other files for damaged.


def _to_line(row: Correction) -> bytes:
    return to_line(replace(row, annotator=json_line(row.annotator)))


def _from_line(line: bytes) -> Correction:
    row = from_line(line)
    return replace(row, annotator=_annotator(row.annotator))


def _key(line: bytes) -> Key:
    who = key_of_line(line)
    if who is None:
        raise ValueError("it is no row")
    return who[0], _annotator(who[1])


def _annotator(cell: str) -> str:
    name = json.loads(cell)
    if not isinstance(name, str):
        raise ValueError(f"the annotator is {cell}")
    return name


def saved_at(line: bytes) -> str:
    """When the row of a line was saved, UTC, without reading the rest of it."""
    return line.rstrip(b"\n").rpartition(b",")[2].decode()


def _explain(error: Exception, name: str) -> HubError:
    """What happened, why and what next; never the address of an upload, which is signed."""
    while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why an upload failed, rather than that it did
    what = f"The dataset {name} cannot be synced."
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status == 412:
            return Overtaken(f"Somebody else changed {name} meanwhile.", "", "It is tried again by itself.")
        said = " ".join((error.server_message or "").split()).rstrip(".")
        why, next_step = _STATUS.get(status, ("a fault of its own", "It is tried again by itself."))
        why = f"The Hub answered {status}: {why}." + (f" It says: {said}." if said else "")
        return HubError(what, why, next_step.format(owner=name.partition("/")[0], name=name))
    if isinstance(error, OfflineModeIsEnabled):
        return HubError(what, "HF_HUB_OFFLINE is set.", "Unset it.")
    return HubError(what, f"{reason(error)}.", "Check the connection.")
