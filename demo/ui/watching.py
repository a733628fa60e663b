"""What goes wrong while the page is served, as events of `demo.logs`: answers that refuse, and what handlers raise."""

from __future__ import annotations

from typing import Any

import gradio as gr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo import logs


class Watch:
    """Logs the status of an answer that refuses something, and the type of what a route raises."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                level = "error" if message["status"] == 500 else "warning"
                logs.event("refused", level, kind="request", status=message["status"])
            await send(message)

        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            logs.event("error", "error", exception=type(error).__name__)
            raise


def watch_events(page: gr.Blocks) -> None:
    """Log what the handlers of the page's events and of its API raise; what they tell the visitor is no error."""
    process = page.process_api

    async def watched(*args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            return await process(*args, **kwargs)
        except gr.Error as error:
            logs.event("refused", "warning", kind=type(error.__cause__ or error).__name__)
            raise
        except Exception as error:
            logs.event("error", "error", exception=type(error).__name__)
            raise

    page.process_api = watched
