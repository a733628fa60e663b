"""A Chromium for the browser tests: a fresh context each, and no test passes with errors on its page.

`page` fails its test when the page logs an error, throws, or asks any other host for anything. `serve` launches a
gr.Blocks inside the test process and closes it afterwards.
"""

from __future__ import annotations

import os
import shutil
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

with warnings.catch_warnings():  # what importing other people's code warns about is not this project's
    warnings.simplefilter("ignore")
    import gradio as gr
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.browser.editor_bench import Bench, Editor, open_editor

expect.set_options(timeout=20_000)  # a busy machine is slow, not wrong

CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is a browser test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


_running: list[Browser] = []  # tests/faults has these fixtures too, and a process can have one Playwright only


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium where there is one, else the one that Playwright installed."""
    if _running:
        yield _running[0]
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"), args=CHROMIUM_ARGS
        )
        _running.append(browser)
        yield browser
        browser.close()


CUT_OFF = ("AbortError", "Unexpected error Connection errored out.")
"""What gradio says of its stream of answers when a page is left that has one open."""


@pytest.fixture
def locale() -> str:
    """The browser's language; who tests another one has a fixture of this name."""
    return "en-US"


@pytest.fixture
def page(browser: Browser, locale: str, serve: Callable[..., str]) -> Iterator[Page]:
    """A page in a context of its own, 1440×900, that watches for errors and outside requests."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale=locale)
    page = context.new_page()
    faults: list[str] = []

    def console(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(CUT_OFF):
            faults.append(f"console: {message.text}")

    def request(request: Request) -> None:
        if urlsplit(request.url).hostname not in ("127.0.0.1", "localhost", None):
            faults.append(f"request to {request.url}")

    page.on("console", console)
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("request", request)
    yield page
    context.close()
    assert not faults, "\n".join(faults)


@contextmanager
def serving() -> Iterator[Callable[..., str]]:
    """Launches a Blocks on a free port of 127.0.0.1 and gives its URL; all are closed in the end."""
    launched: list[gr.Blocks] = []

    def launch(blocks: gr.Blocks, **options: object) -> str:
        options.setdefault("server_port", _free_port())  # gradio leaks a socket for each port that it finds taken
        _, url, _ = blocks.launch(
            server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, ssr_mode=False, **options
        )
        launched.append(blocks)
        return url

    yield launch
    for blocks in launched:
        blocks.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """For a server that the test's page, which is closed before it, may talk to until the end of the test."""
    with serving() as serve:
        yield serve


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """A page with the tag editor alone."""
    with serving() as serve:
        yield Bench(serve)


@pytest.fixture
def editor(page: Page, bench: Bench) -> Editor:
    return open_editor(page, bench)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
