"""Choosing a model on the page, against `python app.py` in a process of its own and a Hub that is as slow as told."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect

from demo.checkpoint import Checkpoint, save_checkpoint
from demo.settings import ROOT
from tests.browser.test_page import free_port
from tests.faulty_hub import COMMIT, Faults, contents, serve_faulty

TOKEN = "hf_canaryCanaryCanary"
CARD = '---\nlicense: mit\n---\n# Slow\n\nA model of <img src=x onerror="throw 1">${1+1} **many** words.\n'


class App:
    """The app on the tiny checkpoint, with three runs, in a folder of its own."""

    def __init__(self, folder: Path, model: Path, faults: Faults, endpoint: str, *flags: str) -> None:
        self.folder, self.faults, self.endpoint = folder, faults, endpoint
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("TAGLOOP_", "GRADIO_", "HF_"))
        }
        settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "hf-home"), "HF_TOKEN": TOKEN}
        self.log = folder / "log.txt"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, ROOT / "app.py", "--model", model, "--device", "cpu", "--port", str(port), *flags],
                cwd=folder,
                env=kept | settings | {"PYTHONWARNINGS": "ignore"},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        line = self.process.stdout.readline()
        if f":{port}" not in line:
            self.stop()
            raise AssertionError(line + self.log.read_text())

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=60)

    def rows(self) -> list[dict[str, str]]:
        with (self.folder / "corrections/corrections.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def app(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, make_checkpoint: Callable[..., Checkpoint]
) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("app")
    for seed, name in enumerate(("one", "two", "three"), start=1):
        save_checkpoint(folder / "runs" / name, make_checkpoint(seed))
    save_checkpoint(folder / "runs/choosy", replace(make_checkpoint(4), single_label=True))
    faults = Faults(files=contents(tiny_checkpoint) | {"README.md": CARD.encode()})
    with serve_faulty(faults) as endpoint:
        app = App(folder, tiny_checkpoint, faults, endpoint)
        yield app
        app.stop()
    said = app.log.read_text()
    assert "Traceback" not in said
    assert TOKEN not in said


@pytest.fixture
def slow(app: App) -> Iterator[threading.Event]:
    """The Hub holds back the second half of the weights until this is set; nothing is cached."""
    shutil.rmtree(app.folder / "hf-home", ignore_errors=True)
    app.faults.hold = threading.Event()
    yield app.faults.hold
    app.faults.hold.set()
    app.faults.hold = None


class Visitor:
    def __init__(self, page: Page, app: App) -> None:
        self.page, self.app = page, app
        page.goto(app.url)
        expect(self.model.locator("b")).not_to_be_empty()

    @property
    def model(self) -> Locator:
        return self.page.get_by_test_id("model")

    @property
    def name(self) -> Locator:
        return self.model.locator("b")

    @property
    def loading(self) -> Locator:
        return self.page.locator(".model-box .loading")

    @property
    def problem(self) -> Locator:
        return self.page.locator(".model-box .problem")

    @property
    def chips(self) -> Locator:
        return self.page.get_by_test_id("tag-editor").locator("[data-label]")

    def ask(self, ref: str) -> None:
        self.model.fill(ref)
        self.page.keyboard.press("Enter")

    def use(self, name: str) -> None:
        self.ask(f"runs/{name}")
        expect(self.name).to_have_text(name)

    def tag(self, data: bytes) -> None:
        file = FilePayload(name="x.png", mimeType="image/png", buffer=data)
        self.chips.evaluate_all("chips => chips.forEach((chip) => (chip.dataset.old = ''))")
        self.page.locator("input[type=file]").first.set_input_files(file)
        expect(self.page.locator("[data-old]")).to_have_count(0)
        expect(self.page.get_by_test_id("tag-editor")).to_have_attribute("data-view", "ready")
        expect(self.chips.first).to_be_visible()

    def scores(self) -> dict[str, str]:
        pairs = self.chips.evaluate_all("chips => chips.map(({ dataset }) => [dataset.label, dataset.score])")
        return dict(pairs)

    def save(self) -> None:
        self.page.get_by_test_id("save").click()
        expect(self.page.get_by_test_id("status")).to_have_attribute("data-state", "saved")


@pytest.fixture
def visitor(page: Page, app: App) -> Visitor:
    return Visitor(page, app)


@pytest.fixture
def other(browser: Browser, app: App) -> Iterator[Visitor]:
    context = browser.new_context()
    yield Visitor(context.new_page(), app)
    context.close()


def test_a_download_shows_bytes_and_the_card_while_everybody_tags_and_decisions_are_kept(
    app: App, visitor: Visitor, other: Visitor, slow: threading.Event, make_image: Callable[..., bytes]
) -> None:
    visitor.tag(make_image(1))
    confirmed, rejected = (visitor.chips.nth(at).get_attribute("data-label") for at in (-1, 0))
    visitor.chips.first.click()
    visitor.ask("owner/name")
    expect(visitor.loading).to_contain_text("owner/name")
    expect(visitor.loading).to_contain_text("of 0.3 MB")
    expect(visitor.name).to_have_text("tiny")
    visitor.page.get_by_role("button", name="About").click()
    look = visitor.page.locator(".model-box .look")
    expect(look).to_contain_text("A model of ${1+1} many words.")
    expect(look).to_contain_text("mit")
    expect(look.locator("img")).to_have_count(0)

    other.tag(make_image(2))
    other.save()
    assert app.rows()[-1]["model"].startswith("local:tiny@")
    visitor.page.locator(f'[data-label="{confirmed}"]').click()
    expect(visitor.loading).to_be_visible()

    slow.set()
    expect(visitor.name).to_have_text("owner/name")
    expect(visitor.page.get_by_test_id("status")).to_contain_text("Tagged again")
    expect(visitor.page.locator(f'[data-label="{rejected}"]')).to_have_attribute("data-state", "rejected")
    expect(visitor.page.locator(f'[data-label="{confirmed}"]')).to_have_attribute("data-state", "confirmed")
    visitor.save()
    row = app.rows()[-1]
    assert row["model"] == f"owner/name@{COMMIT}"
    assert json.loads(row["rejected"]) == [rejected]
    assert confirmed in json.loads(row["labels"])
    expect(other.name).to_have_text("tiny")


def test_a_download_can_be_cancelled_and_another_model_loaded(visitor: Visitor, slow: threading.Event) -> None:
    visitor.ask("owner/name")
    expect(visitor.loading).to_contain_text("MB")
    visitor.page.get_by_role("button", name="Cancel").click()
    expect(visitor.loading).to_be_hidden()
    expect(visitor.name).to_have_text("tiny")
    expect(visitor.problem).to_be_hidden()
    visitor.use("one")


def test_two_who_want_the_same_model_download_it_once(
    app: App, visitor: Visitor, other: Visitor, slow: threading.Event
) -> None:
    app.faults.requests.clear()
    for someone in (visitor, other):
        someone.ask("owner/name")
        expect(someone.loading).to_contain_text("MB")
    slow.set()
    for someone in (visitor, other):
        expect(someone.name).to_have_text("owner/name")
    assert app.faults.requests.count("GET model.safetensors") == 1


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "Set HF_TOKEN"), (403, "not allowed"), (404, "nothing of that name"), (429, "too many"), (500, "fault")],
)
def test_what_the_hub_refuses_is_told_in_the_box(app: App, visitor: Visitor, status: int, said: str) -> None:
    app.faults.status = status
    try:
        visitor.ask("owner/refused")
        expect(visitor.problem).to_contain_text(said)
        expect(visitor.problem).to_contain_text("owner/refused")
    finally:
        app.faults.status = 200
    expect(visitor.name).to_have_text("tiny")
    assert TOKEN not in visitor.page.content()


def test_a_choice_is_the_visitors_own_and_survives_a_reload(
    visitor: Visitor, other: Visitor, make_image: Callable[..., bytes]
) -> None:
    visitor.use("two")
    visitor.tag(make_image(3))
    other.tag(make_image(3))
    assert visitor.scores() != other.scores()
    for someone, name in ((visitor, "two"), (other, "tiny")):
        someone.page.reload()
        expect(someone.name).to_have_text(name)


def test_a_model_that_had_to_go_comes_back_when_its_visitor_goes_on(
    app: App, visitor: Visitor, other: Visitor, make_image: Callable[..., bytes]
) -> None:
    visitor.use("one")
    visitor.tag(make_image(4))
    mine = visitor.scores()
    for name in ("two", "three", "choosy"):
        other.use(name)
    visitor.chips.first.click()
    visitor.save()
    assert app.rows()[-1]["model"].startswith("local:one@")
    visitor.tag(make_image(5))
    assert visitor.scores() != mine
    visitor.tag(make_image(4))
    assert visitor.scores() == mine
    expect(visitor.name).to_have_text("one")


def test_a_single_label_model_comes_with_a_warning(visitor: Visitor) -> None:
    warning = visitor.page.locator(".model-box .warning")
    expect(warning).to_be_hidden()
    visitor.use("choosy")
    expect(warning).to_contain_text("not independent")
    visitor.use("one")
    expect(warning).to_be_hidden()


def test_a_model_is_chosen_by_keyboard_and_offered_again(visitor: Visitor) -> None:
    press = visitor.page.keyboard.press
    field, options = visitor.model.locator("input"), visitor.page.locator(".model-box [role=option]")
    field.focus()
    expect(options.filter(has_text="SmilingWolf/wd-vit-tagger-v3")).to_contain_text("10,861 labels · 378 MB")
    visitor.page.keyboard.type("runs/th")
    expect(options).to_have_count(1)
    press("ArrowDown")
    expect(field).to_have_attribute("aria-activedescendant", "model-option-0")
    press("Enter")
    expect(visitor.name).to_have_text("three")
    press("Escape")
    expect(options.first).to_be_hidden()
    press("ArrowDown")
    expect(visitor.page.locator(".model-box .group").nth(1)).to_have_text("Used lately")
    press("Tab")
    expect(options.first).to_be_hidden()


def test_a_wrong_name_is_told_and_the_field_keeps_it(visitor: Visitor) -> None:
    visitor.ask("no such thing")
    expect(visitor.problem).to_contain_text("There is no checkpoint at 'no such thing'.")
    expect(visitor.model.locator("input")).to_have_value("no such thing")
    expect(visitor.name).to_have_text("tiny")


@pytest.mark.parametrize("width", [390, 1440])
def test_list_card_and_progress_stay_on_the_screen(
    visitor: Visitor, slow: threading.Event, width: int, page: Page
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    visitor.model.locator("input").click()
    parts = [page.locator(".model-box ul")]
    expect(parts[0]).to_be_visible()
    visitor.ask("owner/name")
    expect(visitor.loading).to_contain_text("MB")
    page.get_by_role("button", name="About").click()
    parts += [visitor.loading, page.locator(".model-box .look"), page.get_by_role("button", name="Cancel")]
    for part in parts[1:]:
        box = part.bounding_box()
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_where_only_some_models_are_allowed_the_list_says_which_and_nothing_else_loads(
    page: Page, tmp_path: Path, tiny_checkpoint: Path, app: App
) -> None:
    flags = ("--allow-models", "owner/name", "--host", "0.0.0.0", "--auth", "none")
    strict = App(tmp_path, tiny_checkpoint, app.faults, app.endpoint, *flags)
    try:
        visitor = Visitor(page, strict)
        field, options = visitor.model.locator("input"), page.locator(".model-box [role=option]")
        expect(field).to_have_attribute("placeholder", "Choose another model")
        field.click()
        expect(options.locator("bdi")).to_have_text([str(tiny_checkpoint), "TagLoop demo", "owner/name"])
        page.keyboard.press("Escape")
        for ref, said in (("owner/else", "This server allows owner/name."), ("/etc", "only its own runs")):
            visitor.ask(ref)
            expect(visitor.problem).to_contain_text(said)
        field.fill("NAME")
        page.keyboard.press("Enter")
        expect(visitor.name).to_have_text("owner/name")
        page.close()  # a page that outlives its server reports the lost stream as an error, rightly
    finally:
        strict.stop()


def test_the_corrections_hold_no_token(app: App) -> None:
    assert TOKEN not in (app.folder / "corrections/corrections.csv").read_text()
