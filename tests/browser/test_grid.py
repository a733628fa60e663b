"""The Grid tab by itself, in a real browser, on photos with made-up scores."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from benchmarks.grid import page_of
from demo.album import Sheet
from demo.labels import LabelSet
from demo.settings import MAX_LABEL_CHARACTERS
from demo.ui.grid_tab import _part
from tests.browser.grid_site import GridSite, free_port

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # gradio's, on every page load

HOSTILE = '<img src=x onerror="throw 1">'
LABELS = LabelSet(("cat", "dog", "long_hair", HOSTILE), thresholds=(None, 0.6, None, None))
SCORES = np.float32(
    [[0.9, 0.7], [0.1, 0.65], [0.8, 0.5], [0.3, 0.1], [0.7, 0.2], [0.401, 0.3], [0.399, 0.4], [0.05, 0]]
)
SCORES = np.concatenate([SCORES, np.full((8, 2), 0.01, np.float32)], 1)
BY_CAT = [0, 2, 4, 5, 6, 3, 1, 7]  # the threshold of the made-up model is 0.4, so the line stands behind the fourth


@pytest.fixture
def grid(
    page: Page, serve: Callable[..., str], tmp_path: Path, make_checkpoint: Callable, make_image: Callable[..., bytes]
) -> GridSite:
    checkpoint = make_checkpoint(names=LABELS.names)
    return GridSite(page, serve, tmp_path, replace(checkpoint, labels=LABELS), make_image, SCORES.copy())


def test_it_opens_with_the_label_with_the_most_to_do_by_falling_score_on_both_sides_of_the_line(grid: GridSite) -> None:
    grid.open()
    expect(grid.field).to_have_value("cat")
    assert grid.places() == BY_CAT
    bands = grid.tiles.evaluate_all("all => all.map(tile => tile.dataset.band)")
    assert bands == ["active"] * 4 + ["candidate"] * 4
    grid.expect_counts("4 active", "4 candidates", "0 confirmed")
    name = grid.tile(0).get_attribute("aria-label")
    assert name == "000.png, 0.900, active"
    for picture in grid.tiles.locator("img").all():
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    grid.choose("dog")
    assert grid.places()[:3] == [0, 1, 2]
    expect(grid.id("threshold")).to_have_value("0.6")
    grid.expect_counts("2 active")


def test_names_of_labels_and_photos_are_text(grid: GridSite) -> None:
    grid.open()
    grid.field.click()
    expect(grid.page.get_by_role("option")).to_have_text(
        ["cat4 to do", "dog2 to do", "long_hair0 to do", f"{HOSTILE}0 to do"]
    )
    grid.field.fill("hair")
    expect(grid.page.get_by_role("option")).to_have_text(["long_hair0 to do"])
    grid.choose(HOSTILE)
    grid.press("/")
    expect(grid.field).to_be_focused()
    grid.press("Escape")
    expect(grid.page.get_by_role("option")).to_have_count(0)
    expect(grid.field).not_to_be_focused()


def test_a_label_that_there_is_not_is_said_to_be_none(grid: GridSite) -> None:
    grid.open("cat")
    grid.field.fill("unicorn")
    expect(grid.id("labels")).to_have_text("No such label.")
    grid.press("ArrowDown", "Enter")
    expect(grid.id("status")).to_have_attribute("data-state", "error")
    expect(grid.id("status")).to_contain_text("There is no label “unicorn”.")
    grid.press("Control+A", "d")
    expect(grid.id("status")).to_have_text("")
    grid.press("Enter")
    expect(grid.field).to_have_value("dog")


def test_on_a_phone_the_photos_stay_where_they_are_when_some_are_selected(grid: GridSite) -> None:
    grid.page.set_viewport_size({"width": 390, "height": 844})
    grid.open("cat")
    before = grid.tile(0).bounding_box()
    grid.tile(0).focus()
    grid.press("Shift+ArrowRight")
    expect(grid.id("confirm")).to_be_visible()
    assert grid.tile(0).bounding_box() == before


def test_the_slider_moves_the_line_and_asks_the_server_nothing(grid: GridSite) -> None:
    grid.open("cat")
    asked: list[str] = []
    grid.page.on("request", lambda request: asked.append(request.url))
    counts = grid.id("threshold").evaluate(
        """(slider) => Array.from({ length: 1001 }, (_, step) => {
          slider.value = step / 1000;
          slider.dispatchEvent(new Event("input"));
          return document.querySelectorAll('[data-band="active"]').length;
        })"""
    )
    cat = SCORES[:, 0]
    assert counts == [int((cat >= np.float32(step / 1000)).sum()) for step in range(1001)]
    assert [url for url in asked if "heartbeat" not in url] == []
    grid.slide(0.75)
    grid.expect_counts("2 active", "6 candidates")
    line = grid.root.locator(".line:visible").nth(1).bounding_box()
    left, right = grid.tile(2).bounding_box(), grid.tile(4).bounding_box()
    assert left["x"] + left["width"] < line["x"] + 2 < right["x"]
    grid.root.get_by_role("button", name="Reset").click()
    grid.expect_counts("4 active")


def test_a_click_flips_a_second_takes_it_back_and_saving_writes_exactly_that(grid: GridSite) -> None:
    grid.open("cat")
    grid.tile(2).click()
    grid.expect_tile(2, "active", "rejected", pending=True)
    grid.tile(3).click()
    grid.expect_tile(3, "candidate", "confirmed", pending=True)
    grid.tile(0).click()
    grid.tile(0).click()
    grid.expect_tile(0, "active")
    expect(grid.id("save")).to_have_text("Save 2 decisions")
    grid.save()
    expect(grid.id("status")).to_have_text("Saved 2 decisions.")
    expect(grid.id("save")).to_be_disabled()
    grid.expect_tile(2, "active", "rejected")
    grid.expect_tile(3, "candidate", "confirmed")
    rows = grid.rows()
    assert sorted(rows) == [2, 3]
    assert (rows[2]["labels"], rows[2]["rejected"]) == ([], ["cat"])
    assert (rows[3]["labels"], rows[3]["rejected"]) == (["cat"], [])
    assert rows[2]["model_labels"] == ["cat", "dog"]
    for row in rows.values():
        assert (row["reviewed"], row["threshold"]) == ("listed", "0.4")
        assert row["model"] == grid.models.own.checkpoint.identity


def test_what_was_saved_elsewhere_is_shown_and_merged(grid: GridSite) -> None:
    grid.give(0, labels=["dog", "cat"], rejected=["long_hair"], reviewed="all")
    grid.give(1, labels=["dog"], rejected=["cat"])
    grid.give(3, labels=["dog"], reviewed="all")
    grid.open("cat")
    grid.expect_tile(0, "active", "confirmed")
    grid.expect_tile(1, "candidate", "rejected")
    grid.expect_tile(3, "candidate", "absent")
    grid.expect_counts("1 confirmed", "2 rejected")
    for place in (0, 1, 3):
        grid.tile(place).click()
    grid.expect_tile(0, "active", "rejected", pending=True)
    grid.expect_tile(1, "candidate", "confirmed", pending=True)
    grid.expect_tile(3, "candidate", "confirmed", pending=True)
    grid.save()
    rows = grid.rows()
    assert (rows[0]["labels"], rows[0]["rejected"], rows[0]["reviewed"]) == (["dog"], ["long_hair", "cat"], "all")
    assert (rows[1]["labels"], rows[1]["rejected"], rows[1]["reviewed"]) == (["dog", "cat"], [], "listed")
    assert (rows[3]["labels"], rows[3]["rejected"], rows[3]["reviewed"]) == (["dog", "cat"], [], "all")
    assert grid.corrections.history_path.read_bytes().count(b"\n") == 4


def test_everything_above_the_line_is_confirmed_after_a_preview_and_undone_in_one_step(grid: GridSite) -> None:
    grid.give(4, rejected=["cat"])
    grid.open("cat")
    grid.tile(2).click()
    button = grid.id("confirm-all")
    expect(button).to_have_text("Confirm the 2 above the line")
    button.click()
    expect(grid.id("sure").get_by_role("heading")).to_have_text("Confirm “cat” on 2 photos?")
    grid.id("sure-yes").click()
    grid.expect_tile(0, "active", "confirmed", pending=True)
    grid.expect_tile(5, "active", "confirmed", pending=True)
    grid.expect_tile(2, "active", "rejected", pending=True)
    grid.expect_tile(4, "active", "rejected")
    grid.expect_tile(6, "candidate")
    expect(button).to_have_text("Nothing left above the line")
    grid.id("undo").click()
    grid.expect_tile(0, "active")
    grid.expect_tile(5, "active")
    grid.expect_tile(2, "active", "rejected", pending=True)
    grid.id("redo").click()
    grid.expect_tile(0, "active", "confirmed", pending=True)
    grid.save()
    rows = grid.rows()
    assert {place: row["labels"] for place, row in rows.items()} == {4: [], 0: ["cat"], 2: [], 5: ["cat"]}
    expect(grid.id("undo")).to_be_disabled()


def test_what_is_confirmed_together_is_shown_first_and_asked_by_keyboard_too(
    page: Page, serve: Callable[..., str], tmp_path: Path
) -> None:
    blocks, options, scores = page_of(tmp_path, 300, 3)
    page.goto(serve(blocks, server_port=free_port(), **options))
    tiles, sure = page.get_by_test_id("grid-tiles"), page.get_by_test_id("grid-sure")
    first = tiles.locator("[data-index='0']")
    expect(page.get_by_test_id("grid")).to_have_attribute("data-view", "ready")
    page.get_by_test_id("grid-label").fill("label 0")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("grid")).to_have_attribute("data-view", "ready")
    expect(first).to_contain_text(f"{scores.max():.3f}")
    first.focus()
    count = sum(scores >= np.float32(float(page.get_by_test_id("grid-threshold").input_value())))
    assert count > 10
    page.keyboard.press("c")
    expect(sure.get_by_role("heading")).to_contain_text(f"on {count} photos?")
    ranked = np.sort(scores)[::-1][:count]
    shown = [f"{score:.3f}" for score in (*ranked[:5], *ranked[-5:])]
    expect(sure.locator("li")).to_have_text([*shown[:5], f"… {count - 10} photos between …", *shown[5:]])
    for picture in sure.locator("img").all():
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    page.keyboard.press("x")  # no key of the grid's acts behind it
    page.keyboard.press("Escape")
    expect(sure).to_be_hidden()
    expect(page.locator("[data-pending=true]")).to_have_count(0)
    expect(first).to_be_focused()
    page.keyboard.press("c")
    expect(page.get_by_test_id("grid-sure-yes")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("grid-save")).to_have_text(f"Save {count} decisions")
    expect(first).to_be_focused()
    page.keyboard.press("Control+z")
    expect(page.get_by_test_id("grid-save")).to_be_disabled()


def test_what_is_rejected_can_be_looked_at_again_and_the_line_is_unlike_the_focus(grid: GridSite) -> None:
    grid.open("cat")
    grid.page.evaluate("document.body.classList.add('dark')")
    grid.tile(2).click()
    picture = grid.tile(2).locator("img")
    expect(picture).to_have_css("opacity", "1")  # it has the focus
    grid.tile(7).focus()
    grid.tile(7).hover()
    expect(picture).to_have_css("opacity", "0.6")
    mark = grid.tile(2).evaluate("tile => getComputedStyle(tile, '::before').content")
    assert mark == '"✕"'
    grid.tile(2).hover()
    expect(picture).to_have_css("opacity", "1")
    expect(picture).to_have_css("filter", "none")
    grid.tile(0).focus()
    grid.press("ArrowRight")  # so that the ring is drawn
    ring = grid.tile(2).evaluate("tile => getComputedStyle(tile).outlineColor")
    expect(grid.root.locator(".line:visible").first).not_to_have_css("background-color", ring)


def test_a_sweep_by_keys_alone(grid: GridSite) -> None:
    grid.open("cat")
    grid.tile(0).focus()
    grid.press("y", "x", "ArrowRight", "Space", "End", "y", "Home", "ArrowRight", "Delete")
    grid.expect_tile(0, "active", "confirmed", pending=True)
    grid.expect_tile(2, "active")
    grid.expect_tile(5, "active", "rejected", pending=True)
    grid.expect_tile(7, "candidate", "confirmed", pending=True)
    expect(grid.tile(4)).to_be_focused()
    grid.press("Control+z")
    grid.expect_tile(2, "active", "rejected", pending=True)
    grid.press("Control+Shift+Z", "Control+z", "]", "]")
    expect(grid.id("threshold")).to_have_value("0.42")
    grid.expect_tile(5, "candidate", "rejected", pending=True)
    grid.press("s")
    expect(grid.id("status")).to_have_attribute("data-state", "saved")
    assert {place: (row["labels"], row["rejected"]) for place, row in grid.rows().items()} == {
        0: (["cat"], []),
        2: ([], ["cat"]),
        5: ([], ["cat"]),
        7: (["cat"], []),
    }


def test_a_selected_range_is_decided_and_undone_in_one_step(grid: GridSite) -> None:
    grid.open("cat")
    grid.tile(5).focus()
    grid.press("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowLeft")
    expect(grid.root.locator("[aria-selected=true]")).to_have_count(3)
    grid.press("x")
    for place in (5, 6, 3):
        expect(grid.tile(place)).to_have_attribute("data-mark", "rejected")
    expect(grid.root.locator("[aria-selected=true]")).to_have_count(0)
    grid.press("Control+z")
    expect(grid.root.locator("[data-pending=true]")).to_have_count(0)
    grid.tile(0).focus()
    grid.tile(4).click(modifiers=["Shift"])
    expect(grid.root.locator(".chosen")).to_contain_text("3 selected")
    grid.id("confirm").click()
    expect(grid.root.locator("[data-mark=confirmed][data-pending=true]")).to_have_count(3)
    grid.tile(7).click(modifiers=["Shift"])
    grid.press("Escape")
    expect(grid.root.locator("[aria-selected=true]")).to_have_count(0)
    expect(grid.root.locator("[data-pending=true]")).to_have_count(3)


def test_nothing_fires_while_typing(grid: GridSite) -> None:
    grid.open("cat")
    grid.tile(0).click()
    grid.press("/")
    grid.page.keyboard.type("sxy [] ")
    grid.press("Delete", "Home", "Control+z")
    expect(grid.field).to_be_focused()
    grid.expect_tile(0, "active", "rejected", pending=True)
    expect(grid.id("threshold")).to_have_value("0.4")
    assert not grid.corrections.csv_path.exists()


def test_decisions_on_several_labels_wait_for_one_save_and_outlive_other_tabs(grid: GridSite) -> None:
    grid.open("cat")
    grid.tile(0).click()
    grid.choose("dog")
    grid.tile(0).click()
    grid.tile(4).click()
    expect(grid.id("save")).to_have_text("Save 3 decisions")
    grid.page.get_by_role("tab", name="Other").click()
    grid.enter()
    grid.expect_tile(4, "candidate", "confirmed", pending=True)
    grid.choose("cat")
    grid.expect_tile(0, "active", "rejected", pending=True)
    grid.save()
    rows = grid.rows()
    assert sorted(rows) == [0, 4]
    assert (rows[0]["labels"], sorted(rows[0]["rejected"])) == ([], ["cat", "dog"])
    assert rows[4]["labels"] == ["dog"]
    grid.choose("dog")
    grid.expect_tile(0, "active", "rejected")
    grid.expect_tile(4, "candidate", "confirmed")


def test_a_photo_that_was_replaced_keeps_no_decision_and_is_named(
    grid: GridSite, make_image: Callable[..., bytes]
) -> None:
    grid.open("cat")
    grid.tile(0).click()
    grid.tile(2).click()
    (grid.folder / "photos" / "000.png").write_bytes(make_image(99))
    grid.save("error")
    expect(grid.id("status")).to_contain_text("Saved 1 decision. Not saved, since the file was replaced")
    expect(grid.id("status")).to_contain_text("000.png")
    grid.expect_tile(2, "active", "rejected")
    assert list(grid.rows()) == [2]
    expect(grid.id("save")).to_be_disabled()


def test_what_the_disk_does_not_take_stays_to_be_saved_again(grid: GridSite) -> None:
    grid.open("cat")
    grid.tile(0).click()
    grid.corrections.csv_path.write_text("somebody else's\n")
    grid.save("error")
    expect(grid.id("status")).to_contain_text("not a corrections CSV of ours")
    grid.expect_tile(0, "active", "rejected", pending=True)
    grid.corrections.csv_path.unlink()
    grid.save()
    assert list(grid.rows()) == [0]


def test_new_scores_wait_until_they_are_asked_for(grid: GridSite, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (2, 4):
        grid.sheet.forget(place)
    monkeypatch.setattr(Sheet, "is_running", property(lambda sheet: sheet.done < len(sheet.album)))
    grid.open("cat")
    assert grid.places() == [0, 5, 6, 3, 1, 7, 2, 4]
    grid.expect_tile(2, "untagged")
    grid.tile(2).click()
    grid.expect_tile(2, "untagged")
    grid.expect_counts("6 of 8 tagged so far")
    grid.tile(5).click()
    grid.tag(4)
    expect(grid.id("news")).to_have_text("Show 1 new")
    assert grid.places() == [0, 5, 6, 3, 1, 7, 2, 4]
    grid.id("news").click()
    expect(grid.id("news")).to_be_hidden()
    grid.expect_tile(4, "active")
    assert grid.places() == [0, 4, 5, 6, 3, 1, 7, 2]
    grid.expect_tile(5, "active", "rejected", pending=True)
    grid.tag(2)
    expect(grid.id("news")).to_be_visible()
    grid.choose("cat")
    assert grid.places() == BY_CAT
    expect(grid.id("news")).to_be_hidden()


def test_a_label_of_corrections_alone_shows_the_photos_that_have_it(grid: GridSite) -> None:
    grid.give(6, labels=["whiskers"])
    grid.give(1, rejected=["whiskers"])
    grid.open("whiskers")
    assert grid.places() == [1, 6]
    expect(grid.id("threshold")).to_be_disabled()
    expect(grid.id("confirm-all")).to_be_hidden()
    grid.expect_tile(6, "unknown", "confirmed")
    grid.tile(6).click()
    grid.save()
    assert grid.rows()[6]["rejected"] == ["whiskers"]


def test_another_model_makes_the_page_look_again(grid: GridSite) -> None:
    grid.open("dog")
    grid.sheet.put(7, np.float32([0.5, 0.99, 0, 0]))
    grid.page.get_by_role("button", name="swap").click()
    expect(grid.tiles.first).to_have_attribute("data-place", "7")
    expect(grid.field).to_have_value("dog")


def test_without_photos_it_says_where_they_come_from(grid: GridSite) -> None:
    grid.album.photos.clear()
    grid.album.looks.clear()
    grid.open()
    expect(grid.root).to_have_attribute("data-view", "empty")
    expect(grid.root).to_contain_text("No photos yet.")


def test_of_5000_photos_those_in_sight_are_in_the_page_each_with_its_own_score(
    page: Page, serve: Callable[..., str], tmp_path: Path
) -> None:
    blocks, options, scores = page_of(tmp_path, 5000, 3)
    page.goto(serve(blocks, server_port=free_port(), **options))
    tiles = page.get_by_test_id("grid-tiles")
    expect(tiles.locator("[data-index]").first).to_be_visible()
    order = np.argsort(-scores, kind="stable")
    tiles.locator("[data-index='20']").focus()
    for top in (0, 10_000, 60_000, 3_000, 0):
        tiles.evaluate("(tiles, top) => (tiles.scrollTop = top)", top)
        tiles.evaluate("() => new Promise(requestAnimationFrame).then(() => new Promise(requestAnimationFrame))")
        expect(tiles.locator("[data-index]:not([aria-label])")).to_have_count(0)  # where it rests
        found = tiles.locator("[data-index]").evaluate_all(
            "all => all.map((tile) => [tile.dataset.index, tile.dataset.place, tile.ariaLabel, tile.innerText])"
        )
        assert len(found) <= 70
        assert [int(index) for index, *_ in found] == sorted(int(index) for index, *_ in found)
        for index, place, name, text in found:
            score = f"{scores[int(place)]:.3f}"
            assert int(place) == order[int(index)]
            assert name.startswith(f"photo {int(place):05}.jpg, {score}, ")
            assert text.strip() == score
        assert page.evaluate("document.activeElement.dataset.index") == "20"
    page.keyboard.press("End")
    expect(tiles.locator("[data-index='4999']")).to_be_focused()
    expect(tiles.locator("[data-index='4999']")).to_be_in_viewport()
    page.keyboard.press("x")
    expect(tiles.locator(f"[data-place='{order[-1]}']")).to_have_attribute("data-mark", "rejected")


def _b64(values: list[int], kind: str) -> str:
    return base64.b64encode(np.array(values, kind).tobytes()).decode()


GOOD = {"album": "a", "label": "cat", "slider": 0.4, "places": _b64([0, 2], "<i4"), "marks": _b64([1, 0], "u1")}
GOOD |= {"digests": base64.b64encode(bytes(range(32))).decode()}


def test_decisions_of_the_page_are_read_as_it_sent_them() -> None:
    album, decisions = _part(**GOOD)
    assert album == "a"
    assert [(one.place, one.label, one.mark, one.slider) for one in decisions] == [
        (0, "cat", 1, 0.4),
        (2, "cat", 0, 0.4),
    ]
    assert [one.digest for one in decisions] == [bytes(range(16)).hex(), bytes(range(16, 32)).hex()]


@pytest.mark.parametrize(
    "changes",
    [
        {"album": 1},
        {"label": ""},
        {"label": "x" * (MAX_LABEL_CHARACTERS + 1)},
        {"slider": 1.5},
        {"slider": True},
        {"slider": None},
        {"slider": float("nan")},
        {"places": _b64([-1, 2], "<i4")},
        {"places": _b64([2, 2], "<i4")},
        {"places": _b64([2], "<i4")},
        {"places": "§"},
        {"marks": _b64([1, 3], "u1")},
        {"marks": _b64([1], "u1")},
        {"digests": base64.b64encode(bytes(31)).decode()},
        {"more": 1},
    ],
)
def test_decisions_that_the_page_would_not_send_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        _part(**GOOD | changes)
