"""Corrections to a dataset repo of the Hub and back, for a machine whose disk does not last. python -m demo.sync

Promises: a round pushes what the folder has and the dataset has not, in one commit or several, rows always together
with their pictures; it goes by what the dataset truly holds, so an answer that was lost, a process that was killed and
a second one that pushes beside it double nothing and lose nothing. A row that was saved is on the Hub within the
interval, while the Hub takes a push in a quarter of it, and what is known to be there is *synced*. Rows that others
pushed are taken in, so that people find theirs after a restart; deleted rows go there too, whoever pushed them.
Pictures leave the machine without metadata (`demo.strip_metadata`).

Does not promise: that the history of the dataset forgets what was deleted, that is its owner's to clear; nor that a row
deleted on one machine stays away where the disk of another still has it.

huggingface_hub's CommitScheduler is not used. It goes by what this process pushed and by the dates of files, so on an
empty disk after a restart it overwrites what is there under the same name; it deletes nothing, pushes EXIF along, does
not tell what has arrived, and tries again only when the next interval is over.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from huggingface_hub import get_token
from huggingface_hub.utils import disable_progress_bars
from tqdm import tqdm

from demo import logs
from demo.corrections import Correction, Corrections, read_vocabulary
from demo.errors import EXIT_DONE, EXIT_SKIPPED, BadInput, DemoError, command
from demo.flags import parse_flags
from demo.hub_rows import HubRows, Overtaken, Put, saved_at
from demo.ledger import Key, key_of, key_of_line
from demo.rows import OWN_IMAGE, checked_line, from_line, to_line
from demo.settings import Settings
from demo.strip_metadata import without_metadata

COMMIT_BYTES = 64 * 2**20
"""Pictures in one commit, all of them in memory until it is done. What is more goes into the next, at once."""

COMMIT_ROWS = 500
ROWS_AT_ONCE = 16
"""Whose pictures are fetched and kept together."""

RETRY_SECONDS = 15
"""After a failure, twice as long after each further one, and never longer than the interval."""

STOP_SECONDS = 8
"""For the last push when the app ends: whoever stops a container gives it ten seconds or more."""

TRIES_WHEN_OVERTAKEN = 5


@dataclass(frozen=True)
class State:
    """waiting: rows and deletions that the dataset does not have yet. private: None where that is not known yet.

    synced_at: when all was there last (UTC, ISO 8601), '' for never. error: why it is not going on, or ''.
    """

    dataset: str
    private: bool | None
    minutes: float
    waiting: int
    synced_at: str
    error: str


class Sync:
    """Keeps a folder of corrections and a dataset the same. `start` does so in the background, until `close`.

    there: the dataset. minutes: that a saved row may wait. Raises BadInput where there is no token.
    """

    def __init__(self, corrections: Corrections, there: HubRows, minutes: float) -> None:
        if get_token() is None:
            why = "The Hub takes files only from people it knows."
            raise BadInput("There is no token to sync with.", why, "Set HF_TOKEN to one that may write.")
        self.corrections, self.minutes, self.there = corrections, minutes, there
        self._synced: dict[bytes, Key] = {}  # lines of the CSV that the dataset has, or something newer
        self._on_the_way: dict[bytes, Key] = {}  # lines that it may have, until the answer is there
        self._unfit: list[str] = []  # rows that cannot be pushed or taken in, and why
        self._missing: set[Key] = set()  # rows that are there, and neither here nor deleted here
        self._is_behind = False  # more is missing than one round took in
        self._synced_at = self._error = ""
        self._turn, self._view, self._stop = threading.Lock(), threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)

    @classmethod
    def of(cls, settings: Settings, corrections: Corrections) -> Sync | None:
        """What `--sync` asks for; None without. Raises BadInput."""
        if settings.sync is None:
            return None
        disable_progress_bars()  # stderr is a log there
        return cls(corrections, HubRows(settings.sync), settings.sync_minutes)

    def start(self) -> Sync:
        self._thread.start()
        return self

    def close(self, seconds: float = STOP_SECONDS) -> None:
        """Push once more what waits, for at most so many seconds, and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def state(self) -> State:
        """How far it is. Raises CorrectionsError."""
        with self._view:
            synced, lines, there = self._synced, self.corrections.lines(), self.there
            pushed = synced | self._on_the_way
        changed = {key_of_line(line) for line in lines if line not in synced}
        changed |= {pushed[line] for line in pushed.keys() - set(lines)}
        return State(there.name, there.private, self.minutes, len(changed), self._synced_at, self._error)

    def is_synced(self, row: Correction) -> bool:
        """Whether the dataset has the row as it is."""
        return to_line(row) in self._synced

    def exchange(self) -> None:
        """Push what waits, and take in what others pushed. Raises HubError and CorrectionsError."""
        with self._turn:
            self._push()
            self._take_in()

    def _run(self) -> None:
        failures, is_last = 0, False
        while not is_last:
            is_last, began = self._stop.is_set(), time.monotonic()
            try:
                self.exchange()
            except Exception as error:  # also a bug must not end what keeps the rows
                failures, self._error = failures + 1, str(error) or type(error).__name__
                logs.event("sync_failed", "warning", error=type(error.__cause__ or error).__name__, times=failures)
                if not isinstance(error, DemoError):
                    traceback.print_exception(error)
            else:
                failures, self._error = 0, self._complaint()
                self._synced_at = datetime.now(UTC).isoformat(timespec="seconds")
                logs.event("synced", rows=len(self._synced), seconds=time.monotonic() - began)
            took, interval = time.monotonic() - began, 60 * self.minutes
            # A row that is saved right after one push took its rows is on the Hub when the next one ends.
            pause = 0 if self._is_behind else max(0.9 * interval - 2 * took, interval / 2)
            self._stop.wait(min(pause, RETRY_SECONDS * 2 ** (failures - 1)) if failures else pause)

    def _push(self) -> None:
        for tries_left in reversed(range(TRIES_WHEN_OVERTAKEN)):
            try:
                if not self.there.head and self.there.read(make=True):
                    self._synced = {}
                while self._push_some():
                    pass
                return
            except Overtaken:
                if not tries_left:
                    raise

    def _push_some(self) -> bool:
        """One commit of what waits, if there is anything; whether some of it was too much for that.

        What is saved meanwhile waits for the next round, or a busy server would commit without end. A line that the
        dataset had once is not pushed again: where it is there no more, somebody removed it.
        """
        there = self.there
        with self._view:
            lines = self.corrections.lines()
            new = {line: key for line in lines if line not in self._synced and (key := key_of_line(line))}
            self._on_the_way = self._on_the_way | new
        synced = {line: self._synced[line] for line in lines if line in self._synced}
        put: dict[Key, Put] = {}
        pushed: dict[bytes, Key] = {}
        vocabularies: dict[str, tuple[str, ...]] = {}
        size, is_full, self._unfit = 0, False, []
        for line, key in new.items():
            if is_full := len(put) >= COMMIT_ROWS or size >= COMMIT_BYTES:
                break
            try:
                row = from_line(line)
                if there.says(key, row) or there.saved_at(key) > row.saved_at:
                    synced[line] = key
                    continue
                names = read_vocabulary(self.corrections.folder, row.model) if row.reviewed == "all" else None
                put[key] = one = Put(row, None if there.picture(key) else self._picture(row))
            except (DemoError, OSError, ValueError) as error:
                self._unfit.append(f"{key[0][:12]}…: {error}")
                continue
            pushed[line] = key
            size += len(one.picture[0]) if one.picture else 0
            if names is not None:
                vocabularies[row.model] = names
        absent = there.keys() - {*synced.values(), *new.values()}
        gone = self._deleted_here(absent)
        self._missing = absent - gone
        if put or gone:
            there.change(put, gone, vocabularies)
        with self._view:
            self._synced, self._on_the_way = synced | pushed, {}
        return is_full

    def _picture(self, row: Correction) -> tuple[bytes, str]:
        if not OWN_IMAGE.fullmatch(row.file_name):
            raise ValueError(f"{row.file_name} is not an image that was saved here")
        return without_metadata(self.corrections.image_path(row).read_bytes())

    def _deleted_here(self, keys: set[Key]) -> set[Key]:
        """Those of the keys whose row, as the dataset has it or a later one, was deleted here."""
        if not keys or not self.corrections.history_path.exists():
            return set()
        deleted = set()
        for line in self.corrections.history_path.read_bytes().split(b"\n")[1:-1]:
            key = key_of_line(line)
            if key in keys and saved_at(line) >= self.there.saved_at(key):
                deleted.add(key)
        return deleted

    def _take_in(self) -> None:
        """Take in what is missing; some of it where it is so much that what is saved meanwhile would wait too long."""
        began, self._is_behind = time.monotonic(), False
        for rows, unfit in taken_in(self.there, self._missing, self.corrections):
            self._synced = self._synced | {to_line(row): key_of(row.file_name, row.annotator) for row in rows}
            self._unfit += unfit
            if self._stop.is_set() or time.monotonic() - began > 60 * self.minutes / 4:
                self._is_behind = True
                return

    def _complaint(self) -> str:
        """What stays behind though all went well."""
        damaged = [f"{path} was changed by hand and is left alone." for path in self.there.unreadable]
        unfit = [f"{len(self._unfit)} rows cannot be synced, the first is {self._unfit[0]}"] if self._unfit else []
        return " ".join([*damaged, *unfit])


