"""English and Chinese: `chinese.json` has the Chinese of every text of the page, by its English.

gradio translates what its own components show, `words.js` what our scripts and handlers say (`Message`). Errors are
English, as they are in the log.
"""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr

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
