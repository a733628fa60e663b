"""The page: a header with the model in use, and the tabs Tag, Corrections and Retrain.

`build_page` makes a gr.Blocks; `launch_options` are the arguments of its `launch`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from demo.corrections import Corrections
from demo.errors import DemoError
from demo.models import Models
from demo.settings import EXAMPLES, Settings
from demo.ui.panel import Panel, asked
from demo.ui.tag_tab import QUIET, TagTab
from demo.ui.tagging import Tagging
from demo.ui.theme import theme

CACHE_SECONDS = 24 * 3600


def build_page(settings: Settings, models: Models, examples: Path = EXAMPLES) -> gr.Blocks:
    corrections = Corrections(settings.corrections)
    tagging = Tagging(settings, models, corrections, examples)

    def model_value(error: str = "") -> dict[str, Any]:
        return describe(models, error)

    with gr.Blocks(title="TagLoop", delete_cache=(3600, CACHE_SECONDS), analytics_enabled=False) as page:
        with gr.Row(elem_id="header"):
            gr.HTML("<h1>TagLoop</h1>", elem_id="name", apply_default_css=False)
            model_box = Panel("model_box")
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Tag", id="tag"):
                tag_tab = TagTab(tagging)
            with gr.Tab("Corrections", id="corrections"):
                pass
            with gr.Tab("Retrain", id="retrain"):
                pass

        def load_model(decisions: Any, desk: Any, event: gr.EventData) -> tuple:
            try:
                models.use(asked(event, "ref", str))
            except DemoError as error:
                return model_value(str(error))
            return model_value()

        model_box.load_model(load_model, [tag_tab.editor, tag_tab.desk], model_box, **QUIET)
        page.load(model_value, None, model_box, **QUIET)
        page.load(tag_tab.examples_value, None, tag_tab.examples, **QUIET)
        if settings.images is not None:
            page.load(tag_tab.open_first, tag_tab.desk, tag_tab.shown, **QUIET)
    page.queue(max_size=settings.max_queue_length)
    return page


def describe(models: Models, error: str = "") -> dict[str, Any]:
    """The model box: what is in use and what could be."""
    tagger = models.current
    checkpoint = tagger.checkpoint
    return {
        "name": checkpoint.identity.removeprefix("local:").partition("@")[0],
        "title": checkpoint.identity,
        "where": f"{len(checkpoint.labels):,} labels · {tagger.device} · {tagger.precision}",
        "runs": models.runs(),
        "error": error,
    }


def launch_options(settings: Settings) -> dict[str, Any]:
    """Arguments for `launch`, the address left out."""
    return {
        "theme": theme(),
        "css": Path(__file__).with_name("page.css").read_text(encoding="utf-8"),
        "ssr_mode": False,
        "show_error": False,
        "run_history": False,
        "footer_links": ["api"],
        "max_file_size": settings.max_upload_bytes,
        "allowed_paths": [],
        "blocked_paths": [str(settings.corrections.absolute())],
        "mcp_server": settings.mcp,
        "quiet": True,
    }
