"""Who one is here, in the header: the name of who logged in, with a way out, or the way to log in with the Hub.

The login opens a page of its own, so that what is decided and not saved stays on this one, which looks again when
somebody comes back to it. In a frame of another site the whole page is offered on its own instead, for work and login.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from demo.settings import Settings
from demo.ui import visitor
from demo.ui.panel import QUIET, Panel


class Account:
    """For the page to fill with `look` when it is loaded. retrain: the tab that only some people find."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        css = Path(__file__).with_name("account.css").read_text(encoding="utf-8")
        self.panel = Panel("account", css_template=css)

    def follow(self, retrain: gr.Tab) -> None:
        self.shown = [self.panel, retrain]
        self.panel.look(self.look, None, self.shown, **QUIET)

    def look(self) -> tuple[dict[str, Any], gr.Tab]:
        name, rights = visitor.login(), self.settings.rights
        value = {
            "name": name,
            "login": "login/huggingface" if self.settings.hub_login else None,
            "refusal": rights.kept_from_saving(name) or "",
        }
        return value, gr.Tab(visible=self.settings.retraining and rights.kept_from_retraining(name) is None)
