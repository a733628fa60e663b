"""Counts of the corrections, label by label: what the model had right, what it missed, what it made up.

A row counts once for each annotator, and only labels that a row lists: nothing is known of the others. Kept up to date
line by line: a look at an unchanged CSV reads nothing, one at a changed CSV parses the lines that were not there
before.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import PurePosixPath
from typing import NamedTuple

from demo.corrections import Correction, Corrections

TOGETHER = 3
"""How many labels a label is said to be often with."""

TOGETHER_ROWS = 20_000
"""The latest rows, from which that is counted."""

TABLE_LABELS = 8
"""How many of the most frequent labels are set against each other."""


@dataclass(frozen=True)
class LabelFigures:
    """One label's counts of rows.

    confirmed: it is there; added: of these, the model did not have it active. rejected: it is not there; false_alarms:
    of these, the model had it active. often_with: labels confirmed on the same images, the most frequent first.
    """

    name: str
    confirmed: int
    added: int
    rejected: int
    false_alarms: int
    often_with: tuple[tuple[str, int], ...] = ()

    @property
    def error_rate(self) -> float:
        """The share of decisions on this label that went against the model, 0 to 1."""
        return (self.added + self.false_alarms) / (self.confirmed + self.rejected)

    @property
    def surely_wrong(self) -> float:
        """The error rate that it has at least: the lower end of the 95 % Wilson score interval (Wilson, JASA 1927)."""
        count, rate, z = self.confirmed + self.rejected, self.error_rate, 1.96
        spread = z * sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
        return max(0.0, (rate + z * z / (2 * count) - spread) / (1 + z * z / count))


class Together(NamedTuple):
    """Which labels are confirmed on the same images.

    names: K labels, the most frequent first. counts: K lists of K counts of rows, a label's own on the diagonal.
    """

    names: tuple[str, ...]
    counts: list[list[int]]


class Entry(NamedTuple):
    """What of a row is counted."""

    saved_at: str
    image: tuple[str]
    labels: tuple[str, ...]
    added: tuple[str, ...]
    rejected: tuple[str, ...]
    false_alarms: tuple[str, ...]


class Statistics:
    """The figures of one folder's corrections; any number of threads may look at them.

    Each look raises CorrectionsError where a row is damaged.
    """

    def __init__(self, corrections: Corrections) -> None:
        self.corrections = corrections
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] | None = None
        self._entries: dict[bytes, Entry] = {}  # by line, in the order of the file
        self._latest: list[bytes] = []
        self._asked: dict[tuple[str, int], tuple[list[LabelFigures], int]] = {}
        self._table: Together | None = None
        self._counts: dict[str, Counter[str]] = {
            kind: Counter() for kind in ("labels", "added", "rejected", "false_alarms", "image")
        }

    def totals(self) -> dict[str, int]:
        """`{"rows", "images", "added", "rejected"}`."""
        with self._lock:
            self._refresh()
            sums = {kind: self._counts[kind].total() for kind in ("added", "rejected")}
            return {"rows": len(self._entries), "images": len(self._counts["image"]), **sums}

    def latest(self, start: int, count: int) -> list[Correction]:
        """`count` rows from `start`, the latest save first."""
        with self._lock:
            self._refresh()
            return [self.corrections.row(line, 0) for line in self._latest[start : start + count]]

    def labels(self, text: str, count: int) -> tuple[list[LabelFigures], int]:
        """At most `count` labels with `text` in their names, and how many there are.

        First those that the model most surely gets wrong, then by how often it was wrong.
        """
        with self._lock:
            self._refresh()
            if (text, count) not in self._asked:
                self._asked = {(text, count): self._labels(text.casefold(), count)}
            return self._asked[text, count]

    def together(self) -> Together:
        """The labels confirmed most often in the latest rows, each against each."""
        with self._lock:
            self._refresh()
            if self._table is None:
                self._table = self._set_against_each_other()
            return self._table

    def _set_against_each_other(self) -> Together:
        latest = [self._entries[line].labels for line in self._latest[:TOGETHER_ROWS]]
        often = Counter(name for labels in latest for name in labels)
        names = sorted(often, key=lambda name: (-often[name], name))[:TABLE_LABELS]
        place = {name: at for at, name in enumerate(names)}
        counts = [[0] * len(names) for _ in names]
        for labels in latest:
            here = [place[name] for name in labels if name in place]
            for one in here:
                for other in here:
                    counts[one][other] += 1
        return Together(tuple(names), counts)

    def _labels(self, text: str, count: int) -> tuple[list[LabelFigures], int]:
        names = self._counts["labels"].keys() | self._counts["rejected"].keys()
        found = [self._figures(name) for name in names if text in name.casefold()]
        found.sort(key=lambda one: (-one.surely_wrong, -one.added - one.false_alarms, -one.confirmed, one.name))
        together = self._together({one.name for one in found[:count]})
        return [replace(one, often_with=together[one.name]) for one in found[:count]], len(found)

    def _figures(self, name: str) -> LabelFigures:
        return LabelFigures(name, *(self._counts[kind][name] for kind in Entry._fields[2:]))

    def _together(self, names: set[str]) -> dict[str, tuple[tuple[str, int], ...]]:
        counts: dict[str, Counter[str]] = {name: Counter() for name in names}
        for entry in map(self._entries.__getitem__, self._latest[:TOGETHER_ROWS]):
            if not names.isdisjoint(entry.labels):
                for name in names.intersection(entry.labels):
                    counts[name].update(entry.labels)
        for name, count in counts.items():
            del count[name]
        return {name: tuple(count.most_common(TOGETHER)) for name, count in counts.items()}

    def _refresh(self) -> None:
        try:
            now = self.corrections.csv_path.stat()
            stamp = (now.st_ino, now.st_size, now.st_mtime_ns)
        except OSError:
            stamp = None  # the corrections say why
        if stamp is not None and stamp == self._stamp:
            return
        entries = {}
        for at, line in enumerate(self.corrections.lines(), start=2):
            entries[line] = self._entries.get(line) or _entry(self.corrections.row(line, at))
        gone = [entry for line, entry in self._entries.items() if line not in entries]
        new = [entry for line, entry in entries.items() if line not in self._entries]
        for kind, count in self._counts.items():
            count.update(name for entry in new for name in getattr(entry, kind))
            count.subtract(name for entry in gone for name in getattr(entry, kind))
            for name in {name for entry in gone for name in getattr(entry, kind) if not count[name]}:
                del count[name]
        self._latest = sorted(entries, key=lambda line: entries[line].saved_at, reverse=True)
        self._entries, self._stamp, self._asked, self._table = entries, stamp, {}, None


def _entry(row: Correction) -> Entry:
    active = set(row.model_labels)
    return Entry(
        row.saved_at,
        (PurePosixPath(row.file_name).stem,),
        row.labels,
        tuple(name for name in row.labels if name not in active),
        row.rejected,
        tuple(name for name in row.rejected if name in active),
    )
