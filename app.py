"""The app: settings → tagger → page → launch. `python app.py --help` lists the flags.

Who imports this file finds the page as `demo`, made by the environment's settings when it is first asked for:
`from app import demo; demo.launch()`. Only what `launch` starts has all that stands around the page.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# gradio works its own statistics out anew after each event, from all events there were, up to 10,000: not that often
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000")

from demo import logs, memory
from demo.errors import EXIT_DONE, BadInput, command
from demo.scratch import Scratch
from demo.settings import Settings

SECONDS_UNTIL_ANOTHER_THREAD = 0.0002
"""A model asks for the interpreter between any two of its layers, and while it waits its cores do nothing."""


def build(settings: Settings, ending: ExitStack) -> Any:
    """A gr.Blocks whose `launch` knows its options; what is to be done when it ends goes on the stack.

    Raises DemoError.
    """
    memory.few_arenas()
    sys.setswitchinterval(SECONDS_UNTIL_ANOTHER_THREAD)
    if settings.log:
        logs.start()
    scratch = Scratch()
    atexit.register(scratch.close)
    tempfile.tempdir = str(scratch.folder)  # for gradio too, which asks when it is imported
    from demo.albums import Albums
    from demo.corrections import Corrections
    from demo.models import Models  # loads PyTorch, which --help and a wrong flag need not wait for
    from demo.retrain import Retraining
    from demo.sync import Sync

    corrections = Corrections(settings.corrections)  # one for all: who heals a torn tail is who the page asks about it
    sync = Sync.of(settings, corrections)
    models, retraining = Models(settings), Retraining(settings)
    albums = Albums(settings.max_albums, settings.max_album_photos, settings.max_album_bytes)
    from demo.ui.page import build_page, launch_options  # loads gradio, which a wrong model need not wait for

    page = build_page(settings, models, corrections, albums, retraining, sync=sync)
    options = launch_options(settings, corrections, albums, models)
    launch = partial(page.launch, server_name=settings.host, server_port=settings.port, **options)

    def launch_and_sync(prevent_thread_lock: bool = False, **kwargs: Any) -> Any:
        came_to = launch(prevent_thread_lock=True, **kwargs)
        if sync:  # which a second app, that finds the port taken, does not get to
            sync.start()
        if not prevent_thread_lock:
            page.block_thread()
        return came_to

    page.launch = launch_and_sync
    for ends in (albums.close_all, retraining.close, *([sync.close] if sync else [])):
        ending.callback(ends)
    return page


@command
def main(arguments: Sequence[str] | None = None) -> int:
    global demo
    settings, began = Settings.from_flags(arguments), time.monotonic()
    if settings.is_open:
        who = f"whoever reaches {settings.host} can tag, save and read all corrections"
        print(f"warning: {who}: --auth none asks nobody who is there", file=sys.stderr)
    if settings.runs != Settings.runs:
        print(
            f"note: nothing can be written here: corrections are in {settings.corrections}, runs in {settings.runs}",
            file=sys.stderr,
        )
    with ExitStack() as ending:
        demo = build(settings, ending)  # gradio looks for it here where it can reload an app, on a Space say
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # what stops a container ends the app as Ctrl+C does
        try:
            _, url, _ = demo.launch(prevent_thread_lock=True)
        except OSError as error:
            raise BadInput(
                f"Nothing can listen on {settings.host}, port {settings.port or '7860 to 7959'}.",
                f"{error}.",
                "Stop what listens there, or use another --port or --host.",
            ) from error
        if demo.mcp_error:
            demo.close(verbose=False)
            raise BadInput(
                "The tools of --mcp did not start.", f"{demo.mcp_error}.", "Drop --mcp, or mend what it says."
            )
        try:
            print(f"TagLoop is at {url}", flush=True)
            login = bool(settings.accounts) or settings.hub_login
            logs.event("start", public=settings.is_public, login=login, seconds=time.monotonic() - began)
            demo.block_thread()
        except KeyboardInterrupt:  # Ctrl+C before gradio listens for it; it is how the app ends
            demo.close(verbose=False)
    logs.event("stop", seconds=time.monotonic() - began)
    return EXIT_DONE


def __getattr__(name: str) -> Any:
    """`demo`, for who imports this file and not before they ask."""
    if name != "demo":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with ExitStack() as ending:
        globals()["demo"] = page = build(Settings.from_flags([]), ending)
        atexit.register(ending.pop_all().close)
    return page


def _leave() -> None:
    """The end of a process whose `main` came to its own, after all else that was to be done at its end.

    A tagging thread may still be inside PyTorch. Python would end it there as it ends itself, which C++ takes for a
    fault and aborts the process (pytorch/pytorch#38228).
    """
    if code is None:
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # it is closed, or nobody reads it any more
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    code: int | None = None
    atexit.register(_leave)  # before anything else is, so that it comes last
    code = main()
    sys.exit(code)
