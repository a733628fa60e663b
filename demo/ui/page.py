"""The page: a header with the visitor's model, and the tabs Tag, Grid, Corrections and Retrain.

`build_page` makes a gr.Blocks; `launch_options` are the arguments of its `launch`, the address left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from demo.albums import Albums
from demo.corrections import Corrections
from demo.errors import BadInput
from demo.models import Models, ref_of
from demo.retrain import Retraining
from demo.settings import EXAMPLES, MAX_SESSIONS, TAGGING_AT_ONCE, UPLOAD_SECONDS, Settings
from demo.sync import Sync
from demo.ui.account import Account
from demo.ui.blocks import Page
from demo.ui.corrections_tab import CorrectionsTab
from demo.ui.desk import Desk
from demo.ui.grid_tab import GridTab
from demo.ui.health import Health
from demo.ui.model_box import ModelBox
from demo.ui.panel import QUIET
from demo.ui.programs import add_programs
from demo.ui.retrain_tab import RetrainTab
from demo.ui.serving import app_kwargs, refuse_addresses
from demo.ui.sync_view import Notice
from demo.ui.tag_tab import TagTab
from demo.ui.tagging import Tagging
from demo.ui.theme import theme
from demo.ui.watching import watch_events
from demo.ui.words import head, i18n

STYLES = ("page", "key_map", "why")
SECONDS_BETWEEN_LOOKS = 0.005
"""Of gradio at its queue while nothing is in it. Looking every millisecond, as it would, takes a tenth of a core."""


def build_page(
    settings: Settings,
    models: Models,
    corrections: Corrections,
    albums: Albums,
    retraining: Retraining | None = None,
    examples: Path = EXAMPLES,
    sync: Sync | None = None,
) -> gr.Blocks:
    """Wire the page. `sync`, where there is one, keeps the corrections in a dataset.

    Raises BadInput for a folder of `--images` without any.
    """
    tagging = Tagging(settings, models, corrections, albums, examples)
    if settings.images and not len(tagging.own_album):
        raise BadInput(f"--images {settings.images} holds no images, nor do the folders in it.")

    with Page(title="TagLoop", delete_cache=(3600, UPLOAD_SECONDS), analytics_enabled=False) as page:
        page.expects_oauth = settings.hub_login
        desk = gr.State(Desk(lambda: ref_of(models.own)))
        with gr.Row(elem_id="header"):
            gr.HTML("<h1>TagLoop</h1>", elem_id="name", apply_default_css=False)
            model_box = ModelBox(models, desk)
            account = Account(settings) if settings.accounts or settings.hub_login else None
        notice = Notice(sync, settings.has_strangers) if sync or settings.has_strangers else None
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab(i18n("Tag"), id="tag") as first:
                tag_tab = TagTab(tagging, desk)
            with gr.Tab(i18n("Grid"), id="grid"):
                grid_tab = GridTab(tagging, desk)
            with gr.Tab(i18n("Corrections"), id="corrections") as third:
                corrections_tab = CorrectionsTab(corrections, sync)
            is_for_all = settings.retraining and settings.rights.kept_from_retraining("") is None
            with gr.Tab(i18n("Retrain"), id="retrain", visible=is_for_all) as fourth:
                retrain_tab = RetrainTab(models, corrections, retraining or Retraining(settings), desk)
        if account:
            account.follow(fourth)
            page.load(account.look, None, account.shown, **QUIET)
        add_programs(tagging)

        chosen = [desk, model_box.choice]
        entered = page.load(model_box.enter, chosen, model_box.shown, concurrency_limit=None, **QUIET)
        for swapped in retrain_tab.swapped:
            swapped.then(model_box.swapped_elsewhere, chosen, model_box.shown, **QUIET)
        for swapped in [entered, model_box.swapped, *retrain_tab.swapped]:
            tag_tab.tags_again(swapped)
            grid_tab.follow(swapped)
        first.select(
            tag_tab.look_again, [tag_tab.editor, desk], tag_tab.shown, concurrency_limit=TAGGING_AT_ONCE, **QUIET
        )
        third.select(corrections_tab.look, None, corrections_tab.shown, **QUIET)
        if notice:
            page.load(notice.value, None, notice.panel, **QUIET)
        if sync:
            third.select(corrections_tab.sync_state.look, None, corrections_tab.sync_state.shown, **QUIET)
        fourth.select(retrain_tab.look, desk, [retrain_tab.panel, retrain_tab.timer], **QUIET)
        page.load(tag_tab.first_value, desk, [tag_tab.examples, tag_tab.strip], **QUIET)
    refuse_addresses(page)
    watch_events(page)
    page.queue(max_size=settings.max_queue_length)
    page._queue.sleep_when_free = SECONDS_BETWEEN_LOOKS
    return page


def launch_options(
    settings: Settings, corrections: Corrections, albums: Albums, models: Models | None = None
) -> dict[str, Any]:
    """models: those that `/healthz` speaks of, which is not there without."""
    return {
        "theme": theme(),
        "css": "".join(Path(__file__).with_name(f"{name}.css").read_text(encoding="utf-8") for name in STYLES),
        "js": Path(__file__).with_name("page.js").read_text(encoding="utf-8"),
        "head": head(),
        "i18n": i18n,
        "app_kwargs": app_kwargs(
            corrections,
            albums,
            max_upload_bytes=settings.max_upload_bytes,
            max_queue_length=settings.max_queue_length,
            runs=None if settings.is_public else settings.runs,
            health=models and Health(models, corrections),
            has_strangers=settings.has_strangers,
        ),
        "auth": list(settings.accounts) or None,
        "share": False,  # whatever GRADIO_SHARE says: it would let strangers in as if they sat here
        "ssr_mode": False,
        "show_error": False,
        "run_history": False,
        "footer_links": ["api"],
        "max_file_size": settings.max_upload_bytes,
        "state_session_capacity": MAX_SESSIONS,
        "allowed_paths": [],
        "blocked_paths": [str(settings.corrections.absolute())],
        "mcp_server": settings.mcp,
        "quiet": True,
    }
