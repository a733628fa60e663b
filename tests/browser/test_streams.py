"""What is asked while the page's stream of answers is being closed is answered; and what stays of a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gradio as gr
import httpx
import pytest
from playwright.sync_api import Page, expect

from demo.ui import streams
from demo.ui.blocks import Page as PageBlocks
from tests.browser.test_page import Site

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")

LATE = """
  const fetched = window.fetch;
  const closing = 'data: {"msg":"close_stream"';
  window.late = window.ended = 0;
  window.fetch = async (address, options) => {
    const answer = await fetched(address, options);
    if (!String(address?.url ?? address).includes("/queue/data")) return answer;
    const decoder = new TextDecoder(), encoder = new TextEncoder();
    const body = answer.body.pipeThrough(new TransformStream({
      async transform(chunk, to) {
        const text = decoder.decode(chunk, { stream: true });
        window.ended += text.split('"msg":"process_completed"').length - 1;
        const at = text.indexOf(closing);
        if (at < 0) return to.enqueue(encoder.encode(text));
        to.enqueue(encoder.encode(text.slice(0, at)));
        await new Promise((done) => setTimeout(done, 300));
        window.late++;
        to.enqueue(encoder.encode(text.slice(at)));
      },
    }));
    return new Response(body, answer);
  };
"""
"""The word that the stream is closed takes a while, as under load."""


def test_a_photo_asked_for_while_the_stream_closes_comes(
    page: Page,
    serve: Callable[..., str],
    image_folder: Path,
    tmp_path: Path,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "SECONDS_OPEN", 0.0)
    page.add_init_script(LATE)
    site = Site(page, serve, tmp_path, tiny_checkpoint, images=image_folder)
    go_through(site)
    assert page.evaluate("window.late") > 5


def go_through(site: Site) -> None:
    facts = site.page.locator(".facts p")
    expect(facts).to_contain_text("1 of 8")
    expect(site.page.locator(".film .work")).to_be_hidden()
    site.id("tag-editor").focus()
    for number in range(2, 9):
        ended = site.page.evaluate("window.ended")
        site.page.keyboard.press("n")
        expect(facts).to_contain_text(f"{number} of 8")
        # gradio drops a second event of a kind while the first has not ended
        site.page.wait_for_function("ended => window.ended > ended", arg=ended)
        site.page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")


@pytest.mark.usefixtures("browser")  # its event loop: gradio would make one here and leave it open
def test_of_a_programs_call_nothing_stays_and_of_a_tab_what_it_needs(serve: Callable[..., str]) -> None:
    def double(number: int) -> int:
        if number < 0:
            raise gr.Error("too small", print_exception=False)
        return 2 * number

    with PageBlocks(analytics_enabled=False) as page:
        gr.api(double, api_name="double")
    with httpx.Client(base_url=serve(page)) as programs:
        for number, event in ((1, "complete"), (-1, "error")):
            call = programs.post("/gradio_api/call/double", json={"data": [number]}).json()["event_id"]
            assert f"event: {event}" in programs.get(f"/gradio_api/call/double/{call}").text
        assert not page.state_holder.session_data
        tab = {"data": [3], "fn_index": next(iter(page.fns)), "session_hash": "tab"}
        programs.post("/gradio_api/queue/join", json=tab).raise_for_status()
        assert '"data":[6]' in programs.get("/gradio_api/queue/data?session_hash=tab").text
        assert list(page.state_holder.session_data) == ["tab"]
        assert not list(page.state_holder.session_data["tab"].components)
