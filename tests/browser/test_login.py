"""The page behind a login: a form first, then the whole page, and rows that carry the person's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gradio as gr
import pytest
from playwright.sync_api import FilePayload, Page, expect

from demo.albums import Albums
from demo.corrections import Corrections
from demo.models import Models
from demo.settings import Settings
from demo.ui.account import Account
from demo.ui.page import build_page, launch_options
from tests.browser.test_page import free_port
from tests.standing_in import standing_in

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # gradio's, on every page load


@pytest.fixture
def url(serve: Callable[..., str], tmp_path: Path, tiny_checkpoint: Path) -> str:
    accounts = (("ann", "secret"), ("bob", "other"))
    settings = Settings(
        model=str(tiny_checkpoint), corrections=tmp_path / "corrections", device="cpu", accounts=accounts
    )
    models, albums = Models(settings), Albums(2, 100, 1 << 20)
    corrections = Corrections(settings.corrections)
    options = launch_options(settings, corrections, albums, models)
    options = {key: value for key, value in options.items() if key not in ("ssr_mode", "quiet")}
    return serve(build_page(settings, models, corrections, albums), server_port=free_port(), **options)


def log_in(page: Page, url: str, name: str, password: str) -> None:
    page.goto(url)
    page.get_by_label("username").fill(name)
    page.get_by_label("password").fill(password)
    page.get_by_role("button", name="Login").click()
    expect(page.get_by_test_id("model").locator("b")).not_to_be_empty()


def upload(page: Page, data: bytes) -> None:
    page.locator("input[type=file]").first.set_input_files(FilePayload(name="x.png", mimeType="image/png", buffer=data))
    expect(page.locator("[data-label]").first).to_be_visible()
    expect(page.get_by_test_id("tag-editor")).to_have_attribute("data-view", "ready")


def save(page: Page, data: bytes) -> None:
    upload(page, data)
    expect(page.get_by_test_id("status")).to_be_empty()  # nothing of theirs was saved on it before
    page.get_by_test_id("save").click()
    expect(page.get_by_test_id("status")).to_have_attribute("data-state", "saved")


def test_who_logs_in_tags_and_saves_under_their_name_and_sees_every_row_with_its_picture(
    page: Page, url: str, tmp_path: Path, make_image: Callable[..., bytes]
) -> None:
    for name, password in (("ann", "secret"), ("bob", "other")):
        log_in(page, url, name, password)
        save(page, make_image(1))
        page.context.clear_cookies()
    assert [row.annotator for row in Corrections(tmp_path / "corrections").rows()] == ["ann", "bob"]
    log_in(page, url, "ann", "secret")
    upload(page, make_image(1))
    expect(page.get_by_test_id("status")).to_contain_text("As you saved it")
    page.get_by_role("tab", name="Corrections").click()
    pictures = page.get_by_test_id("corrections").locator("img")
    expect(pictures).to_have_count(2)
    for picture in pictures.all():
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    expect(page.get_by_test_id("corrections")).to_contain_text("by bob")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """A server of files in `elsewhere`, which is another site than the app's to a browser."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *given: object) -> None:
            super().__init__(*given, directory=str(folder))

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    with standing_in(server):
        yield f"http://localhost:{server.server_port}/page.html"


def test_within_another_sites_page_a_page_of_its_own_is_offered_and_the_login_there(
    page: Page, serve: Callable[..., str], elsewhere: str, tmp_path: Path
) -> None:
    with gr.Blocks(analytics_enabled=False) as blocks:
        account = Account(Settings(hub_login=True))
        account.follow(gr.Tab())
        blocks.load(account.look, None, account.shown)
    url = f"{serve(blocks)}?__theme=light"
    frame = f'<!doctype html><link rel="icon" href="data:,"><iframe src="{url}" width="900" height="600"></iframe>'
    (tmp_path / "elsewhere" / "page.html").write_text(frame)
    page.goto(elsewhere)
    link = page.frame_locator("iframe").get_by_test_id("account").get_by_role("link")
    expect(link).to_have_text(["Open on a page of its own"])
    with page.context.expect_page() as opened:
        link.click()
    expect(opened.value).to_have_url(url)
    expect(opened.value.get_by_test_id("account").get_by_role("link")).to_have_text(["Log in with Hugging Face"])
