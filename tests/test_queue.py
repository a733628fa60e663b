"""The way through photos that are worked through, without a browser."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demo.album import Album
from demo.albums import Albums
from demo.checkpoint import save_checkpoint
from demo.corrections import Corrections
from demo.errors import BadInput, CheckpointError
from demo.images import find_images
from demo.models import Models, ref_of
from demo.settings import Settings
from demo.ui import visitor
from demo.ui.desk import Desk
from demo.ui.page import build_page
from demo.ui.queue import Queue
from demo.ui.tag_editor import Decisions, EditorState
from demo.ui.tagging import Tagging
from demo.walk import Walk


@pytest.fixture
def queue(tmp_path: Path, tiny_checkpoint: Path, image_folder: Path) -> Queue:
    settings = Settings(
        model=str(tiny_checkpoint), corrections=tmp_path / "corrections", images=image_folder, device="cpu"
    )
    tagging = Tagging(settings, Models(settings), Corrections(settings.corrections), Albums(1, 10, 10), tmp_path)
    return Queue(tagging)


@pytest.fixture
def desk(queue: Queue) -> Desk:
    """Of one whose photos are all tagged."""
    models = queue.tagging.models
    desk = Desk(lambda: ref_of(models.own))
    sheet = queue.tagging.own_album.sheet(models.own)
    for place, photo in enumerate(queue.tagging.own_album.photos):
        assert photo.name == f"{place}.png"
        queue.open_place(place, None, desk)
    assert sheet.done == len(queue.tagging.own_album)
    return desk


def save(queue: Queue, place: int, labels: list[str], rejected: list[str], reviewed: str = "listed") -> None:
    data, model = queue.tagging.own_album.read(place), queue.tagging.models.own.checkpoint
    said = {"labels": labels, "rejected": rejected, "reviewed": reviewed, "model_labels": [], "threshold": 0.5}
    queue.tagging.corrections.save(data, "png", model=model.identity, vocabulary=model.labels.names, **said)


def test_photos_that_the_model_contradicts_come_first(queue: Queue, desk: Desk) -> None:
    checkpoint, album = queue.tagging.models.own.checkpoint, queue.tagging.own_album
    names, scores = checkpoint.labels.names, album.sheet(queue.tagging.models.own).scores()
    said = {
        place: [n for n, s in zip(names, scores[place], strict=True) if s >= checkpoint.threshold] for place in (2, 5)
    }
    unsaid = {place: [name for name in names if name not in said[place]] for place in said}
    save(queue, 1, [], [])
    save(queue, 5, unsaid[5][:3], said[5])  # each a contradiction
    save(queue, 2, [*said[2], unsaid[2][0]], [], "all")  # one
    queue.sort(desk, "disagree")
    assert queue.tagging.walk_of(desk).order.tolist() == [5, 2, 0, 1, 3, 4, 6, 7]
    assert queue.value(desk)["states"] == "tddttdtt"


def test_labels_that_a_reviewing_model_lacked_are_no_contradiction(queue: Queue, desk: Desk) -> None:
    data, names = queue.tagging.own_album.read(3), queue.tagging.models.own.checkpoint.labels.names
    sheet = queue.tagging.own_album.sheet(queue.tagging.models.own)
    sheet.put(3, np.float32([0.9, *[0.0] * (len(names) - 1)]))
    said = {"labels": [], "rejected": [], "reviewed": "all", "model_labels": [], "threshold": 0.5}
    queue.tagging.corrections.save(data, "png", model="before@1", vocabulary=names[1:], **said)
    queue.sort(desk, "disagree")
    assert not desk.walk.doubted
    queue.tagging.corrections.save(data, "png", model="same@1", vocabulary=names, **said)
    queue.sort(desk, "disagree")
    assert [*desk.walk.doubted] == [3]


def test_an_order_by_rank_follows_the_scores_as_they_come(queue: Queue, desk: Desk) -> None:
    sheet = queue.tagging.own_album.sheet(queue.tagging.models.own)
    queue.sort(desk, "uncertain")
    whole = desk.walk.order.tolist()
    scores = sheet.scores()
    for place in range(8):
        sheet.forget(place)
    queue.sort(desk, "uncertain")
    assert desk.walk.order.tolist() == [*range(8)]
    sorts = []
    for done, place in enumerate((3, 6, 0, 5, 2, 7, 1, 4), start=1):
        sheet.put(place, scores[place])
        before = desk.walk.ranked
        queue.sort_again(desk)
        sorts += [done] if desk.walk.ranked != before else []
    assert sorts == [1, 2, 4, 8], "not with every score: sorting takes time"
    assert desk.walk.order.tolist() == whole
    queue.open_place(whole[5], None, desk)
    queue.sort(desk, "uncertain")
    assert queue.following(desk, True) == whole[0], "the most uncertain, wherever the open one stands"


def test_what_was_saved_on_the_way_is_not_doubted_as_the_order_is_renewed(queue: Queue, desk: Desk) -> None:
    contradict(queue, 1, 4)
    sheet = queue.tagging.own_album.sheet(queue.tagging.models.own)
    last = sheet.of(7)
    sheet.forget(7)
    queue.sort(desk, "disagree")
    time.sleep(0.002)  # rows have milliseconds
    contradict(queue, 2, 4)
    sheet.put(7, last)
    queue.sort_again(desk)
    assert desk.walk.ranked[1] == 8
    assert [*desk.walk.doubted] == [1]


def test_an_order_that_there_is_not_is_refused(queue: Queue, desk: Desk) -> None:
    with pytest.raises(BadInput, match="alphabetical"):
        queue.sort(desk, "alphabetical")


def again(queue: Queue) -> tuple[Queue, Desk, list[int]]:
    """After the server was started anew: nothing was read yet. Gives what reads of photos there are from now on."""
    before, reads = queue.tagging, []
    tagging = Tagging(before.settings, before.models, before.corrections, Albums(1, 10, 10), before.settings.images)
    album, read = tagging.own_album, tagging.own_album.read
    album.read = lambda place: reads.append(place) or read(place)
    return Queue(tagging), Desk(lambda: ref_of(before.models.own)), reads


def test_after_a_restart_the_first_photo_that_is_not_done_is_opened_and_no_more_is_read(queue: Queue) -> None:
    for place in (0, 1, 2, 5):
        save(queue, place, [], [])
    queue, desk, reads = again(queue)
    assert queue.following(desk, False) == 3
    assert reads == [0, 1, 2, 3]
    assert queue.value(desk)["states"] == "dddttttt"
    queue.open_place(4, None, desk)
    assert queue.following(desk, True) == 6


def test_after_a_restart_where_reading_takes_long_it_is_found_among_the_rest_in_few_reads(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.ui.queue.SECONDS_OF_READING", -1)
    for place in range(6):
        save(queue, place, [], [])
    queue, desk, reads = again(queue)
    assert queue.following(desk, False) == 6
    assert len(reads) <= 4
    for place in (6, 7):
        save(queue, place, [], [])
    assert queue.following(desk, False) is None
    assert queue.value(desk)["states"] == "d" * 8


def test_after_a_restart_where_reading_takes_long_the_only_photo_that_is_not_done_is_opened(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.ui.queue.SECONDS_OF_READING", -1)
    for place in (0, 1, 3, 4, 5, 6, 7):
        save(queue, place, [], [])
    queue, desk, _ = again(queue)
    assert queue.following(desk, False) == 2


def test_who_logs_in_in_mid_work_is_not_told_that_something_was_saved_elsewhere(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    tagging, desk = queue.tagging, Desk(lambda: ref_of(queue.tagging.models.own))
    save(queue, 0, [], [])
    state = queue.open_place(0, None, desk).editor
    decisions = Decisions(state.key, 0.5, (), (), (), (), (), False, "listed")
    monkeypatch.setattr(visitor, "annotator", lambda: "ann")
    assert tagging.look_again(decisions, desk) is None
    identity = tagging.models.own.checkpoint.identity
    said = {"labels": [], "rejected": [], "reviewed": "listed", "model_labels": [], "threshold": 0.5}
    tagging.corrections.save(tagging.own_album.read(0), "png", model=identity, annotator="ann", **said)
    assert tagging.look_again(decisions, desk).editor.key == state.key


def says(state: EditorState, labels: Sequence[str] = (), rejected: Sequence[str] = ()) -> Decisions:
    return Decisions(state.key, 0.5, tuple(labels), tuple(rejected), tuple(labels), (), (), False, "listed")


def test_a_save_that_ends_under_the_next_photo_leaves_what_is_decided_there_alone(queue: Queue, desk: Desk) -> None:
    first = says(queue.open_place(0, None, desk).editor, rejected=["cat"])
    second = queue.open_place(1, first, desk).editor
    assert queue.tagging.save(first, desk).state == "saved"
    assert queue.value(desk)["states"][:2] == "dt"
    queue.open_place(2, says(second, rejected=["cat"]), desk)
    assert queue.value(desk)["states"][:3] == "det"
    again = queue.open_place(1, None, desk).editor
    assert again.rejected == ("cat",)
    queue.open_place(2, says(again), desk)  # taken back
    assert queue.value(desk)["states"][:3] == "dtt"
    assert queue.open_place(1, None, desk).editor.rejected == ()


def test_what_was_decided_while_the_save_before_was_under_way_is_kept(queue: Queue, desk: Desk) -> None:
    first = queue.open_place(0, None, desk).editor
    queue.open_place(1, says(first, rejected=["cat", "dog"]), desk)
    assert queue.tagging.save(says(first, rejected=["cat"]), desk).state == "saved"
    assert queue.open_place(0, None, desk).editor.rejected == ("cat", "dog")


def test_a_photo_that_is_as_it_was_saved_is_not_kept_as_decided(queue: Queue, desk: Desk) -> None:
    save(queue, 0, ["cat"], ["dog"])
    state = queue.open_place(0, None, desk).editor
    queue.open_place(1, says(state, ["cat"], ["dog", "sky"]), desk)
    state = queue.open_place(0, None, desk).editor
    assert state.rejected == ("dog", "sky")
    queue.open_place(1, says(state, ["cat"], ["dog"]), desk)
    assert not desk.drafts


def test_of_another_model_only_the_decisions_are_taken_over_and_not_where_its_slider_stood(
    queue: Queue, desk: Desk, tmp_path: Path
) -> None:
    own = queue.tagging.models.own.checkpoint
    other = replace(own, metrics={})
    save_checkpoint(tmp_path / "other", other)
    save(queue, 0, ["cat"], [])
    state = queue.open_place(0, None, desk).editor
    assert state.slider == 0.5
    queue.open_place(1, says(state, ["cat"], ["dog"]), desk)
    desk.choose(str(tmp_path / "other"))
    assert queue.open_place(0, None, desk).editor.slider is None
    desk.drafts.clear()
    state = queue.open_place(0, None, desk).editor
    assert (state.slider, state.confirmed) == (None, ("cat",))


def test_a_model_that_fails_says_so_and_no_photo_is_called_unreadable(
    queue: Queue, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(ref: str | None) -> None:
        raise CheckpointError("There is no such model.")

    monkeypatch.setattr(queue.tagging.models, "get", gone)
    view = queue.go_on(queue.following(desk, False), None, desk)
    assert (view.editor.state, view.editor.text) == ("error", "There is no such model.")
    assert not queue.tagging.own_album.problems


def test_a_photo_that_comes_when_its_album_is_closed_is_an_image_from_elsewhere(
    queue: Queue, desk: Desk, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tagged = queue.tagging._tagged

    def closed_meanwhile(*arguments: object) -> object:
        queue.close(desk)
        return tagged(*arguments)

    desk.walk = Walk(Album(find_images([image_folder])))
    monkeypatch.setattr(queue.tagging, "_tagged", closed_meanwhile)
    view = queue.open_place(5, None, desk)
    assert view.facts["place"] is None
    assert queue.tagging.walk_of(desk).place is None


def test_a_folder_without_images_is_refused_at_the_start(queue: Queue, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    before, settings = queue.tagging, replace(queue.tagging.settings, images=tmp_path / "empty")
    with pytest.raises(BadInput, match="holds no images"):
        build_page(settings, before.models, before.corrections, Albums(1, 10, 10))


def contradict(queue: Queue, *places: int) -> None:
    """Save photos with a label that the model does not see there."""
    checkpoint = queue.tagging.models.own.checkpoint
    scores = queue.tagging.own_album.sheet(queue.tagging.models.own).scores()
    for place in places:
        save(queue, place, [checkpoint.labels.names[int(scores[place].argmin())]], [])


def test_where_model_and_person_disagree_next_opens_what_is_saved_once_more(queue: Queue, desk: Desk) -> None:
    contradict(queue, 1, 4, 6)
    for place in (0, 2, 3, 5, 7):
        save(queue, place, [], [])
    desk.walk.place = None
    assert queue.following(desk, False) is None
    queue.sort(desk, "disagree")
    doubted = sorted(desk.walk.doubted)
    assert {1, 4, 6} <= {*doubted}
    assert queue.value(desk)["ahead"] == desk.walk.order[:2].tolist()
    contradict(queue, 4)  # saved again elsewhere
    opened = []
    while (place := queue.following(desk, False)) is not None:
        queue.go_on(place, None, desk)
        opened.append(place)
    assert sorted(opened) == sorted({*doubted} - {4})
    assert opened == [place for place in desk.walk.order.tolist() if place in opened]
    queue.sort(desk, "given")
    assert queue.following(desk, False) is None


def test_the_end_says_what_cannot_be_read_and_is_no_end_where_nothing_can(queue: Queue, desk: Desk) -> None:
    for place in range(6):
        save(queue, place, [], [])
    album = queue.tagging.own_album
    album.problems |= {6: "It is cut off.", 7: "It is cut off."}
    end = queue.go_on(queue.following(desk, False), None, desk).editor
    assert (end.state, end.text) == ("done", "All photos are done. 2 photos cannot be read.")
    assert queue.value(desk)["reasons"] == ["6.png and 1 more: It is cut off."]
    album.problems |= dict.fromkeys(range(6), "It is gone.")
    end = queue.go_on(queue.following(desk, False), None, desk).editor
    assert (end.state, end.text, end.clear) == ("error", "8 photos cannot be read.", True)
    assert queue.value(desk)["reasons"] == ["0.png and 5 more: It is gone.", "6.png and 1 more: It is cut off."]


def test_an_album_without_photos_is_not_done(queue: Queue, desk: Desk) -> None:
    queue.bring(desk)
    assert queue.go_on(queue.following(desk, False), None, desk).editor is None


def test_the_last_photo_is_not_said_to_be_among_others_that_are_done_where_none_can_be_read(
    queue: Queue, desk: Desk
) -> None:
    state = queue.open_place(3, None, desk).editor
    queue.tagging.own_album.problems |= {place: "It is cut off." for place in range(8) if place != 3}
    end = queue.go_on(queue.following(desk, True), says(state), desk).editor
    assert (end.state, end.text) == ("error", "7 photos cannot be read. The image before is still open.")
