"""gr.Blocks that works out and keeps no more than a page needs whose components stay what they are.

gradio works out the configuration of every component whenever a session begins, which each call of a program is, and
keeps it for links into a session; and it makes a component anew that an event skips. For this page that was half of
what an image cost beside the model.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import gradio as gr
from gradio.blocks import BlockFunction, BlocksConfig
from gradio.state_holder import SessionState


class Page(gr.Blocks):
    """Keeps of a tab what its next event needs, and nothing of a program's call that is answered.

    Has gradio's routes for a login with the Hub where that is wanted, without gradio's button for it: the button leaves
    the page, and with it what is decided there and not saved. Not for batched events or gr.render.
    """

    expects_oauth = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.default_config = _Config(self)

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: list | dict, state: SessionState | None
    ) -> list[Any]:
        outputs = block_fn.outputs
        told = predictions if isinstance(predictions, list | tuple) and len(predictions) == len(outputs) > 1 else []
        kept = [place for place, value in enumerate(told) if outputs[place].stateful or not _is_skip(value)]
        if len(kept) == len(told):
            return await super().postprocess_data(block_fn, predictions, state)
        data = [gr.skip() for _ in outputs]
        if kept:
            part = copy(block_fn)
            part.outputs = [outputs[place] for place in kept]
            values = [told[place] for place in kept]
            done = await super().postprocess_data(part, values if len(values) > 1 else values[0], state)
            for place, value in zip(kept, done, strict=True):
                data[place] = value
        return data

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            return await super().process_api(*args, **kwargs)
        finally:
            # gradio makes a session for each call that names none of its own
            if (session := kwargs.get("session_hash")) and session == kwargs.get("event_id"):
                holder = self.state_holder
                with holder.lock:
                    holder.session_data.pop(session, None)
                    holder.time_last_used.pop(session, None)


class _Config(BlocksConfig):
    """Of the page; a session's, which is its copy, works out nothing."""

    def __copy__(self) -> BlocksConfig:
        session = super().__copy__()
        nothing: dict[str, Any] = {}  # one for all, since a tab has a hundred components
        session.config_for_block = lambda *_: nothing
        return session


def _is_skip(value: object) -> bool:
    return isinstance(value, dict) and value == gr.skip()
