"""Behind the Tag tab: an image comes in, its scores go out, decisions come back and are saved.

The decisions on an image carry its sha256 and the model's identity, so that they are saved for that image with
that model or not at all, whatever was opened or loaded meanwhile. Wiring and layout are `demo.ui.tag_tab`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from demo.corrections import Corrections
from demo.errors import DemoError, ImageRejected
from demo.images import decode, extension, find_images, thumbnail
from demo.models import Models
from demo.own_curve import OwnCurve, OwnCurves
from demo.rows import Correction, from_line
from demo.settings import EXAMPLES, Settings
from demo.tagger import Tagged, Tagger
from demo.ui.desk import Desk, Draft, OpenImage, OpenImages
from demo.ui.tag_editor import Decisions, EditorState, Status

SHOWN_BY_BROWSERS = ("jpg", "png", "webp", "gif", "bmp", "avif")
PREVIEW_PIXELS, THUMBNAIL_PIXELS = 1600, 128

Picture = tuple[bytes, str] | None


class View(NamedTuple):
    """What the Tag tab shows: the image (bytes, extension), the editor, the line of facts."""

    picture: Picture
    editor: EditorState | Status | None
    facts: dict[str, Any]


class Tagging:
    """One for the whole page; what belongs to one visitor is passed in as a `Desk`."""

    def __init__(self, settings: Settings, models: Models, corrections: Corrections, examples: Path = EXAMPLES) -> None:
        self.settings, self.models, self.corrections = settings, models, corrections
        self.open_images, self.own_curves = OpenImages(), OwnCurves(corrections)
        has_examples = settings.images is None and examples.is_dir()
        self.walk = find_images([settings.images or examples]) if settings.images or has_examples else []

    @cached_property
    def examples(self) -> list[tuple[str, bytes]]:
        """Name and thumbnail of each example; empty while a folder of images is worked through."""
        if self.settings.images is not None:
            return []
        return [(path.stem.replace("-", " "), thumbnail(path.read_bytes(), THUMBNAIL_PIXELS)) for path in self.walk]

    def open(self, data: bytes | None, decisions: Decisions | None, desk: Desk, name: str = "") -> View:
        """Tag the bytes of an image; one that is refused leaves the page as it is, with a message."""
        if data is None:
            self._leave(decisions, desk)
            return self._nothing(desk)
        try:
            image = decode(data, self.settings.max_upload_bytes)
            opened = OpenImage(data, extension(data), image.size, name)
            tagger, tagged = self._tagged(image, desk)
        except DemoError as error:
            return self._refused(error, decisions)
        self._leave(decisions, desk)
        digest = desk.image = self.open_images.add(opened)
        draft, note = self._kept(digest, desk)
        desk.settled = Draft() if digest in desk.drafts else draft
        return View(
            _shown(opened),
            _state(tagger, digest, tagged.scores, draft, note, self.own_curves.look(tagger, digest, tagged.scores)),
            self._facts(opened, tagger, tagged.milliseconds, desk),
        )

    def open_upload(self, data: bytes | None, decisions: Decisions | None, desk: Desk) -> View:
        view = self.open(data, decisions, desk)
        if not isinstance(view.editor, Status):
            desk.place = None
            view.facts["place"] = None
        return view

    def open_place(self, place: int, decisions: Decisions | None, desk: Desk) -> View:
        """Open an image of the walk; place counts from 0."""
        if not 0 <= place < len(self.walk):
            return self._refused(ImageRejected("There is no such image."), decisions)
        desk.place, path = place, self.walk[place]
        try:
            return self.open(path.read_bytes(), decisions, desk, path.name)
        except OSError as error:
            return self._refused(ImageRejected(f"{path.name} cannot be read.", f"{error.strerror}."), decisions)

    def open_first(self, desk: Desk) -> View:
        """What the page starts with: the first image of `--images`, or nothing."""
        if self.settings.images is None or not self.walk:
            return self._nothing(desk)
        return self.open_place(0, None, desk)

    def go_on(self, decisions: Decisions | None, desk: Desk) -> View:
        """The next image of the walk; an image from elsewhere, and the last one, make room for another."""
        if desk.place is None and decisions is None:
            place = 0
        elif desk.place is None:
            place = len(self.walk)
        else:
            place = desk.place + 1
        if place < len(self.walk):
            return self.open_place(place, decisions, desk)
        self._leave(decisions, desk)
        was_last, desk.place = desk.place is not None, None
        view = self._nothing(desk)
        if was_last and self.settings.images is not None:
            return view._replace(editor=Status("note", "That was the last image of the folder.", clear=True))
        return view

    def save(self, decisions: Decisions | None, desk: Desk) -> Status:
        """Write the row; the message says what was saved, or why nothing was."""
        if decisions is None:
            return Status("error", "There is no image to save.")
        digest, _, identity = decisions.key.partition(":")
        opened, vocabulary = self.open_images.get(digest), self.models.vocabulary(identity)
        if opened is None or vocabulary is None:
            gone = "image was opened" if opened is None else "model was in use"
            return Status("error", f"Not saved: this {gone} too long ago. Open the image again.")
        try:
            row = self.corrections.save(
                opened.data,
                opened.extension,
                labels=decisions.labels,
                rejected=decisions.rejected,
                reviewed=decisions.reviewed,
                model_labels=decisions.model_labels,
                threshold=decisions.threshold,
                model=identity,
                vocabulary=vocabulary,
            )
        except DemoError as error:
            return Status("error", f"Not saved. {error}")
        desk.settle(digest, Draft(decisions.confirmed, decisions.rejected, decisions.threshold))
        self.own_curves.corrected(identity)
        rejected = f", {len(row.rejected)} rejected" if row.rejected else ""
        return Status("saved", f"Saved with {_count(len(row.labels), 'label')}{rejected}.")

    def is_of_another_model(self, decisions: Decisions | None, desk: Desk) -> bool:
        """Whether the open image was tagged by another model than the visitor's of now."""
        if decisions is None:
            return False
        digest, _, identity = decisions.key.partition(":")
        return digest == desk.image and identity != self.models.identity(desk.model)

    def tag_again(self, decisions: Decisions, desk: Desk) -> View | None:
        """The open image under the visitor's model of now, with the decisions; None if it is no longer open."""
        digest = decisions.key.partition(":")[0]
        opened = self.open_images.get(digest)
        if opened is None:
            return None
        try:
            tagger, tagged = self._tagged(decode(opened.data, self.settings.max_upload_bytes), desk)
        except DemoError as error:
            return self._refused(error, decisions)
        if desk.image != digest:
            return None
        draft = Draft(decisions.confirmed, decisions.rejected)
        note = "Tagged again, by the model that is in use now."
        return View(
            _shown(opened),
            _state(tagger, digest, tagged.scores, draft, note, self.own_curves.look(tagger, digest, tagged.scores)),
            self._facts(opened, tagger, tagged.milliseconds, desk),
        )

    def _tagged(self, image: Image.Image, desk: Desk) -> tuple[Tagger, Tagged]:
        """An image tagged by the visitor's model; once more where they changed it meanwhile."""
        while True:
            model = desk.model
            tagger = self.models.get(model)
            tagged = tagger.tag(image)
            if desk.model == model:
                return tagger, tagged

    def _kept(self, digest: str, desk: Desk) -> tuple[Draft, str]:
        """What was decided on an image before, and a note that says so."""
        if digest in desk.drafts:
            return desk.drafts[digest], "Your decisions are here again; they are not saved yet."
        try:
            row = find_row(self.corrections, digest)
        except ValueError as error:
            return Draft(), f"What was saved on this image cannot be read: {error}."
        if row is None:
            return Draft(), ""
        return Draft.of_row(row), f"As you saved it on {row.saved_at[:10]} at {row.saved_at[11:16]} UTC."

    def _leave(self, decisions: Decisions | None, desk: Desk) -> None:
        if decisions is not None:
            digest = decisions.key.partition(":")[0]
            desk.leave(digest, decisions.confirmed, decisions.rejected, decisions.threshold)

    def _refused(self, error: DemoError, decisions: Decisions | None) -> View:
        """The image before, untouched, and why the new one is not shown."""
        before = self.open_images.get(decisions.key.partition(":")[0]) if decisions else None
        kept = "" if before is None else " The image before is still open."
        return View(before and _shown(before), Status("error", f"{error}{kept}"), {"keep": before is not None})

    def _nothing(self, desk: Desk) -> View:
        desk.image = ""
        return View(None, None, {})

    def _facts(self, opened: OpenImage, tagger: Tagger, milliseconds: float, desk: Desk) -> dict[str, Any]:
        where = {"number": desk.place + 1, "of": len(self.walk)} if desk.place is not None else None
        return {
            "name": opened.name,
            "place": where if self.settings.images is not None else None,
            "size": f"{opened.size[0]} × {opened.size[1]} px",
            "model": tagger.checkpoint.identity,
            "took": f"{milliseconds:.0f} ms on {tagger.device}, {tagger.precision}",
        }


