"""English and Chinese: `chinese.json` has the Chinese of every text of the page, by its English.

gradio translates what its own components show, `words.js` what our scripts and handlers say (`Message`). Errors are
English, as they are in the log.
"""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CHINESE: dict[str, str] = json.loads(Path(__file__).with_name("chinese.json").read_text(encoding="utf-8"))
TABS = ("Tag", "Grid", "Corrections", "Retrain")
OF_COMPONENTS = (*TABS, "Image", "Drop or paste an image\n- or -\nclick to choose one")

i18n = gr.I18n(
    en={text: text for text in OF_COMPONENTS},  # what every other language falls back to
    zh={text: CHINESE[text] for text in OF_COMPONENTS},
)


def head() -> str:
    """For the head of the page: the dictionary, for `words.js`."""
    safe = json.dumps(CHINESE, ensure_ascii=False).replace("<", "\\u003c")
    return f"<script>window.tagloopChinese = {safe};</script>"


class Early:
    """Puts `words_early.js` before all scripts of the page: gradio adds its `head` when its own run already."""

    SCRIPT = b"<head><script>%s</script>" % Path(__file__).with_name("words_early.js").read_bytes()

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].endswith("/"):
            await self.app(scope, receive, send)
            return
        start: Message | None = None

        async def send_with_script(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_page(message):
                start = message
                return
            if start is not None:  # the page is one piece
                body = message["body"].replace(b"<head>", self.SCRIPT, 1)
                MutableHeaders(raw=start["headers"])["content-length"] = str(len(body))
                await send(start)
                start, message = None, message | {"body": body}
            await send(message)

        await self.app(scope, receive, send_with_script)


def _is_page(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type", "").startswith("text/html")
