"""One label over an album: its photos by their score, what a person decided, and decisions written back as rows.

Works on whole columns of scores; a decision belongs to the bytes that were looked at, by their sha256, and is saved
for these or not at all. Photos with the same bytes are one photo here. Knows nothing of pages.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from demo.album import Album, Sheet
from demo.corrections import Corrections
from demo.errors import ImageRejected
from demo.images import extension
from demo.labels import LabelSet
from demo.messages import Message
from demo.rows import Correction, View
from demo.thresholds import active, one_of_each, rivals

NONE, CONFIRMED, REJECTED, ABSENT = range(4)
"""What a person's row says of a label. ABSENT: not by name, but everything else on that photo was reviewed."""

OR_ABSENT = 4
"""A bit beside the mark: on this photo a label that is neither confirmed nor rejected is absent."""

DIGEST_BYTES = 16
"""Of a sha256: enough to tell photos apart, half of what the page has to be sent."""

COLUMNS_AT_ONCE = 512
PHOTOS_AT_ONCE = 500

Vocabularies = Callable[[str], Collection[str]]
"""All label names of a model by its identity; none where they are not known."""


@dataclass(frozen=True)
class Column:
    """One label on P photos: those with a score by falling score, then those without.

    places: (P,) int32, in the album. scores: (P,) float32, NaN where not tagged. marks: (P,) uint8, what is saved.
    digests: P × DIGEST_BYTES; zeros for a photo that was not read yet.
    """

    label: str
    places: np.ndarray
    scores: np.ndarray
    marks: np.ndarray
    digests: bytes


def distinct(album: Album) -> np.ndarray:
    """Places (P,) int32 of photos that can be read, of those with the same bytes the first; rising."""
    first: dict[str, int] = {}
    places = []
    for place, look in enumerate(album.looks[: len(album)]):
        is_first = look is None or first.setdefault(look.digest, place) == place
        if is_first and place not in album.problems:
            places.append(place)
    return np.array(places, np.int32)


def column(
    album: Album,
    sheet: Sheet,
    labels: LabelSet,
    label: str,
    rows: Mapping[str, Correction],
    vocabularies: Vocabularies,
) -> Column:
    """rows: a person's, by sha256. Of a label that the model lacks: the photos on which that person decided it."""
    places = distinct(album)
    looks = [album.looks[place] for place in places]
    marks = np.array([_mark(look and rows.get(look.digest), label, vocabularies) for look in looks], np.uint8)
    if label in labels.positions:
        scores = sheet.scores(labels.positions[label])[places]
        scores[[look is None for look in looks]] = np.nan  # its bytes are not known, so nothing can be decided on it
        order = np.argsort(-scores, kind="stable")
    else:
        scores = np.full(len(places), np.nan, np.float32)
        order = np.flatnonzero(np.isin(marks & 3, (CONFIRMED, REJECTED)))
    empty = bytes(DIGEST_BYTES)
    digests = [bytes.fromhex(looks[at].digest)[:DIGEST_BYTES] if looks[at] else empty for at in order]
    return Column(label, places[order], scores[order], marks[order], b"".join(digests))


def names(labels: LabelSet, rows: Mapping[str, Correction]) -> list[str]:
    """The model's labels in logit order, then those that only the rows know, the most frequent first."""
    counts = Counter(name for row in rows.values() for name in (*row.labels, *row.rejected))
    return [*labels.names, *(name for name, _ in counts.most_common() if name not in labels.positions)]


def to_do(
    album: Album,
    sheet: Sheet,
    labels: LabelSet,
    cuts: np.ndarray,
    rows: Mapping[str, Correction],
    vocabularies: Vocabularies,
) -> np.ndarray:
    """On how many photos each of L labels is active and undecided, (L,) int32; cuts: (L,) thresholds."""

    @cache
    def is_spoken_of(model: str) -> np.ndarray:
        vocabulary = vocabularies(model)
        return np.array([name in vocabulary for name in labels.names], bool)

    places = distinct(album)
    counts = np.zeros(len(labels), np.int32)
    for start in range(0, len(labels), COLUMNS_AT_ONCE):
        some = slice(start, start + COLUMNS_AT_ONCE)
        counts[some] = active(sheet.scores(some)[places], cuts[some]).sum(0)
    for place in places.tolist():
        look = album.looks[place]
        row, scores = rows.get(look.digest) if look else None, sheet.of(place)
        if row is None or scores is None:
            continue
        decided = [labels.positions[name] for name in (*row.labels, *row.rejected) if name in labels.positions]
        if row.reviewed == "all":
            is_absent = is_spoken_of(row.model)
            counts -= active(scores, cuts) & is_absent
            decided = [position for position in decided if not is_absent[position]]
        counts[decided] -= active(scores[decided], cuts[decided])
    return counts


@dataclass(frozen=True)
class Decision:
    """On one label of one photo: its place, the first DIGEST_BYTES of its sha256 in hex, and CONFIRMED, REJECTED or
    NONE, which takes back what was saved. slider: where the label's threshold stood."""

    place: int
    digest: str
    label: str
    mark: int
    slider: float


