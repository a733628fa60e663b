"""What an event skips is not made anew, a session works out no configuration, the page gets what gradio gives it."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest
from gradio.blocks import BlocksConfig
from gradio.state_holder import SessionState

from demo.ui.blocks import Page
from tests import loops

SKIP = gr.skip()


def answer(kind: type[gr.Blocks], *told: Any) -> tuple[list[Any], list[int], int]:
    """What the page gets of a handler that says so, which components were made anew, and the session's state."""

    async def ask() -> tuple[list[Any], list[int], int]:  # gradio wants a loop where a page is built
        with kind(analytics_enabled=False) as page:
            parts = [gr.State(7), gr.Textbox(), gr.Number(), gr.Timer(active=False)]
            page.load(lambda: told, None, parts)
        state = SessionState(page)
        data = (await page.process_api(next(iter(page.fns)), [], state=state))["data"]
        anew = [place for place, part in enumerate(parts) if state.blocks_config.blocks[part._id] is not part]
        return data, anew, state[parts[0]._id]

    return loops.run(ask())


@pytest.mark.parametrize("kind", [gr.Blocks, Page])
def test_a_page_gets_of_each_output_what_gradio_gives_it(kind: type[gr.Blocks]) -> None:
    assert answer(kind, 8, "text", 3, SKIP)[::2] == ([None, "text", 3, SKIP], 8)
    assert answer(kind, SKIP, SKIP, 3, SKIP)[::2] == ([None, SKIP, 3, SKIP], 7)
    assert answer(kind, SKIP, SKIP, SKIP, SKIP)[::2] == ([None, SKIP, SKIP, SKIP], 7)
    data, anew, _ = answer(kind, SKIP, gr.Textbox(visible=False), SKIP, gr.Timer(active=True))
    assert [data[1]["visible"], data[3]["active"]] == [False, True]
    assert {1, 3} <= set(anew)


def test_what_is_skipped_is_not_made_anew() -> None:
    assert answer(gr.Blocks, 8, "text", SKIP, SKIP)[1] == [2, 3]
    assert answer(Page, 8, "text", SKIP, SKIP)[1] == []
    assert answer(Page, SKIP, SKIP, SKIP, SKIP)[1] == []


def test_a_handler_that_says_too_little_is_told() -> None:
    with pytest.raises(ValueError, match="enough output values"):
        answer(Page, SKIP, SKIP)


def test_a_session_works_out_no_configuration_and_the_page_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        pages = []
        for kind in (gr.Blocks, Page):
            with kind(analytics_enabled=False) as page:
                gr.Textbox(label="one")
            pages.append(page)
        assert "one" in [part["props"].get("label") for part in pages[1].config["components"]]
        monkeypatch.setattr(BlocksConfig, "config_for_block", lambda *_: 1 / 0)
        SessionState(pages[1])
        with pytest.raises(ZeroDivisionError):
            SessionState(pages[0])

    loops.run(ask())
