"""A component's configuration is told often and worked out once."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr
import pytest

from demo.ui.panel import Panel
from demo.ui.tag_editor import TagEditor


@pytest.mark.parametrize("make", [lambda: TagEditor(render=False), lambda: Panel("facts", render=False)])
def test_it_is_what_gradio_works_out_each_time_and_nobody_can_change_it(make: Callable[[], gr.HTML]) -> None:
    one, same = make(), make()
    plain = gr.HTML.get_config(one)
    one.get_config()["props"] = one.get_config()["js_on_load"] = "changed"
    assert one.get_config() == same.get_config() == plain


def test_other_arguments_have_another_configuration() -> None:
    one, other = Panel("facts", render=False), Panel("sync", render=False)
    shown = Panel("sync", elem_id="notice", render=False)
    told = [part.get_config() for part in (one, other, shown)]
    assert told[0]["js_on_load"] != told[1]["js_on_load"]
    assert (told[1]["elem_id"], told[2]["elem_id"]) == (None, "notice")


def test_gradio_does_not_look_through_the_scripts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    editor = TagEditor(render=False)
    editor.get_config()
    monkeypatch.setattr(gr.HTML, "get_config", lambda part: 1 / 0)
    assert editor.get_config()["js_on_load"]
