"""gr.HTML whose configuration is worked out once.

gradio asks every component for it whenever a session begins, which each call of a program is, and of a component that
an event skips once more; and each time it looks through the whole script for each name in it. For this page that was
a third of what an image cost beside the model.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import gradio as gr

_configs: dict[tuple[type, str], dict[str, Any]] = {}


class Still(gr.HTML):
    """The same configuration for the same arguments; its value is not among them, and starts as None."""

    def get_config(self) -> dict[str, Any]:
        told = {key: value for key, value in self.constructor_args.items() if key not in ("value", "render")}
        key = type(self), repr(told)
        if key not in _configs:
            _configs[key] = super().get_config()
        return deepcopy(_configs[key])