@dataclass
class Saving:
    """How far a save has come. done: decisions that are saved, in so many rows.

    replaced: names of photos that are not those that were decided on. left: why the others could not be saved, by
    place; these can be tried again. tried: places that need no trying again.
    """

    done: int = 0
    rows: int = 0
    replaced: list[str] = field(default_factory=list)
    left: dict[int, str] = field(default_factory=dict)
    tried: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Said:
    """What a model says of an album: its sheet, identity, labels and recommended threshold."""

    sheet: Sheet
    identity: str
    labels: LabelSet
    threshold: float

    def view(self, place: int, changes: Sequence[Decision]) -> View | None:
        """The columns of a row that are the model's; None for a photo that it has not tagged."""
        scores = self.sheet.of(place)
        if scores is None:
            return None
        cuts = np.full(len(self.labels), self.threshold)
        for change in changes:
            if change.label in self.labels.positions:
                cuts[self.labels.positions[change.label]] = change.slider
        groups = rivals(self.labels.categories, self.labels.exclusive)
        chosen = np.flatnonzero(one_of_each(active(scores, cuts), scores, groups))
        falling = chosen[np.argsort(-scores[chosen], kind="stable")]
        model_labels = tuple(self.labels.names[position] for position in falling)
        return View((), (), "listed", model_labels, self.threshold, self.identity, self.labels.names)


def save(
    album: Album, said: Said, corrections: Corrections, decisions: Sequence[Decision], annotator: str = ""
) -> Iterator[Saving]:
    """Write decisions, at most one on a label of a photo: one row a photo, PHOTOS_AT_ONCE in one write.

    Yields one Saving again and again, after each write. Raises CorrectionsError or BadInput; what was counted before is
    saved then.
    """
    saving = Saving()
    by_place: dict[int, list[Decision]] = {}
    for decision in decisions:
        by_place.setdefault(decision.place, []).append(decision)
    places = list(by_place)
    for start in range(0, len(places), PHOTOS_AT_ONCE):
        some = {place: by_place[place] for place in places[start : start + PHOTOS_AT_ONCE]}
        _save_some(album, said, corrections, some, annotator, saving)
        yield saving


def _save_some(
    album: Album,
    said: Said,
    corrections: Corrections,
    by_place: Mapping[int, Sequence[Decision]],
    annotator: str,
    saving: Saving,
) -> None:
    changes: dict[str, list[Decision]] = {}
    views: dict[str, View] = {}
    written = []

    def images() -> Iterator[tuple[bytes, str]]:
        for place, own in by_place.items():
            name = album.photos[place].name if 0 <= place < len(album) else Message("Photo {number}", number=place + 1)
            try:
                data = album.read(place) if 0 <= place < len(album) else b""
            except (ImageRejected, OSError) as error:
                why = str(error) if isinstance(error, ImageRejected) else f"{error.strerror}."
                saving.left[place] = Message("{name}: {why}", name=name, why=why)
                continue
            digest = hashlib.sha256(data).hexdigest()
            same = [change for change in own if digest.startswith(change.digest)]
            view = said.view(place, same)
            if len(same) < len(own):
                saving.replaced.append(name)
            if not same:
                saving.tried.append(place)
            elif view is None:
                saving.left[place] = Message("{name}: it is not tagged yet by the model in use.", name=name)
            else:
                changes.setdefault(digest, []).extend(same)
                views[digest] = view
                written.append((place, len(same)))
                yield data, extension(data)

    corrections.save_many(images(), lambda digest, saved: merged(saved, changes[digest], views[digest]), annotator)
    saving.tried += [place for place, _ in written]
    saving.done += sum(count for _, count in written)
    saving.rows += len(written)


def merged(saved: Correction | None, changes: Sequence[Decision], view: View) -> View:
    """A person's row with their new decisions, everything else of it as it was.

    view: the model's columns. A row with everything reviewed keeps those it has when they are another model's: it
    speaks of that model's labels.
    """
    said: dict[str, int] = {}
    if saved is not None:
        said = dict.fromkeys(saved.labels, CONFIRMED) | dict.fromkeys(saved.rejected, REJECTED)
    for change in changes:
        if said.get(change.label, NONE) != change.mark:
            said.pop(change.label, None)  # a label that moves goes to the end
            said[change.label] = change.mark
    labels = tuple(name for name, mark in said.items() if mark == CONFIRMED)
    rejected = tuple(name for name, mark in said.items() if mark == REJECTED)
    if saved is not None and saved.reviewed == "all" and saved.model != view.model:
        return View(labels, rejected, "all", saved.model_labels, saved.threshold, saved.model)
    reviewed = "listed" if saved is None else saved.reviewed
    return View(labels, rejected, reviewed, view.model_labels, view.threshold, view.model, view.vocabulary)


def _mark(row: Correction | None, label: str, vocabularies: Vocabularies) -> int:
    if row is None:
        return NONE
    is_absent = row.reviewed == "all" and label in vocabularies(row.model)
    if label in row.labels:
        return CONFIRMED | OR_ABSENT * is_absent
    if label in row.rejected:
        return REJECTED | OR_ABSENT * is_absent
    return ABSENT | OR_ABSENT if is_absent else NONE
