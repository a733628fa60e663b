from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demo import album as module
from demo import photos
from demo.album import Album, Look
from demo.albums import Albums
from demo.checkpoint import Checkpoint
from demo.errors import BadInput, ImageRejected
from demo.images import decode
from demo.previews import Previews
from demo.tagger import Tagger


@pytest.fixture(scope="module")
def tagger(loaded_tiny: Checkpoint) -> Tagger:
    return Tagger(loaded_tiny, "cpu")


@pytest.fixture
def uploads() -> Iterator[Album]:
    album = Album(max_photos=6, max_bytes=1 << 20)
    yield album
    album.close()


def zip_of(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def upload(album: Album, content: bytes, name: str) -> int:
    path = album.folder / str(len(list(album.folder.iterdir())))
    path.write_bytes(content)
    return album.take(path, name)


def finish(album: Album, tagger: Tagger) -> module.Sheet:
    sheet = album.sheet(tagger)
    sheet.start(tagger)
    thread = sheet._thread
    if thread is not None:
        thread.join()
    return sheet


def test_a_folder_is_tagged_in_the_background_as_each_image_alone_would_be(image_folder: Path, tagger: Tagger) -> None:
    paths = sorted(image_folder.iterdir())
    album = Album(paths)
    sheet = finish(album, tagger)
    alone = np.stack([tagger.tag(decode(path.read_bytes())).scores for path in paths])
    np.testing.assert_allclose(sheet.scores(), alone, atol=1e-6)
    np.testing.assert_allclose(sheet.scores(3), alone[:, 3], atol=1e-6)
    assert sheet.done == len(album) == 8
    assert [look.digest for look in album.looks] == [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert not sheet.is_running


def test_what_cannot_be_read_is_named_and_the_rest_is_tagged(image_folder: Path, tagger: Tagger) -> None:
    (image_folder / "3.png").write_bytes(b"no picture")
    (image_folder / "5.png").unlink()
    album = Album([image_folder / f"{number}.png" for number in range(8)])
    sheet = finish(album, tagger)
    assert sorted(album.problems) == [3, 5]
    assert sheet.done == 8
    assert np.isnan(sheet.scores()).all(1).tolist() == [place in (3, 5) for place in range(8)]


def test_a_zip_is_read_where_it_lies_and_only_its_photos(
    uploads: Album, make_image: Callable[..., bytes], tagger: Tagger
) -> None:
    files = {"a/1.png": make_image(1), "2.jpg": make_image(2, kind="JPEG"), "notes.txt": b"x", "__MACOSX/1.png": b"x"}
    assert upload(uploads, zip_of(files), "photos.zip") == 2
    assert [photo.name for photo in uploads.photos] == ["a/1.png", "2.jpg"]
    assert uploads.read(0) == files["a/1.png"]
    assert len(list(uploads.folder.iterdir())) == 1
    assert not np.isnan(finish(uploads, tagger).scores()).any()


@pytest.mark.parametrize(
    ("content", "why"),
    [(zip_of({"notes.txt": b"x"}), "holds no photos"), (zip_of({"1.png": b"x"})[:40], "cannot be read")],
)
def test_a_zip_without_photos_is_refused_and_leaves_nothing(uploads: Album, content: bytes, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        upload(uploads, content, "photos.zip")
    assert not list(uploads.folder.iterdir())
    assert len(uploads) == 0


def test_a_photo_that_was_half_copied_is_no_problem_any_more_once_it_is_seen_whole(
    tmp_path: Path, tagger: Tagger, make_image: Callable[..., bytes]
) -> None:
    paths = [tmp_path / f"{name}.png" for name in "ab"]
    paths[0].write_bytes(make_image(0))
    paths[1].write_bytes(make_image(1)[:200])
    album = Album(paths)
    sheet = finish(album, tagger)
    assert list(album.problems) == [1]
    paths[1].write_bytes(make_image(1))
    album.prepared(1, tagger.checkpoint.preprocess)
    assert album.problems == {}
    assert sheet.of(1) is None
    finish(album, tagger)
    assert sheet.of(1) is not None
    assert sheet.done == 2


def test_damage_inside_a_zip_is_that_photos_problem_alone(
    uploads: Album, make_image: Callable[..., bytes], tagger: Tagger
) -> None:
    good = zip_of({"1.png": make_image(1), "2.png": make_image(2)})
    at = good.index(make_image(1)) + 200
    upload(uploads, good[:at] + bytes(8) + good[at + 8 :], "photos.zip")
    with pytest.raises(ImageRejected, match="unpacked"):
        uploads.read(0)
    finish(uploads, tagger)
    assert list(uploads.problems) == [0]


def test_more_photos_than_there_is_room_for_are_refused_whole(uploads: Album, make_image: Callable[..., bytes]) -> None:
    upload(uploads, make_image(9), "9.png")
    with pytest.raises(BadInput, match="at most 6"):
        upload(uploads, zip_of({f"{seed}.png": make_image(seed) for seed in range(6)}), "photos.zip")
    assert len(uploads) == 1
    assert len(list(uploads.folder.iterdir())) == 1


def test_a_zip_that_lists_too_many_files_is_refused_before_its_list_is_read(
    uploads: Album, make_image: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = zip_of({"1.png": make_image(1)} | {f"{number}.txt": b"" for number in range(100)})
    monkeypatch.setattr(photos._List, "most", 5000)
    with pytest.raises(BadInput, match=r"cannot be read\. It lists too many files\."):
        upload(uploads, many, "photos.zip")
    assert list(uploads.folder.iterdir()) == []
    monkeypatch.setattr(photos._List, "most", 6000)
    upload(uploads, many, "photos.zip")
    assert uploads.read(0) == make_image(1)


def test_a_bomb_in_a_zip_is_read_no_further_than_the_limit(uploads: Album, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IMAGE_BYTES", 1000)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", bytes(50_000_000))
    upload(uploads, target.getvalue(), "photos.zip")
    assert len(uploads.read(0)) == 1001


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_unpacks_without_a_limit_is_not_unpacked(
    uploads: Album, make_image: Callable[..., bytes], tagger: Tagger, method: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.writestr("1.png", bytes(50_000_000))
        archive.writestr("2.png", make_image(2), zipfile.ZIP_DEFLATED)
    upload(uploads, target.getvalue(), "photos.zip")
    monkeypatch.setattr(zipfile, "_get_decompressor", lambda _: pytest.fail("it was unpacked"))
    with pytest.raises(ImageRejected, match="another method than deflate"):
        uploads.read(0)
    monkeypatch.undo()
    finish(uploads, tagger)
    assert list(uploads.problems) == [0]


def test_zips_hold_no_file_open_and_no_list_of_what_is_no_photo(
    uploads: Album, make_image: Callable[..., bytes]
) -> None:
    files = {f"{number}.txt": b"" for number in range(100)}
    for seed in range(3):
        image = make_image(seed, size=(400, 300))
        upload(uploads, zip_of(files | {f"{seed}.png": image}), f"{seed}.zip")
        assert uploads.read(seed) == image
    opened = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert [path for path in opened if path.startswith(str(uploads.folder))] == []
    assert [photo.read.args[0].infolist() for photo in uploads.photos] == [[], [], []]
    uploads.close()
    with pytest.raises(ImageRejected, match="not there any more"):
        uploads.read(0)


def test_a_photo_that_a_model_cannot_prepare_is_named_and_not_tried_for_ever(
    image_folder: Path, loaded_tiny: Checkpoint, make_image: Callable[..., bytes]
) -> None:
    (image_folder / "3.png").write_bytes(make_image(3, size=(10_001, 101)))
    preprocess = replace(loaded_tiny.preprocess, steps=({"type": "pad_to_square"}, {"type": "timm"}))
    album = Album(sorted(image_folder.iterdir()))
    sheet = finish(album, Tagger(replace(loaded_tiny, preprocess=preprocess), "cpu"))
    assert list(album.problems) == [3]
    assert "too long and thin" in album.problems[3]
    assert sheet.done == 8


def test_cancelling_stops_and_starting_again_does_the_rest(
    image_folder: Path, tagger: Tagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.BATCH_SIZES, "cpu", 1)
    album = Album(sorted(image_folder.iterdir()))
    sheet, reached, go_on = album.sheet(tagger), threading.Event(), threading.Event()
    put = sheet.put

    def slow(place: int, scores: np.ndarray) -> None:
        put(place, scores)
        reached.set()
        go_on.wait(20)

    monkeypatch.setattr(sheet, "put", slow)
    sheet.start(tagger)
    thread = sheet._thread
    reached.wait(20)
    sheet.cancel()
    go_on.set()
    thread.join()
    assert sheet.done == 1
    assert not sheet.is_running
    assert finish(album, tagger).done == 8


def test_photos_that_come_while_it_tags_are_tagged_too(
    uploads: Album, make_image: Callable[..., bytes], tagger: Tagger
) -> None:
    for seed in range(6):
        upload(uploads, make_image(seed), f"{seed}.png")
        uploads.sheet(tagger).start(tagger)
    assert finish(uploads, tagger).done == 6
    assert uploads.sheet(tagger).eta_seconds in (None, 0)


def test_scores_of_a_file_that_was_replaced_are_forgotten(image_folder: Path, tagger: Tagger) -> None:
    album = Album(sorted(image_folder.iterdir()))
    sheet = finish(album, tagger)
    album.seen(2, Look("0" * 64, "png", (1, 1)))
    assert sheet.of(2) is None
    assert sheet.of(1) is not None
    assert np.isnan(sheet.scores()[2]).all()


def test_a_file_that_was_replaced_has_another_thumbnail(
    image_folder: Path, tagger: Tagger, make_image: Callable[..., bytes]
) -> None:
    album = Album(sorted(image_folder.iterdir()))
    finish(album, tagger)
    before = album.thumbnail(2)
    sorted(image_folder.iterdir())[2].write_bytes(data := make_image(99))
    assert album.thumbnail(2) == before
    album.seen(2, Look(hashlib.sha256(data).hexdigest(), "png", (1, 1)))
    assert album.thumbnail(2) != before


def test_a_fault_of_the_model_is_told_and_ends_the_run(
    image_folder: Path, tagger: Tagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    album = Album(sorted(image_folder.iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr(tagger, "forward", lambda pixels: 1 / 0)
        sheet = finish(album, tagger)
    assert "ZeroDivisionError" in sheet.error
    assert not sheet.is_running
    assert finish(album, tagger).error == ""


def test_thumbnails_are_small_and_come_without_tagging(image_folder: Path) -> None:
    album = Album(sorted(image_folder.iterdir()))
    assert max(decode(album.thumbnail(0)).size) <= module.THUMBNAIL_PIXELS
    assert album.thumbnail(0) is album.thumbnail(0)


def test_the_oldest_uploads_go_when_there_are_too_many_and_the_servers_own_stay(image_folder: Path) -> None:
    albums = Albums(2, 10, 1000)
    own = albums.add(Album(sorted(image_folder.iterdir())))
    first, second, third = (albums.new() for _ in range(3))
    assert albums.get(first.token) is None
    assert not first.folder.exists()
    assert {albums.get(album.token) for album in (own, second, third)} == {own, second, third}
    albums.close_all()
    assert not third.folder.exists()


def test_what_a_browser_cannot_show_is_made_a_jpeg_once(
    make_image: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr("demo.previews.thumbnail", lambda data, side: made.append(data) or data[:100])
    first, second = (make_image(seed, kind="TIFF") for seed in (1, 2))
    previews = Previews(max_bytes=150)
    jpeg = make_image(1, kind="JPEG")
    assert previews.of(jpeg, "jpg") == (jpeg, "jpg")
    assert previews.of(first, "tif") == previews.of(first, "tif") == (first[:100], "jpg")
    assert made == [first]
    previews.of(second, "tif")  # of the two there is room for one
    previews.of(second, "tif")
    previews.of(first, "tif")
    assert made == [first, second, first]
