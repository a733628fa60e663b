"""Photos brought by mouse and dialog, what is said of other files, and the look of a queue that is done."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from demo.album import Album
from tests.browser.test_page import Site

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")


@pytest.fixture
def start(page: Page, serve: Callable[..., str], tmp_path: Path, tiny_checkpoint: Path) -> Callable[..., Site]:
    return lambda **settings: Site(page, serve, tmp_path, tiny_checkpoint, **settings)


@pytest.fixture
def mixed(tmp_path: Path, make_image: Callable[..., bytes]) -> Path:
    """A folder with two photos, one of them further in, five other files and a hidden one."""
    folder = tmp_path / "holiday"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.png").write_bytes(make_image(0))
    (folder / "inner" / "b.png").write_bytes(make_image(1))
    for name in ("1.txt", "2.txt", "3.txt", "4.txt", "5.txt", ".hidden"):
        (folder / name).write_text("x")
    return folder


def drop(site: Site, target: Locator, *paths: Path) -> None:
    """As a hand with a mouse does."""
    box = target.bounding_box()
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    browser = site.page.context.new_cdp_session(site.page)
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.send("Input.dispatchDragEvent", {"type": kind, **at, "data": data})


def count(site: Site) -> Locator:
    return site.page.locator(".film .counts b")


def problem(site: Site) -> Locator:
    return site.page.locator(".film .problem")


def test_a_folder_dropped_on_the_image_is_brought_and_what_is_no_photo_is_named(
    start: Callable[..., Site], mixed: Path, make_image: Callable[..., bytes]
) -> None:
    site = start()
    drop(site, site.page.locator("#image"), mixed / "1.txt")
    expect(problem(site)).to_have_text("What was dropped holds no photos.")
    drop(site, site.page.locator("#image"), mixed)
    expect(count(site)).to_have_text("0 of 2 done")
    expect(problem(site)).to_contain_text("5 files are no photos and were left out: ")
    expect(problem(site)).to_contain_text("and 2 more")
    expect(site.page.locator(".facts p")).to_contain_text("1 of 2")
    drop(site, site.page.locator("#image"), mixed / "a.png")  # one alone is an image to look at
    expect(site.page.locator(".facts p")).not_to_contain_text("of 2")
    expect(problem(site)).to_contain_text("left out")


def test_of_several_files_dropped_the_photos_are_brought_and_the_drop_zone_rests(
    start: Callable[..., Site], mixed: Path
) -> None:
    site = start()
    zone = site.page.locator("#image")
    before = zone.evaluate("zone => getComputedStyle(zone).border")
    drop(site, zone, mixed / "a.png", mixed / "inner" / "b.png", mixed / "2.txt")
    expect(problem(site)).to_have_text("1 file is no photo and was left out: 2.txt")
    expect(count(site)).to_have_text("0 of 2 done")
    site.id("close-queue").click()
    expect(site.page.locator(".facts p")).to_be_empty()
    assert zone.evaluate("zone => getComputedStyle(zone).border") == before


def test_the_button_for_a_folder_looks_it_through(start: Callable[..., Site], mixed: Path) -> None:
    site = start()
    with site.page.expect_file_chooser() as chooser:
        site.id("add-folder").click()
    chooser.value.set_files(mixed)
    expect(count(site)).to_have_text("0 of 2 done")
    expect(problem(site)).to_contain_text("5 files are no photos")
    expect(site.page.locator(".facts p")).to_contain_text("holiday/")


def test_photos_that_are_done_already_are_passed_by_and_while_more_travel_it_is_not_all_done(
    start: Callable[..., Site], tmp_path: Path, make_image: Callable[..., bytes]
) -> None:
    site = start()
    said = {"reviewed": "listed", "model_labels": [], "threshold": 0.4, "model": "owner/name@1"}
    for seed in range(3):
        (tmp_path / f"{seed}.png").write_bytes(make_image(seed))
    for seed in range(2):
        site.corrections.save(make_image(seed), "png", labels=[], rejected=[], **said)
    held: list[Route] = []

    def hold_the_last(route: Route) -> None:
        if route.request.headers["x-name"] == "2.png":
            held.append(route)
        else:
            route.continue_()

    site.page.route("**/albums/*/photos", hold_the_last)
    site.page.evaluate("() => { let now = 0; performance.now = () => (now += 2000); }")  # so each is told of at once
    drop(site, site.page.locator("#image"), *(tmp_path / f"{seed}.png" for seed in range(3)))
    expect(count(site)).to_have_text("2 of 2 done")
    expect(site.id("tag-editor")).to_have_attribute("data-view", "empty")
    held.pop().continue_()
    expect(site.page.locator(".facts p")).to_contain_text("3 of 3")


def test_tab_reaches_order_close_and_strip_before_more_photos_are_brought(
    start: Callable[..., Site], make_image: Callable[..., bytes], mixed: Path
) -> None:
    site = start()
    drop(site, site.page.locator("#image"), mixed)
    expect(count(site)).to_have_text("0 of 2 done")
    site.id("order").focus()
    for name in ("close-queue", None, "add-photos", "add-folder"):
        site.page.keyboard.press("Tab")
        expect(site.id(name) if name else site.id("strip").get_by_role("option").first).to_be_focused()


def test_a_queue_that_is_done_looks_done_though_a_photo_cannot_be_read(
    start: Callable[..., Site], tmp_path: Path, make_image: Callable[..., bytes]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(make_image(0))
    (folder / "b.png").write_bytes(b"broken")
    site = start(images=folder)
    expect(site.page.locator(".counts span")).to_have_text("1 cannot be read")
    expect(count(site)).to_have_text("0 of 2 done")
    site.save()
    expect(count(site)).to_have_text("All done")
    expect(site.page.locator(".counts span")).to_have_text("1 saved · 1 cannot be read")
    site.id("next").click()
    expect(site.id("status")).to_have_text("All photos are done. 1 photo cannot be read.")
    expect(site.id("unread")).to_contain_text("b.png: This is not a picture.")
    said = re.compile(r"^(All photos are tagged\. 1 photo cannot be read\. )?All photos are done\.$")  # together or not
    expect(site.page.locator(".film .announcer")).to_have_text(said)
    expect(site.id("tag-editor")).to_contain_text("What you saved is on the Corrections tab.")
    expect(site.page.get_by_text("No image yet")).to_be_hidden()
    site.upload_and_wait(make_image(5))
    expect(site.page.get_by_text("What you saved is on")).to_be_hidden()


def test_photos_of_which_none_can_be_read_are_not_said_to_be_done(
    start: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (folder := tmp_path / "photos").mkdir()
    for name in ("1.heic", "2.heic"):
        (folder / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    site = start(images=folder)
    expect(site.id("status")).to_have_text("2 photos cannot be read.")
    expect(site.id("status")).to_have_attribute("data-state", "error")
    expect(site.id("tag-editor")).to_have_attribute("data-view", "empty")
    expect(site.page.locator(".finished")).to_be_hidden()
    expect(count(site)).to_have_text("2 photos cannot be read.")
    expect(site.id("unread")).to_be_visible()
    expect(site.id("unread")).to_contain_text("1.heic and 1 more: This is a HEIC picture.")
    expect(site.id("unread")).to_contain_text("pip install pillow-heif")
    expect(site.page.locator(".film .announcer")).to_contain_text("2 photos cannot be read.")


def test_close_asks_before_decisions_of_the_grid_go_with_the_photos(start: Callable[..., Site], mixed: Path) -> None:
    site = start()
    drop(site, site.page.locator("#image"), mixed)
    expect(count(site)).to_have_text("0 of 2 done")
    expect(site.page.locator(".film .work")).to_be_hidden()
    site.tab("Grid")
    site.page.locator(".tile[data-band=active], .tile[data-band=candidate]").first.click()
    expect(site.id("grid-save")).to_have_text("Save 1 decision")
    site.tab("Tag")
    site.id("close-queue").click()
    asking = site.page.locator(".film .asking")
    expect(asking).to_contain_text("1 decision on the Grid tab is not saved.")
    site.page.keyboard.press("Enter")  # Keep has the focus
    expect(asking).to_be_hidden()
    expect(site.id("close-queue")).to_be_focused()
    expect(count(site)).to_have_text("0 of 2 done")
    site.id("close-queue").click()
    asking.get_by_role("button", name="Close without saving").click()
    expect(site.id("strip")).to_be_hidden()
    site.tab("Grid")
    expect(site.id("grid")).not_to_have_attribute("data-view", "busy")
    expect(site.id("grid-save")).to_be_disabled()
    assert not site.corrections.csv_path.exists()


def test_that_all_photos_are_tagged_is_said_and_the_bar_has_a_name(
    start: Callable[..., Site], mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go, prepared = threading.Event(), Album.prepared

    def waiting(*arguments: object, **more: object) -> object:
        may_go.wait(20)
        return prepared(*arguments, **more)

    monkeypatch.setattr(Album, "prepared", waiting)
    site = start()
    drop(site, site.page.locator("#image"), mixed)
    said = site.page.locator(".film .announcer")
    expect(site.page.get_by_role("progressbar", name="Tagging photos")).to_be_visible()
    expect(said).to_be_empty()
    may_go.set()
    expect(said).to_have_text("All photos are tagged.")
