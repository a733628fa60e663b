"""A Space with the Hub's login in a real browser: what is decided before the login is still there after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FilePayload, expect

from tests.hub_commits import OWNER, serve_commits
from tests.hub_login import serve_login
from tests.space import Space, checkout, hosts_package, make_writable


@pytest.mark.slow
def test_who_may_not_save_is_told_logs_in_on_another_page_and_saves_what_was_decided(
    browser: Browser, tmp_path: Path, tiny_checkpoint: Path, make_image: Callable[..., bytes]
) -> None:
    code, settings = checkout(tmp_path / "app"), {"TAGLOOP_MODEL": f"{OWNER}/tiny", "TAGLOOP_SAVERS": OWNER}
    with serve_commits() as hub, serve_login() as login:
        login.user = OWNER
        hub.create(f"{OWNER}/tiny", **{path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()})
        space = Space(code, tmp_path / "disk", hub, hosts_package(tmp_path / "hosts"), **settings, **login.environment)
        context = browser.new_context()
        context.route("https://**", lambda route: route.abort())  # on a Space gradio asks the Hub about the Space
        page = context.new_page()
        page.goto(space.url)
        expect(page.get_by_test_id("model")).to_contain_text(f"{OWNER}/tiny")
        account, status = page.get_by_test_id("account"), page.get_by_test_id("status")
        expect(account).to_contain_text("Only some people may save here")
        expect(page.get_by_role("tab", name="Retrain")).to_be_hidden()
        image = FilePayload(name="x.png", mimeType="image/png", buffer=make_image(1))
        page.locator("input[type=file]").first.set_input_files(image)
        expect(page.get_by_test_id("tag-editor")).to_have_attribute("data-view", "ready")
        chip = page.locator("[data-label][data-state=active]").first
        name = chip.get_attribute("data-label")
        chip.click()
        page.get_by_test_id("save").click()
        expect(status).to_have_attribute("data-state", "error")
        expect(status).to_contain_text("Log in and save again: what you decided stays.")
        with context.expect_page() as opened:
            account.get_by_role("link", name="Log in with Hugging Face").click()
        expect(opened.value.get_by_test_id("account")).to_contain_text(OWNER)
        opened.value.close()
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # a headless page is never hidden
        expect(account.get_by_role("link")).to_have_text(["Log out"])
        expect(account).to_contain_text(OWNER)
        expect(account).not_to_contain_text("Only some people")
        expect(page.get_by_role("tab", name="Retrain")).to_be_visible()
        expect(page.locator(f'[data-label="{name}"]')).to_have_attribute("data-state", "rejected")
        page.get_by_test_id("save").click()
        expect(status).to_have_attribute("data-state", "saved")
        page.get_by_role("tab", name="Corrections").click()
        expect(page.get_by_test_id("corrections")).to_contain_text(name)
        context.close()
        assert space.stop() == 0
    make_writable(code)
