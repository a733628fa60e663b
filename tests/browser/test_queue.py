"""Many photos: brought, tagged in the background, gone through by keyboard, every row right."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from demo import album as album_module
from demo import previews
from demo.album import Album
from demo.checkpoint import Checkpoint, save_checkpoint
from demo.images import decode
from demo.tagger import Tagger
from demo.ui.tag_tab import TagTab
from tests.browser.test_page import Site

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")


@pytest.fixture
def start(page: Page, serve: Callable[..., str], tmp_path: Path, tiny_checkpoint: Path) -> Callable[..., Site]:
    return lambda **settings: Site(page, serve, tmp_path, tiny_checkpoint, **settings)


def tiles(site: Site, state: str | None = None) -> Locator:
    return site.id("strip").locator(f'[data-state="{state}"]' if state else "[data-place]")


def places(site: Site) -> list[int]:
    """Of the tiles as they stand."""
    return tiles(site).evaluate_all(
        "nodes => nodes.sort((a, b) => a.offsetLeft - b.offsetLeft).map(node => Number(node.dataset.place))"
    )


def bring(site: Site, *files: tuple[str, bytes] | Path) -> None:
    """Choose files as the button's dialog would."""
    with site.page.expect_file_chooser() as chooser:
        site.id("add-photos").click()
    chooser.value.set_files(
        [
            file if isinstance(file, Path) else {"name": file[0], "mimeType": "", "buffer": file[1]}  # type: ignore[list-item]
            for file in files
        ]
    )


def album_of(site: Site) -> Album:
    return site.albums.get(site.page.evaluate("sessionStorage.getItem('tagloop-album')"))


def facts(site: Site) -> Locator:
    return site.page.locator(".facts p")


def test_a_folder_is_gone_through_and_what_cannot_be_read_is_passed_by(
    start: Callable[..., Site], image_folder: Path
) -> None:
    (image_folder / "0a.png").write_bytes(b"broken")
    site = start(images=image_folder)
    expect(facts(site)).to_contain_text("1 of 9")
    expect(facts(site)).to_contain_text("0.png")
    expect(site.page.locator(".examples .strip")).to_be_hidden()
    expect(tiles(site, "f")).to_have_count(1)
    for number in (*range(3, 10), 1):  # the first was skipped, so it comes again in the end
        site.id("next").click()
        expect(facts(site)).to_contain_text(f"{number} of 9")
        site.save()
        expect(tiles(site, "d")).to_have_count(number - 2 if number > 1 else 8)
    site.id("next").click()
    expect(site.id("status")).to_contain_text("All photos are done.")
    saved = {(site.settings.corrections / row["file_name"]).read_bytes() for row in site.rows()}
    assert saved == {path.read_bytes() for path in image_folder.iterdir()} - {b"broken"}


def test_photos_and_a_zip_that_a_visitor_brings_are_tagged_and_the_first_is_opened(
    start: Callable[..., Site], make_image: Callable[..., bytes]
) -> None:
    site, archive = start(), io.BytesIO()
    site.pick("cat")
    site.chips.first.click()  # what is open and not saved makes room, and is kept
    with zipfile.ZipFile(archive, "w") as packed:
        for seed in range(3):
            packed.writestr(f"holiday/{seed}.png", make_image(seed))
    bring(site, ("a.png", make_image(7)), ("photos.zip", archive.getvalue()), ("b.png", b"no image"))
    expect(site.page.locator(".counts b")).to_have_text("0 of 5 done")
    expect(tiles(site)).to_have_count(5)
    expect(tiles(site, "f")).to_have_count(1)
    expect(facts(site)).to_contain_text("1 of 5")
    expect(site.page.locator(".film .work")).to_be_hidden()
    site.page.reload()
    expect(site.page.locator(".counts b")).to_have_text("0 of 5 done")
    expect(site.chips.first).to_be_visible()
    folder = album_of(site).folder
    assert len(list(folder.iterdir())) == 3
    site.id("close-queue").click()
    expect(site.id("strip")).to_be_hidden()
    expect(site.page.locator(".examples .strip")).to_be_visible()
    assert not folder.exists()


