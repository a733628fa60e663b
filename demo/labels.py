"""The vocabulary of a checkpoint: label names in logit order, their categories and thresholds.

Reads and writes `selected_tags.csv`. Knows nothing of models or pages.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from demo.errors import CheckpointError
from demo.rows import lost_in_utf8

EXCLUSIVE = frozenset({"rating"})
"""Names of categories whose labels exclude each other, in every family of taggers that has one."""


@dataclass(frozen=True)
class LabelSet:
    """L label names in logit order.

    names: L distinct, non-empty strings that UTF-8 can keep.
    categories: one per name, or empty where the checkpoint has none.
    thresholds: one per name in [0, 1], or None for a label without one; empty where none were tuned.
    exclusive: the categories whose labels exclude each other (a rating), so that only the best one counts.
    Raises CheckpointError for duplicates, other names than that, or lists of unequal length.
    """

    names: tuple[str, ...]
    categories: tuple[str, ...] = ()
    thresholds: tuple[float | None, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for what, values in (("categories", self.categories), ("thresholds", self.thresholds)):
            if values and len(values) != len(self.names):
                raise CheckpointError(f"There are {len(self.names)} label names but {len(values)} {what}.")
        if len(set(self.names)) != len(self.names):
            seen: set[str] = set()
            twice = next(name for name in self.names if name in seen or seen.add(name))
            raise CheckpointError(f"The label {twice!r} is there twice.", "Every logit needs a name of its own.")
        if "" in self.names:
            raise CheckpointError(f"Label number {self.names.index('')} has an empty name.")
        if lost := lost_in_utf8(self.names):
            raise CheckpointError(f"The label {lost}.")
        for threshold in self.thresholds:
            if threshold is not None and not (math.isfinite(threshold) and 0 <= threshold <= 1):
                raise CheckpointError(f"A label's threshold is {threshold}.", "Thresholds lie in [0, 1].")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def exclusive(self) -> frozenset[str]:
        return EXCLUSIVE & set(self.categories)

    @cached_property
    def positions(self) -> dict[str, int]:
        """Logit position by name."""
        return {name: position for position, name in enumerate(self.names)}

    @classmethod
    def from_csv(cls, path: Path, category_names: Mapping[str, str] | None = None) -> LabelSet:
        """Read `selected_tags.csv`: a `name` column, and `category` and `best_threshold` where there.

        Tags named `null`, `nan` or `NA` are names like any other. category_names: what a category is called by what
        the column says. Raises CheckpointError.
        """
        try:
            reader = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""))
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise CheckpointError(f"{path} has more or fewer cells in line {reader.line_num} than its header.")
                rows.append(row)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise CheckpointError(f"{path} cannot be read.", f"{error}.") from error
        if not rows or "name" not in rows[0]:
            raise CheckpointError(f"{path} has no column `name` with rows under it.")
        try:
            thresholds = tuple(float(row["best_threshold"]) if row.get("best_threshold") else None for row in rows)
        except ValueError as error:
            raise CheckpointError(f"{path} has a threshold that is no number.", f"{error}.") from error
        called = category_names or {}
        categories = tuple(called.get(row.get("category", ""), row.get("category", "")) for row in rows)
        return cls(
            names=tuple(row["name"] for row in rows),
            categories=categories if any(categories) else (),
            thresholds=thresholds if any(value is not None for value in thresholds) else (),
        )

    def to_csv(self) -> str:
        """The text of `selected_tags.csv`: name, category, best_threshold (empty where untuned)."""
        text = io.StringIO(newline="")
        # csv quotes a line feed by itself, but not a carriage return
        quoting = csv.QUOTE_ALL if "\r" in "".join((*self.names, *self.categories)) else csv.QUOTE_MINIMAL
        writer = csv.writer(text, lineterminator="\n", quoting=quoting)
        writer.writerow(["name", "category", "best_threshold"])
        categories = self.categories or ("",) * len(self)
        thresholds = self.thresholds or (None,) * len(self)
        for name, category, threshold in zip(self.names, categories, thresholds, strict=True):
            writer.writerow([name, category, "" if threshold is None else f"{threshold:.4f}"])
        return text.getvalue()
