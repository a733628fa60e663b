"""Behind the Tag tab: an image comes in, its scores go out, decisions come back and are saved.

The decisions on an image carry its sha256 and the model's identity, so that they are saved for that image with
that model or not at all, whatever was opened or loaded meanwhile. Wiring and layout are `demo.ui.tag_tab`.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from demo import logs
from demo.album import Album, Look
from demo.albums import Albums
from demo.corrections import Corrections, read_vocabulary
from demo.errors import CorrectionsError, DemoError
from demo.hourly import Hourly
from demo.images import decode, extension, find_images
from demo.messages import Message, joined
from demo.models import Models
from demo.own_curve import OwnCurve, OwnCurves
from demo.rows import Correction
from demo.settings import EXAMPLES, Settings
from demo.tagger import Tagged, Tagger
from demo.ui import visitor
from demo.ui.desk import Desk, Draft, OpenImage, OpenImages
from demo.ui.tag_editor import Decisions, EditorState, Status
from demo.walk import Walk

Picture = tuple[bytes, str] | None


class View(NamedTuple):
    """What the Tag tab shows: the image (bytes, extension), the editor, the line of facts."""

    picture: Picture
    editor: EditorState | Status | None
    facts: dict[str, Any]


class Tagging:
    """One for the whole page; what belongs to one visitor is passed in as a `Desk`."""

    def __init__(
        self, settings: Settings, models: Models, corrections: Corrections, albums: Albums, examples: Path = EXAMPLES
    ) -> None:
        self.settings, self.models, self.corrections, self.albums = settings, models, corrections, albums
        self.open_images, self.own_curves = OpenImages(), OwnCurves(corrections)
        self.hourly = Hourly(settings.max_saves_per_hour)
        given = settings.images or (examples if examples.is_dir() else None)
        self.own_album = self.albums.add(Album(find_images([given] if given else [])))

    def walk_of(self, desk: Desk) -> Walk:
        """What the visitor works through: the folder of `--images` or the examples, until they bring photos."""
        if desk.walk is None:
            desk.walk = Walk(self.own_album)
        return desk.walk

    def is_queue(self, desk: Desk) -> bool:
        """Whether there are photos to be worked through, and not examples to try."""
        return self.settings.images is not None or self.walk_of(desk).album is not self.own_album

    def open(
        self, data: bytes | None, decisions: Decisions | None, desk: Desk, name: str = "", place: int | None = None
    ) -> View:
        """Tag the bytes of an image; one that is refused leaves the page as it is, with a message.

        place: of the photo in what the visitor works through, which is tagged already or will be known as tagged.
        """
        if data is None:
            return self.nothing(decisions, desk)
        try:
            return self.opened(data, decisions, desk, name, self.walk_of(desk), place)
        except DemoError as error:
            return self.refused(error, decisions)

    def opened(
        self, data: bytes, decisions: Decisions | None, desk: Desk, name: str, walk: Walk, place: int | None
    ) -> View:
        """As `open`, for a place of that walk, which may be over before the image is tagged.

        Raises ImageRejected for what is wrong with the image, another DemoError for anything else.
        """
        opened, tagger, tagged = self._tagged(data, name, desk, walk.album, place)
        walk.enter(place)
        self._leave(decisions, desk)
        digest = self.open_images.add(opened)
        settled, note = self._kept(digest, desk)
        desk.open(digest, settled)
        if digest in desk.drafts:
            note = Message("Your decisions are here again; they are not saved yet.")
        return self._view(opened, digest, tagger, tagged, desk.drafts.get(digest, settled), note, desk)

    def vocabulary(self, identity: str) -> frozenset[str]:
        """All label names of a model; none where they are not known, so that none of them counts as absent."""
        try:
            names = self.models.vocabulary(identity) or read_vocabulary(self.corrections.folder, identity)
        except CorrectionsError:
            names = None
        return frozenset(names or ())

    def save(self, decisions: Decisions | None, desk: Desk) -> Status:
        """Write the row; the message says what was saved, or why nothing was."""
        if decisions is None:
            return Status("error", Message("There is no image to save."))
        digest, _, identity = decisions.key.partition(":")
        opened, vocabulary = self.open_images.get(digest), self.models.vocabulary(identity)
        if opened is None or vocabulary is None:
            gone = (
                Message("Not saved: this image was opened too long ago. Open the image again.")
                if opened is None
                else Message("Not saved: this model was in use too long ago. Open the image again.")
            )
            return Status("error", gone)
        address, started = visitor.address(self.settings.on_space), time.monotonic()
        if why := visitor.kept_from_saving(self.settings, self.hourly):
            logs.event("refused", "warning", kind="save")
            return Status("error", Message("Not saved. {why}", why=why))
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
                annotator=visitor.annotator(),
                vocabulary=vocabulary,
            )
        except DemoError as error:
            self.hourly.give_back(address)
            logs.event("refused", "warning", kind=type(error).__name__)
            return Status("error", Message("Not saved. {why}", why=str(error)))
        logs.event("correction_saved", count=1, seconds=time.monotonic() - started)
        desk.save(digest, _draft(decisions))
        if digest == desk.image:
            desk.annotator, desk.saved_at = row.annotator, row.saved_at
        self.own_curves.corrected(identity)
        labels = Message.many(len(row.labels), "{count} label", "{count} labels")
        if not row.rejected:
            return Status("saved", Message("Saved with {labels}.", labels=labels), saved=decisions)
        said = Message("Saved with {labels}, {rejected} rejected.", labels=labels, rejected=len(row.rejected))
        return Status("saved", said, saved=decisions)

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
            walk = self.walk_of(desk)
            opened, tagger, tagged = self._tagged(opened.data, opened.name, desk, walk.album, walk.place)
        except DemoError as error:
            return self.refused(error, decisions)
        if desk.image != digest:
            return None
        note = Message("Tagged again, by the model that is in use now.")
        return self._view(opened, digest, tagger, tagged, _draft(decisions), note, desk)

    def look_again(self, decisions: Decisions | None, desk: Desk) -> View | None:
        """The open image as it was saved elsewhere meanwhile, in the grid say; None where it was not.

        What is decided here and not saved stays, with a word about it.
        """
        digest = decisions.key.partition(":")[0] if decisions else ""
        opened = self.open_images.get(digest)
        if opened is None or digest != desk.image:
            return None
        annotator, saved_at = visitor.annotator(), self._saved_at(digest)
        if annotator != desk.annotator:  # who logged in meanwhile has other rows, and nothing was saved for that
            desk.annotator, desk.saved_at = annotator, saved_at
        if saved_at == desk.saved_at:
            return None
        if not desk.is_settled(digest, _draft(decisions)):
            said = Message("This image was saved elsewhere meanwhile; saving it here replaces that.")
            return View(self._shown(opened), Status("note", said), {"keep": True})
        return self.open(opened.data, None, desk, opened.name, self.walk_of(desk).place)

    def _tagged(
        self, data: bytes, name: str, desk: Desk, album: Album, place: int | None
    ) -> tuple[OpenImage, Tagger, Tagged]:
        """An image tagged by the visitor's model, or as it was tagged ahead; once more where they changed it meanwhile.

        place: in the album; None for an image from elsewhere. milliseconds are 0 for one that was tagged ahead.
        """
        digest, image = hashlib.sha256(data).hexdigest(), None
        look = None if place is None else album.looks[place]
        while True:
            model = desk.model
            tagger = self.models.get(model)
            scores = album.sheet(tagger).of(place) if look is not None and look.digest == digest else None
            if scores is not None:
                tagged = Tagged(scores, 0)
            else:
                image = image or decode(data, self.settings.max_upload_bytes)
                look, tagged = Look(digest, extension(data), image.size), tagger.tag(image)
                if place is not None:
                    album.seen(place, look)
                    album.sheet(tagger).put(place, tagged.scores)
            if desk.model == model:
                logs.event("image_tagged", seconds=tagged.milliseconds / 1000)
                return OpenImage(data, look.extension, look.size, name), tagger, tagged

    def _view(
        self, opened: OpenImage, digest: str, tagger: Tagger, tagged: Tagged, draft: Draft, note: str, desk: Desk
    ) -> View:
        own_curve = self.own_curves.look(tagger, digest, tagged.scores)
        return View(
            self._shown(opened),
            _state(tagger, digest, tagged.scores, draft.under(tagger.checkpoint.identity), note, own_curve),
            self._facts(opened, tagger, tagged.milliseconds, desk),
        )

    def _shown(self, opened: OpenImage) -> tuple[bytes, str]:
        return self.albums.previews.of(opened.data, opened.extension)

    def _saved_at(self, digest: str) -> str:
        """When an image's row was saved; '' without one that can be read."""
        with suppress(CorrectionsError):
            row = self._row(digest)
            return row.saved_at if row else ""
        return ""

    def _row(self, digest: str) -> Correction | None:
        """The visitor's row of an image. Raises CorrectionsError for a damaged one."""
        return self.corrections.rows_of([digest], visitor.annotator()).get(digest)

    def _kept(self, digest: str, desk: Desk) -> tuple[Draft, str]:
        """What was saved of an image before, and a note that says so."""
        try:
            row, trouble = self._row(digest), ""
        except CorrectionsError as error:
            row, trouble = None, str(error)
        desk.annotator, desk.saved_at = visitor.annotator(), row.saved_at if row else ""
        if row is None:
            return Draft(), trouble
        day, time = row.saved_at[:10], row.saved_at[11:16]
        return Draft.of_row(row), Message("As you saved it on {day} at {time} UTC.", day=day, time=time)

    def _leave(self, decisions: Decisions | None, desk: Desk) -> None:
        if decisions is not None:
            desk.leave(decisions.key.partition(":")[0], _draft(decisions))

    def refused(self, why: DemoError | Message, decisions: Decisions | None) -> View:
        """The image before, untouched, and why the new one is not shown."""
        if isinstance(why, DemoError):
            logs.event("refused", "warning", kind=type(why).__name__)
        before = self.open_images.get(decisions.key.partition(":")[0]) if decisions else None
        kept = "" if before is None else Message("The image before is still open.")
        text = joined([why if isinstance(why, Message) else str(why), kept])
        return View(before and self._shown(before), Status("error", text), {"keep": before is not None})

    def nothing(self, decisions: Decisions | None, desk: Desk, note: str = "") -> View:
        """No image, and why; what was decided on the one before is kept."""
        self._leave(decisions, desk)
        desk.image, self.walk_of(desk).place = "", None
        return View(None, Status("done", note, clear=True) if note else None, {})

    def _facts(self, opened: OpenImage, tagger: Tagger, milliseconds: float, desk: Desk) -> dict[str, Any]:
        walk = self.walk_of(desk)
        where = {"number": walk.number, "of": len(walk.album)} if walk.place is not None else None
        took = f"{milliseconds:.0f} ms" if milliseconds else Message("tagged ahead")
        device = {"device": str(tagger.device), "precision": tagger.precision}
        return {
            "name": opened.name,
            "place": where if self.is_queue(desk) else None,
            "size": f"{opened.size[0]} × {opened.size[1]} px",
            "model": tagger.checkpoint.identity,
            "took": Message("{took} on {device}, {precision}", took=took, **device),
        }


def _draft(decisions: Decisions) -> Draft:
    identity = decisions.key.partition(":")[2]
    return Draft(decisions.confirmed, decisions.rejected, decisions.threshold, identity)


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