def find_row(corrections: Corrections, digest: str, annotator: str = "") -> Correction | None:
    """The saved row of an image, without parsing the others. Raises ValueError for a damaged one."""
    try:
        lines = corrections.csv_path.read_bytes()
    except OSError:
        return None
    at = -1
    while (at := lines.find(f"\nimages/{digest}.".encode(), at + 1)) != -1:
        end = lines.find(b"\n", at + 1)
        row = from_line(lines[at + 1 : end + 1]) if end != -1 else None
        if row is not None and row.annotator == annotator:
            return row
    return None


def _state(
    tagger: Tagger, digest: str, scores: Any, draft: Draft, note: str, own_curve: OwnCurve | None
) -> EditorState:
    checkpoint = tagger.checkpoint
    return EditorState(
        key=f"{digest}:{checkpoint.identity}",
        names=checkpoint.labels.names,
        scores=scores,
        threshold=checkpoint.threshold,
        curve=checkpoint.curve,
        own_curve=own_curve,
        thresholds=checkpoint.labels.thresholds or None,
        categories=checkpoint.labels.categories,
        exclusive=checkpoint.labels.exclusive,
        confirmed=draft.confirmed,
        rejected=draft.rejected,
        slider=draft.slider,
        note=note,
    )


def _shown(opened: OpenImage) -> tuple[bytes, str]:
    """What a browser can show of it."""
    if opened.extension in SHOWN_BY_BROWSERS:
        return opened.data, opened.extension
    return thumbnail(opened.data, PREVIEW_PIXELS), "jpg"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
