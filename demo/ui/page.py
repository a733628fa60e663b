"""The page: a header with the model in use, and the tabs Tag, Corrections and Retrain.

`build_page` makes a gr.Blocks; `launch_options` are the arguments of its `launch`, the address left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from demo.corrections import Corrections
from demo.errors import DemoError
from demo.models import Models, name_of
from demo.retrain import Retraining
from demo.settings import EXAMPLES, Settings
from demo.ui.corrections_tab import CorrectionsTab
from demo.ui.panel import QUIET, Panel, asked
from demo.ui.programs import add_programs
from demo.ui.retrain_tab import RetrainTab
from demo.ui.serving import app_kwargs, refuse_addresses
from demo.ui.tag_tab import TagTab
from demo.ui.tagging import Tagging
from demo.ui.theme import theme

CACHE_SECONDS = 24 * 3600


def build_page(
    settings: Settings, models: Models, retraining: Retraining | None = None, examples: Path = EXAMPLES
) -> gr.Blocks:
    """Wire the page. Raises CorrectionsError when the corrections folder cannot be used."""
    corrections = Corrections(settings.corrections)
    tagging = Tagging(settings, models, corrections, examples)

    with gr.Blocks(title="TagLoop", delete_cache=(3600, CACHE_SECONDS), analytics_enabled=False) as page:
        with gr.Row(elem_id="header"):
            gr.HTML("<h1>TagLoop</h1>", elem_id="name", apply_default_css=False)
            model_box = Panel("model_box")
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Tag", id="tag"):
                tag_tab = TagTab(tagging)
            with gr.Tab("Corrections", id="corrections") as second:
                corrections_tab = CorrectionsTab(corrections)
            with gr.Tab("Retrain", id="retrain") as third:
                retrain_tab = RetrainTab(models, corrections, retraining or Retraining(settings))
        add_programs(settings, models, corrections)

        def model_value(error: str = "") -> dict[str, Any]:
            return describe(models, error)

        def load_model(event: gr.EventData) -> dict[str, Any]:
            try:
                models.use(asked(event, "ref", str))
            except DemoError as error:
                return model_value(str(error))
            return model_value()

        loaded = model_box.load_model(load_model, None, model_box, **QUIET)
        for swapped in retrain_tab.swapped:
            swapped.then(model_value, None, model_box, **QUIET)
        for swapped in [loaded, *retrain_tab.swapped]:
            swapped.then(tag_tab.tag_again, [tag_tab.editor, tag_tab.desk], tag_tab.shown, **QUIET)
        second.select(corrections_tab.value, None, corrections_tab.table, **QUIET)
        third.select(retrain_tab.look, None, [retrain_tab.panel, retrain_tab.timer], **QUIET)
        page.load(model_value, None, model_box, **QUIET)
        page.load(tag_tab.examples_value, None, tag_tab.examples, **QUIET)
        if settings.images is not None:
            page.load(tag_tab.open_first, tag_tab.desk, tag_tab.shown, **QUIET)
    refuse_addresses(page)
    page.queue(max_size=settings.max_queue_length)
    return page


def describe(models: Models, error: str = "") -> dict[str, Any]:
    """The model box: what is in use and what could be."""
    tagger = models.current
    return {
        "name": name_of(tagger),
        "title": tagger.checkpoint.identity,
        "where": f"{len(tagger.checkpoint.labels):,} labels · {tagger.device} · {tagger.precision}",
        "runs": models.runs(),
        "error": error,
    }


def launch_options(settings: Settings) -> dict[str, Any]:
    return {
        "theme": theme(),
        "css": Path(__file__).with_name("page.css").read_text(encoding="utf-8"),
        "js": Path(__file__).with_name("page.js").read_text(encoding="utf-8"),
        "app_kwargs": app_kwargs(Corrections(settings.corrections), settings.max_upload_bytes),
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
