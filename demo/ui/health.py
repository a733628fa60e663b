"""`GET /healthz`: whether the model really scores and a correction can really be saved, in 200 or 503.

Both are tried from time to time and not for each request, so asking costs nothing; an attempt that does not come back
is a problem too. Says nothing of paths, models or people, so it needs no login. Does not see whether the page works.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable

import anyio
import numpy as np
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from demo.corrections import Corrections
from demo.durable import put
from demo.errors import CorrectionsError
from demo.models import Models
from demo.settings import MIN_FREE_BYTES

HEALTH = "/healthz"
SECONDS_BETWEEN_SCORES = 60.0
SECONDS_BETWEEN_WRITES = 5.0
PATIENCE_SECONDS = 30.0
"""After which an attempt is taken to hang: a batch of a large model on a busy CPU takes some ten."""
WAIT_SECONDS = 0.2
"""So long an answer waits for an attempt under way, where it is known what the last one came to."""
PROBE = ".healthz"
PROBE_BYTES = 4096
"""A block, which is what a row takes at least."""


class Trial:
    """Something that is tried again at most every so many seconds, in a thread, and what it came to.

    attempt: gives what is wrong, or ''. of: what the attempt is about; another one is tried at once.
    """

    def __init__(
        self,
        attempt: Callable[[], str],
        seconds: float,
        of: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._attempt, self.seconds, self._of, self._clock = attempt, seconds, of, clock
        self.patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._began = 0.0
        self._known: tuple[object, float, str] | None = None

    def problem(self) -> str:
        """What is wrong, or ''. Waits for the first attempt; for later ones only a moment."""
        of = self._of()
        with self._lock:
            known = self._known if self._known is not None and self._known[0] == of else None
            if known is not None and self._clock() - known[1] < self.seconds:
                return known[2]
            if self._thread is None:
                self._began = self._clock()
                self._thread = threading.Thread(target=self._try, args=(of,), name="health", daemon=True)
                self._thread.start()
            thread = self._thread
        thread.join(self.patience_seconds if known is None else WAIT_SECONDS)
        if thread.is_alive() and self._clock() - self._began >= self.patience_seconds:
            return "It does not answer."
        return self._known[2] if self._known is not None else "It is not known yet."

    def _try(self, of: object) -> None:
        try:
            problem = self._attempt()
        except Exception as error:
            problem = f"It failed: {type(error).__name__}."
        with self._lock:
            self._known, self._thread = (of, self._clock(), problem), None


class Health:
    def __init__(self, models: Models, corrections: Corrections) -> None:
        self.models, self.corrections, self.folder = models, corrections, corrections.folder
        self.trials = {
            "model": Trial(self._score, SECONDS_BETWEEN_SCORES, lambda: models.own.checkpoint.identity),
            "disk": Trial(self._write, SECONDS_BETWEEN_WRITES),
        }

    def route(self) -> Route:
        limiter = anyio.CapacityLimiter(4)  # of its own: others may have used up the threads of the server

        async def healthz(_: Request) -> Response:
            answer = await anyio.to_thread.run_sync(self.look, limiter=limiter)
            status = 200 if answer["status"] == "ok" else 503
            return JSONResponse(answer, status, headers={"cache-control": "no-store"})

        return Route(HEALTH, healthz)

    def look(self) -> dict[str, str]:
        """`{"status": "ok" or "failing", "model": "ok" or what is wrong, "disk": likewise}`.

        A model whose GPU is lent by the call is "not tried": a look at the health is nothing to spend a quota on.
        """
        found = {name: trial.problem() or "ok" for name, trial in self.trials.items()}
        is_fine = set(found.values()) == {"ok"}
        if is_fine and self.models.own.lent:
            found["model"] = "not tried"
        return {"status": "ok" if is_fine else "failing", **found}

    def _score(self) -> str:
        """Whether the server's own model gives scores for a small picture."""
        tagger = self.models.own
        if tagger.lent:
            return ""
        ramp = np.arange(64 * 48 * 3, dtype=np.uint32).reshape(48, 64, 3) % 251
        scores = tagger.tag(Image.fromarray(ramp.astype(np.uint8))).scores  # as a visitor: it gives way to nobody
        if scores.shape != (len(tagger.checkpoint.labels),) or not ((scores >= 0) & (scores <= 1)).all():
            return "It gives no scores from 0 to 1."
        return ""

    def _write(self) -> str:
        """Whether a file can be brought to the disk beside the corrections, there is room for more, and the CSV takes
        a row: it is ours, and nobody keeps it locked."""
        probe = self.folder / PROBE
        try:
            put(probe, bytes(PROBE_BYTES))
            probe.unlink(missing_ok=True)
            free = shutil.disk_usage(self.folder).free
            self.corrections.totals()
        except OSError as error:
            return f"Nothing can be saved: {error.strerror}."
        except CorrectionsError:  # whose words name the file
            return "Nothing can be saved: the CSV is not ours, or it is locked or cannot be read. A save says which."
        if free < MIN_FREE_BYTES:
            return f"{free // 2**20} MB are free, less than the {MIN_FREE_BYTES // 2**20} that are wanted."
        return ""
