"""`python app.py --sync` in a real browser: what visitors are told, a stop, and a restart on an empty disk."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.hub_commits import OWNER, TOKEN, HubCommits, serve_commits
from tests.test_app import APP, environment, free_port

DATASET = f"{OWNER}/data"


@pytest.fixture
def hub() -> Iterator[HubCommits]:
    with serve_commits() as running:
        yield running


@contextmanager
def app(hub: HubCommits, checkpoint: Path, folder: Path) -> Iterator[str]:
    """The app on a disk of its own, stopped as a container is; nothing that it says holds the token."""
    folder.mkdir()
    port = free_port()
    told = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    arguments = ["--model", str(checkpoint), "--device", "cpu", "--port", str(port), "--sync", DATASET]
    process = subprocess.Popen(
        [*APP, *arguments, "--sync-minutes", "60"],
        cwd=folder,
        env=environment(**told),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    line = process.stdout.readline()
    assert f"127.0.0.1:{port}" in line, line + process.stdout.read()
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 0, said
    assert TOKEN not in line + said
    assert "Traceback" not in said


def corrections(page: Page) -> Locator:
    page.get_by_role("tab", name="Tag", exact=True).click()
    page.get_by_role("tab", name="Corrections").click()
    return page.locator("[role=tabpanel]").filter(has=page.get_by_test_id("corrections"))


@pytest.mark.slow
def test_a_visitor_knows_what_is_kept_where_and_finds_it_again_after_a_restart(
    hub: HubCommits, page: Page, tiny_checkpoint: Path, tmp_path: Path, make_image: Callable[..., bytes]
) -> None:
    image = tmp_path / "photo.png"
    image.write_bytes(make_image(1))
    with app(hub, tiny_checkpoint, tmp_path / "first") as url:
        first = page.context.new_page()  # closed before the server is, or it would tell that
        first.goto(url)
        notice = first.locator("#notice")
        expect(notice).to_contain_text(f"It goes to the private dataset {DATASET} on the Hub")
        expect(notice).to_contain_text("You can delete your rows on the Corrections tab")
        first.locator("input[type=file]").first.set_input_files(image)
        first.get_by_test_id("save").click()
        expect(first.get_by_test_id("status")).to_have_attribute("data-state", "saved")
        tab = corrections(first)
        expect(tab).to_contain_text(f"1 change is saved here; it is synced with {DATASET} within 60 min.")
        expect(tab.locator("tbody .when")).not_to_contain_text("synced")
        first.close()
    head = hub.repo(DATASET, "dataset").head.files
    assert sum("/images/" in path for path in head) == 1
    with app(hub, tiny_checkpoint, tmp_path / "second") as url:
        page.goto(url)
        expect(corrections(page)).to_contain_text("Everything is synced")
        tab = corrections(page)
        expect(tab.locator("tbody .when")).to_contain_text("synced")
        tab.get_by_role("button", name="Delete this correction").click()
        tab.get_by_role("button", name="Delete for good").click()
        expect(tab).to_contain_text("1 change is saved here")
        page.close()
    assert set(hub.repo(DATASET, "dataset").head.files) == {".gitattributes"}