def test_what_an_event_says_late_does_not_undo_what_another_said_meanwhile(
    start: Callable[..., Site], make_image: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    tag_again, enter, has_looked, may_end = TagTab._tag_again, TagTab._enter, threading.Event(), threading.Event()

    def ending_late(*args: object) -> Iterator[tuple]:
        yield from tag_again(*args)
        has_looked.set()
        may_end.wait(20)  # what was yielded last goes to the page once more after that

    def entering_late(*args: object) -> Iterator[tuple]:
        has_looked.wait(20)
        yield from enter(*args)

    monkeypatch.setattr(TagTab, "_tag_again", functools.wraps(tag_again)(ending_late))
    monkeypatch.setattr(TagTab, "_enter", functools.wraps(enter)(entering_late))
    may_end.set()
    site = start()
    bring(site, ("a.png", make_image(1)), ("b.png", make_image(2)))
    expect(facts(site)).to_contain_text("1 of 2")
    for event in (may_end, has_looked):
        event.clear()
    site.page.reload()
    expect(facts(site)).to_contain_text("1 of 2")
    site.page.evaluate(
        "new MutationObserver(() => (window.wasHidden ||= document.querySelector('.film .bar').hidden))"
        ".observe(document.querySelector('.film'), {subtree: true, attributes: true, childList: true})"
    )
    may_end.set()
    site.id("next").click()
    expect(facts(site)).to_contain_text("2 of 2")
    site.id("next").click()
    expect(facts(site)).to_contain_text("1 of 2")
    assert not site.page.evaluate("window.wasHidden")
    assert album_of(site) is not None


def test_what_is_decided_before_the_event_that_showed_a_photo_has_ended_stays(
    start: Callable[..., Site], image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    following, may_end = TagTab._next, threading.Event()

    def ending_late(*args: object) -> Iterator[tuple]:
        yield from following(*args)
        may_end.wait(20)  # what was yielded last goes to the page once more after that

    monkeypatch.setattr(TagTab, "_next", functools.wraps(following)(ending_late))
    may_end.set()
    site = start(images=image_folder)
    expect(facts(site)).to_contain_text("1 of 8")
    expect(site.page.locator(".film .work")).to_be_hidden()
    may_end.clear()
    site.id("tag-editor").focus()
    for number in (2, 3):  # the second one though the first has not ended
        site.page.keyboard.press("n")
        expect(facts(site)).to_contain_text(f"{number} of 8")
    chip = site.chips.first
    label = chip.get_attribute("data-label")
    chip.click()
    may_end.set()
    site.id("order").select_option("random")  # whose answer comes after those
    expect(site.id("strip").locator("[aria-selected=true]")).to_be_visible()
    expect(site.chip(label)).to_have_attribute("data-state", "rejected")
    site.id("save").click()
    expect(site.id("status")).to_contain_text("Saved")
    [row] = site.rows()
    assert json.loads(row["rejected"]) == [label]


def test_more_photos_are_counted_and_closing_stops_those_that_still_travel(
    start: Callable[..., Site], make_image: Callable[..., bytes], image_folder: Path
) -> None:
    site = start(images=image_folder)
    expect(site.page.locator(".counts b")).to_have_text("0 of 8 done")
    held: list[Route] = []
    site.page.route("**/albums/*/photos", lambda route: held.append(route))  # not answered yet
    with site.page.expect_request("**/albums/*/photos"):
        bring(site, ("first.png", make_image(9)))
    expect(site.id("strip")).to_be_hidden()
    expect(site.page.get_by_role("heading", name="Examples")).to_have_count(0)  # there are none beside a folder
    held.pop().continue_()
    site.page.unroute_all()
    expect(facts(site)).to_contain_text("1 of 1")
    bring(site, ("second.png", make_image(8)))
    expect(facts(site)).to_contain_text("1 of 2")  # the same photo, of more
    site.page.route("**/albums/*/photos", lambda route: held.append(route))  # never answered
    bring(site, *[(f"{seed}.png", make_image(seed)) for seed in range(3)])
    expect(site.page.locator(".film .work")).to_contain_text("Bringing 0 of 3 files")
    site.id("close-queue").click()
    expect(site.page.locator(".counts b")).to_have_text("0 of 8 done")
    expect(site.page.locator(".film .work")).to_be_hidden()
    expect(site.page.locator(".film .problem")).to_be_hidden()
    assert len(held) == 1


def test_what_is_no_photo_or_too_much_is_refused_by_name_and_the_rest_is_kept(
    start: Callable[..., Site], make_image: Callable[..., bytes]
) -> None:
    site = start()
    site.albums.max_photos = 2
    empty = io.BytesIO()
    with zipfile.ZipFile(empty, "w") as packed:
        packed.writestr("notes.txt", "x")
    bring(site, ("empty.zip", empty.getvalue()))
    expect(site.page.locator(".film .problem")).to_contain_text("empty.zip holds no photos")
    bring(site, *[(f"{seed}.png", make_image(seed)) for seed in range(3)])
    expect(site.page.locator(".film .problem")).to_contain_text("at most 2 are worked through")
    expect(tiles(site)).to_have_count(2)


@pytest.mark.parametrize("count", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_a_hundred_photos_by_keyboard_alone_every_row_right(
    start: Callable[..., Site], make_image: Callable[..., bytes], tmp_path: Path, loaded_tiny: Checkpoint, count: int
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(count):
        (folder / f"{seed:03}.png").write_bytes(make_image(seed))
    site = start(images=folder)
    page, editor, tagger = site.page, site.id("tag-editor"), Tagger(loaded_tiny, "cpu")
    expect(facts(site)).to_contain_text(f"1 of {count}")
    expect(site.page.locator(".film .work")).to_be_hidden()  # all are tagged
    expected, started = {}, time.perf_counter()
    page.keyboard.press("Tab")
    editor.focus()
    for seed in range(count):
        data = (folder / f"{seed:03}.png").read_bytes()
        scores = tagger.tag(decode(data)).scores
        ranked = sorted(range(len(scores)), key=lambda i: -scores[i])
        active = [site.names[i] for i in ranked if scores[i] >= loaded_tiny.threshold]
        shown = float(site.chip(site.names[ranked[0]]).get_attribute("data-score"))
        assert abs(shown - scores[ranked[0]]) < 1e-5
        page.keyboard.press("Home")
        page.keyboard.press("Space")  # the first label is wrong
        first, rest = (active[0], active[1:]) if active else (None, [site.names[ranked[0]]])
        expected[hashlib.sha256(data).hexdigest()] = (set(rest), {first} - {None})
        page.keyboard.press("d")
        if seed + 1 < count:
            expect(facts(site)).to_contain_text(f"{seed + 2} of {count}")
    expect(site.id("status")).to_contain_text("All photos are done.")
    seconds = (time.perf_counter() - started) / count
    print(f"\n{seconds:.3f} s of page time an image, the model's share 0: all were tagged ahead")
    rows = {Path(row["file_name"]).stem: row for row in site.rows()}
    assert {
        digest: (set(json.loads(row["labels"])), set(json.loads(row["rejected"]))) for digest, row in rows.items()
    } == expected


def test_the_order_can_be_changed_and_the_open_photo_stays(
    start: Callable[..., Site], image_folder: Path, loaded_tiny: Checkpoint
) -> None:
    site = start(images=image_folder)
    expect(site.page.locator(".film .work")).to_be_hidden()
    site.id("order").select_option("uncertain")
    tagger = Tagger(loaded_tiny, "cpu")
    paths = sorted(image_folder.iterdir())
    nearest = [abs(tagger.tag(decode(path.read_bytes())).scores - loaded_tiny.threshold).min().item() for path in paths]
    order = sorted(range(8), key=nearest.__getitem__)
    expect(tiles(site).locator("nth=0")).to_be_visible()
    assert places(site) == order
    expect(site.id("strip").locator("[aria-selected=true]")).to_have_attribute("data-place", "0")
    site.page.locator(f"[data-place='{order[3]}']").click()
    expect(facts(site)).to_contain_text("4 of 8")
    site.id("tag-editor").focus()
    site.page.keyboard.press("n")
    expect(facts(site)).to_contain_text("5 of 8")
    expect(facts(site)).to_contain_text(f"{order[4]}.png")
    site.page.keyboard.press("p")
    expect(facts(site)).to_contain_text(f"{order[3]}.png")


def test_the_strip_is_walked_with_arrow_keys(start: Callable[..., Site], image_folder: Path) -> None:
    site = start(images=image_folder)
    expect(facts(site)).to_contain_text("1 of 8")
    tiles(site).first.focus()
    site.page.keyboard.press("End")
    site.page.keyboard.press("ArrowLeft")
    site.page.keyboard.press("Enter")
    expect(facts(site)).to_contain_text("6.png")
    expect(site.page.locator("[data-place='6']")).to_have_attribute("aria-selected", "true")


def test_decisions_left_unsaved_are_marked_and_come_back(start: Callable[..., Site], image_folder: Path) -> None:
    site = start(images=image_folder)
    expect(facts(site)).to_contain_text("1 of 8")
    label = site.chips.first.get_attribute("data-label")
    site.chips.first.click()
    site.id("next").click()
    expect(facts(site)).to_contain_text("2 of 8")
    expect(tiles(site, "e")).to_have_count(1)
    tiles(site, "e").click()
    expect(facts(site)).to_contain_text("1 of 8")
    expect(site.chip(label)).to_have_attribute("data-state", "rejected")


def test_what_was_saved_in_the_grid_meanwhile_is_there_when_the_tab_is_opened_again(
    start: Callable[..., Site], image_folder: Path
) -> None:
    site = start(images=image_folder)
    expect(facts(site)).to_contain_text("1 of 8")
    first, second = (site.chips.nth(place).get_attribute("data-label") for place in (0, 1))

    def save_elsewhere(label: str) -> None:
        values = {"reviewed": "listed", "model_labels": [], "threshold": 0.4}
        model = site.models.own.checkpoint.identity
        data = (image_folder / "0.png").read_bytes()
        site.tab("Corrections")
        site.corrections.save(data, "png", labels=[], rejected=[label], model=model, **values)
        site.tab("Tag")

    save_elsewhere(first)
    expect(site.chip(first)).to_have_attribute("data-state", "rejected")
    site.chip(second).click()
    save_elsewhere(second)
    expect(site.id("status")).to_contain_text("saved elsewhere meanwhile")
    expect(site.chip(first)).to_have_attribute("data-state", "rejected")


def test_tagging_can_be_stopped_and_gone_on_with_and_starts_anew_under_another_model(
    start: Callable[..., Site],
    image_folder: Path,
    tmp_path: Path,
    make_checkpoint: Callable[..., Checkpoint],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(album_module.BATCH_SIZES, "cpu", 1)
    site = start()
    forward, allowed = site.models.own.forward, [2]

    def slow(pixels: object) -> object:
        if threading.current_thread().name == "album":
            while not allowed[0]:
                time.sleep(0.01)
            allowed[0] -= 1
        return forward(pixels)

    monkeypatch.setattr(site.models.own, "forward", slow)
    bring(site, *sorted(image_folder.iterdir()))
    work = site.page.locator(".film .work")
    expect(work).to_contain_text("of 8")
    stop = site.id("cancel-tagging")
    expect(stop).to_have_text("Stop")
    expect(work).to_contain_text("Tagged")
    stop.click()
    allowed[0] = 3
    expect(stop).to_have_text("Go on")
    expect(work).to_contain_text("Stopped at")
    site.id("order").select_option("uncertain")
    expect(site.id("order")).to_have_value("uncertain")
    allowed[0] = 1000
    stop.click()
    expect(work).to_be_hidden()
    scores = album_of(site).sheet(site.models.own).scores()
    order = np.argsort(np.abs(scores - site.models.own.checkpoint.threshold).min(1), kind="stable").tolist()
    assert places(site) == order, "it was chosen before all scores were there"
    other = tmp_path / "other"
    save_checkpoint(other, make_checkpoint(1))
    site.id("model").locator("input").fill(str(other))
    site.page.keyboard.press("Enter")
    expect(site.id("model").locator("b")).to_have_text("other")
    album, identity = album_of(site), site.models.identity(str(other))
    while (sheet := album.sheet_of(identity)) is None or sheet.done < 8:
        site.page.wait_for_timeout(50)  # lets the page's server answer
    expect(work).to_be_hidden()


def test_of_five_thousand_photos_only_those_in_sight_are_in_the_page(
    start: Callable[..., Site], make_image: Callable[..., bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (tmp_path / "one.png").write_bytes(make_image(1))
    for number in range(5000):
        (folder / f"{number:04}.png").hardlink_to(tmp_path / "one.png")
    site = start(images=folder)
    expect(facts(site)).to_contain_text("1 of 5000")
    site.id("cancel-tagging").click()
    strip = site.id("strip")
    for share in (0, 0.3, 0.7, 1):
        strip.evaluate("(strip, share) => (strip.scrollLeft = share * strip.scrollWidth)", share)
        expect(tiles(site).and_(site.page.locator(f"[data-place='{round(share * 4990)}']"))).to_be_visible()
        assert tiles(site).count() < 40
    tiles(site).last.focus()
    site.page.keyboard.press("End")
    site.page.keyboard.press("Enter")
    expect(facts(site)).to_contain_text("5000 of 5000")


def test_a_dropped_folder_is_looked_through(start: Callable[..., Site], make_image: Callable[..., bytes]) -> None:
    """The browser's own drag cannot be scripted: entries like those of a drop stand in for it."""
    site = start()
    site.page.evaluate(
        """pictures => {
            const files = pictures.map((bytes, i) => ({
                name: `${i}.png`, isFile: true,
                file: (done) => done(new File([new Uint8Array(bytes)], `${i}.png`, { type: "image/png" })),
            }));
            files.push({ name: "notes.txt", isFile: true, file: (done) => done(new File(["x"], "notes.txt")) });
            const refuse = (_, failed) => failed(new DOMException("It is not there.", "NotFoundError"));
            files.push({ name: "link.png", isFile: true, file: refuse });
            files.push({ name: "locked", createReader: () => ({ readEntries: refuse }) });
            const inner = { name: "inner", createReader: () => reader([files.slice(1), []]) };
            const reader = (parts) => ({ readEntries: (done) => done(parts.shift()) });
            const folder = { name: "folder", createReader: () => reader([[files[0]], [inner], []]) };
            document.dispatchEvent(new CustomEvent("tagloop-files", { detail: [folder] }));
        }""",
        [list(make_image(seed)) for seed in range(3)],
    )
    expect(tiles(site)).to_have_count(3)
    expect(facts(site)).to_contain_text("folder/0.png")
    told = site.page.locator(".film .problem")
    expect(told).to_contain_text("1 file is no photo and was left out: notes.txt")
    expect(told).to_contain_text("2 files cannot be read and were left out: link.png, locked")


def test_the_pictures_of_the_next_photos_are_there_before_they_are_opened(
    start: Callable[..., Site], image_folder: Path, make_image: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, preview = [], previews.thumbnail
    monkeypatch.setattr(previews, "thumbnail", lambda data, side: made.append(data) or preview(data, side))
    tiff = make_image(20, kind="TIFF")
    (image_folder / "1.tif").write_bytes(tiff)  # after 1.png
    site = start(images=image_folder)
    asked: list[str] = []
    site.page.on("request", lambda request: asked.append(request.url))
    site.page.reload()
    fetched = "performance.getEntriesByType('resource').filter(({ name }) => name.includes('/file=')).length"
    for number in (1, 2, 3):
        expect(facts(site)).to_contain_text(f"{number} of 9")
        site.page.wait_for_function(f"{fetched} === {number} + 2")  # the one that is open, those before, and two more
        ahead, before = {url for url in asked if "/file=" in url}, len(asked)
        site.id("next").click()
        expect(facts(site)).to_contain_text(f"{number + 1} of 9")
        expect(site.image).to_have_js_property("complete", True)
        source = site.image.get_attribute("src")
        assert source in ahead
        assert source not in asked[before:]
    assert made == [tiff]


def test_on_a_phone_margins_are_narrow_and_save_and_next_and_the_picture_stay_in_sight(
    start: Callable[..., Site], image_folder: Path
) -> None:
    site = start(images=image_folder)
    page = site.page
    page.set_viewport_size({"width": 390, "height": 844})
    expect(facts(site)).to_contain_text("1 of 8")
    desk = page.locator("#desk").bounding_box()
    assert 12 <= desk["x"] <= 16
    assert 12 <= 390 - desk["x"] - desk["width"] <= 16
    for top in (0, 300):
        page.evaluate("top => scrollTo({ top, behavior: 'instant' })", top)
        for name in ("save", "next"):
            expect(site.id(name)).to_be_in_viewport(ratio=1)
    page.evaluate("scrollTo({ top: 400, behavior: 'instant' })")
    expect(page.locator("#image")).not_to_be_in_viewport(ratio=0.9)
    site.id("next").click()
    expect(facts(site)).to_contain_text("2 of 8")
    expect(page.locator("#image")).to_be_in_viewport(ratio=1)
    expect(site.id("next")).to_be_in_viewport(ratio=1)


def test_who_touches_is_not_told_to_drop(start: Callable[..., Site], browser: Browser) -> None:
    site = start()
    expect(site.page.get_by_text("Drop photos, a folder or a zip")).to_be_visible()
    phone = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True).new_page()
    phone.goto(site.url)
    expect(phone.get_by_text("Add its photos, or a zip.")).to_be_visible()
    expect(phone.get_by_text("Drop photos, a folder or a zip")).to_be_hidden()
    phone.context.close()


def test_next_opens_what_the_model_contradicts_though_it_is_saved(
    start: Callable[..., Site], image_folder: Path
) -> None:
    site = start(images=image_folder)
    expect(site.page.locator(".film .work")).to_be_hidden()
    expect(facts(site)).to_contain_text("1 of 8")
    site.chips.first.click()  # what the model is surest of is rejected
    site.save()
    site.id("next").click()
    expect(facts(site)).to_contain_text("2 of 8")
    site.id("order").select_option("disagree")
    expect(tiles(site).and_(site.page.locator("[data-place='0']"))).to_have_css("left", "0px")
    site.page.locator("[data-place='7']").click()
    expect(facts(site)).to_contain_text("7.png")
    site.id("next").click()
    expect(facts(site)).to_contain_text("0.png")
    site.id("next").click()
    expect(facts(site)).not_to_contain_text("0.png")
