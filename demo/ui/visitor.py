"""Who is behind the event that is being handled: gradio keeps its request for as long as that takes."""

from __future__ import annotations

from gradio.context import LocalContext

from demo.hourly import Hourly
from demo.messages import Message
from demo.settings import Settings
from demo.ui.strangers import HEADER, is_stranger


def annotator() -> str:
    """The name that the visitor logged in with, or the one that their browser has here; '' on one's own machine.

    With accounts of the server gradio knows the name, with those of the Hub and without any `Strangers` does.
    """
    request = LocalContext.request.get(None)
    if request is None:
        return ""
    return getattr(request, "username", None) or request.headers.get(HEADER, "")


def login() -> str:
    """The name that the visitor logged in with; '' for who did not."""
    name = annotator()
    return "" if is_stranger(name) else name


def address(on_space: bool = False) -> str:
    """Where the visitor's connection comes from, as far as can be known; '' where it cannot.

    On a Space all connections come from its proxy, which says in a header for whom. Elsewhere uvicorn heeds that header
    from proxies named in FORWARDED_ALLOW_IPS.
    """
    request = LocalContext.request.get(None)
    if request is None:
        return ""
    told = request.headers.get("x-forwarded-for", "") if on_space else ""
    client = request.client
    return told.split(",")[0].strip() or (client.host if client else "")


def kept_from_saving(settings: Settings, hourly: Hourly, rows: int = 1) -> Message | None:
    """Why the visitor may not save so many rows now; None for who may, and then they are counted for `address`."""
    return settings.rights.kept_from_saving(login()) or hourly.take(address(settings.on_space), rows)