def taken_in(
    there: HubRows, keys: Collection[Key], corrections: Corrections
) -> Iterator[tuple[list[Correction], list[str]]]:
    """Fetch rows of a dataset into a folder, oldest first: some that are there now, and what is wrong with others.

    Raises HubError and CorrectionsError.
    """
    keys = sorted(keys, key=lambda key: (there.saved_at(key), key))
    vocabularies: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(keys), ROWS_AT_ONCE):
        rows, unfit = {}, []
        for key in keys[start : start + ROWS_AT_ONCE]:
            try:
                if there.picture(key) is None:
                    raise ValueError("its picture is not there")
                row = there.row(key)
                checked_line(row)
            except (BadInput, ValueError) as error:
                unfit.append(f"{key[0][:12]}…: {error}")
                continue
            rows[key] = row
            if row.reviewed == "all" and row.model not in vocabularies:
                vocabularies[row.model] = there.vocabulary(row.model) or ()
        known = {model: names for model, names in vocabularies.items() if names}
        corrections.restore(zip(rows.values(), there.pictures([*rows]), strict=True), known)
        yield [*rows.values()], unfit


@command
def main(arguments: Sequence[str] | None = None) -> int:
    flags = parse_flags(
        "sync",
        arguments,
        description="Pull the corrections that --sync pushed, of all its processes, into one folder.",
        positionals=(("DATASET", "the dataset repo: owner/name"),),
    )
    there = HubRows(flags.dataset)
    out = Path(flags.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out} is not empty.", "Rows are pulled into a folder of their own.", "Name a new one.")
    there.read()
    corrections, unfit = Corrections(out), [f"{path} was changed by hand" for path in there.unreadable]
    with tqdm(total=len(there.keys()), unit="row", disable=None) as bar:
        for rows, wrong in taken_in(there, there.keys(), corrections):
            bar.update(len(rows) + len(wrong))
            unfit += wrong
    for why in unfit:
        print(f"skipped: {why}", file=sys.stderr)
    print(f"{corrections.totals()['rows']} rows are in {corrections.csv_path}", file=sys.stderr)
    print(corrections.csv_path)
    return EXIT_SKIPPED if unfit else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
