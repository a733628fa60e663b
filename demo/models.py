"""The models in memory, shared by all visitors, and the loads under way.

Promises: whoever has a `Tagger` has one whole model for as long as they hold it; a checkpoint that cannot be loaded
leaves everything as it was; the same one is loaded once, however many ask. At most `settings.max_models` are kept,
not counting one that is being loaded: the server's own always, of the others those that were asked for last. Which
visitor uses which model is not known here; a visitor's page remembers the ref (`ref_of`), and `get` gives the model,
loading it again where it had to go.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from demo import hub, logs, memory
from demo.checkpoint import CONFIG, load_checkpoint, locate
from demo.errors import BadInput, CheckpointError
from demo.layouts import METRICS, read_json
from demo.settings import EMBEDDED_CHECKPOINT, MAX_VOCABULARIES, Settings
from demo.tagger import Tagger

BATCHES_AT_ONCE = 2
"""Of one model on a CPU: all cores on one batch would wait at each layer for the core that has a request to answer."""


class _NotWanted(Exception):
    """Nobody waits for this load any more."""


@dataclass(frozen=True)
class Step:
    """How far a load has come: the folder of what has arrived, and bytes of the weights; 0 of 0 where none travel."""

    folder: Path | None = None
    done: int = 0
    total: int = 0

    @property
    def is_download(self) -> bool:
        return 0 < self.total != self.done


class Load:
    """A checkpoint on its way into memory. `future` gives its Tagger, or raises CheckpointError or HubError."""

    def __init__(self, ref: str) -> None:
        self.ref = ref
        self.step = Step()
        self.future: Future[Tagger] = Future()
        self.future.set_running_or_notify_cancel()  # one who waits cannot cancel it for the others
        self.waiting = 1

    def report(self, folder: Path, done: int, total: int) -> None:
        if self.waiting == 0:
            raise _NotWanted
        self.step = Step(folder, done, total)


class Models:
    """Loads `settings.model` at once, as `own`. Raises CheckpointError or HubError when that fails.

    own: the server's own model, of programs and of visitors who chose no other. former: the ref of the one before it.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()  # for the fields below; never held while something is loaded
        self._building = threading.Lock()  # one model at a time takes memory that is not yet counted
        self._kept: OrderedDict[str, Tagger] = OrderedDict()
        self._loads: dict[str, Load] = {}
        self._vocabularies: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        with _logged():
            self.own = self._put_to_use(settings.model)
        self.former: str | None = None
        self._first = ref_of(self.own)
        self._remember(self.own)

    def get(self, ref: str) -> Tagger:
        """The model of a ref that `ref_of` gave, from memory or loaded here and now. Raises as `load`'s future."""
        tagger = self._in_memory(ref)
        if tagger is not None:
            return tagger
        load = self.load(ref)
        try:
            return load.future.result()
        finally:
            self.leave(load)

    def make_own(self, ref: str) -> None:
        """Make a model the server's own until the server ends. Raises as `get`, and all stays as it was."""
        tagger = self.get(ref)
        with self._lock:
            if tagger is self.own:
                return
            before, self.own = self.own, tagger
            self._kept.pop(ref_of(tagger), None)
            self.former = ref_of(before)
        self._keep(self.former, before)  # those in the middle of an image go on with it

    def load(self, ref: str) -> Load:
        """Begin to load a ref, or join those who wait for it already; each who calls this calls `leave` in the end.

        Raises BadInput for what visitors may not load here.
        """
        self.check(ref)
        if _is_folder(ref) and not (self.settings.is_public and hub.is_repo(ref) and not self._is_ours(ref)):
            ref = str(Path(ref).absolute())
        with self._lock:
            load = self._loads.get(ref)
            if load is not None:
                load.waiting += 1
                return load
            load = self._loads[ref] = Load(ref)
        threading.Thread(target=self._run, args=(load,), name=f"load {ref}", daemon=True).start()
        return load

    def leave(self, load: Load) -> None:
        """Wait no longer. A load that nobody waits for ends at its next step, and what has arrived stays cached."""
        with self._lock:
            load.waiting -= 1
            if load.waiting == 0 and self._loads.get(load.ref) is load:
                del self._loads[load.ref]

    def check(self, ref: str) -> None:
        """Raise BadInput, with what may be done instead, for a ref that visitors of this server may not load."""
        settings, repo = self.settings, ref.partition("@")[0].lower()
        if self._is_ours(ref) or (_is_folder(ref) and not settings.is_public):
            return
        if settings.is_public and not hub.is_repo(ref):
            raise BadInput(
                f"{ref} is not loaded here.",
                "People on other machines reach this server, so of its folders it loads only its own runs.",
                "Choose from the list, or name a model on the Hub.",
            )
        if settings.allow_models is None or not hub.is_repo(ref):
            return
        allowed = [name.lower() for name in settings.allow_models]
        if repo not in allowed and repo.partition("/")[0] not in allowed:
            only = ", ".join(settings.allow_models) or "none of the Hub"
            raise BadInput(f"{ref} is not loaded here.", f"This server allows {only}.", "Choose from the list.")

    def identity(self, ref: str) -> str | None:
        """The identity of a ref's model; None if it is not in memory."""
        tagger = self._in_memory(ref)
        return tagger and tagger.checkpoint.identity

    def vocabulary(self, identity: str) -> tuple[str, ...] | None:
        """The label names of a model that was loaded before, in memory or not; None after a hundred others."""
        return self._vocabularies.get(identity)

    def runs(self) -> list[str]:
        """Folders of finished fine-tunes that did not come out worse, newest first."""
        found = []
        for path in self.settings.runs.glob(f"*/{CONFIG}"):
            with suppress(OSError):  # deleted in between
                found.append((path.stat().st_mtime, path.parent))
        return [str(folder) for _, folder in sorted(found, reverse=True) if not _is_worse(folder)]

    def _in_memory(self, ref: str) -> Tagger | None:
        with self._lock:
            if ref == ref_of(self.own):
                return self.own
            if ref in self._kept:
                self._kept.move_to_end(ref)
            return self._kept.get(ref)

    def _is_anybodys(self, ref: str) -> bool:
        """Whether whoever comes may ask for this ref, so that the server's token is not used for it.

        What `--allow-models` names its owner means to show.
        """
        is_named = self.settings.allow_models is not None or self._is_ours(ref)
        return self.settings.has_strangers and not is_named

    def _is_ours(self, ref: str) -> bool:
        """Whether a ref is the server's own model, the embedded one or a run."""
        if ref in (ref_of(self.own), self._first, self.settings.model):
            return True
        if not _is_folder(ref):
            return False
        folder, runs = Path(ref).resolve(), self.settings.runs.resolve()
        return folder == EMBEDDED_CHECKPOINT or (folder != runs and folder.is_relative_to(runs))

    def _run(self, load: Load) -> None:
        try:
            with _logged():
                tagger = self._loaded(load)
            load.future.set_result(tagger)
        except BaseException as error:  # whoever waits gets it
            load.future.set_exception(error)
        with self._lock:
            if self._loads.get(load.ref) is load:
                del self._loads[load.ref]

    def _loaded(self, load: Load) -> Tagger:
        ref = load.ref
        if hub.is_repo(ref):
            folder, commit = hub.fetch(ref, load.report, as_anybody=self._is_anybodys(ref))
            ref = f"{ref.partition('@')[0]}@{commit}"
            load.step = Step(folder)
        with self._building:
            if load.waiting == 0:
                raise _NotWanted
            kept = self._in_memory(ref)
            if kept is not None and kept.checkpoint.identity == locate(ref)[1]:
                return kept
            tagger = self._put_to_use(ref)
            self._remember(tagger)
            self._keep(ref, tagger)
            return tagger

    def _keep(self, ref: str, tagger: Tagger) -> None:
        """Keep a model beside the server's own; those not asked for longest make room for it."""
        with self._lock:
            self._kept[ref] = tagger
            full = len(self._kept) >= self.settings.max_models > 1
            while len(self._kept) >= self.settings.max_models > 1:
                self._kept.popitem(last=False)
        if full:
            memory.give_back()

    def _put_to_use(self, ref: str | None) -> Tagger:
        checkpoint = load_checkpoint(ref)
        try:
            return Tagger(checkpoint, self.settings.device, BATCHES_AT_ONCE)
        except (RuntimeError, MemoryError) as error:
            why = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{ref} was read but cannot be put to use.", f"{why}.") from error

    def _remember(self, tagger: Tagger) -> None:
        with self._lock:
            self._vocabularies[tagger.checkpoint.identity] = tagger.checkpoint.labels.names
            self._vocabularies.move_to_end(tagger.checkpoint.identity)
            if len(self._vocabularies) > MAX_VOCABULARIES:
                self._vocabularies.popitem(last=False)


@contextmanager
def _logged() -> Iterator[None]:
    """An event for what a load came to; for one that nobody wants any more there is none."""
    started = time.monotonic()
    try:
        yield
    except _NotWanted:
        raise
    except BaseException as error:
        logs.event("model_failed", "error", kind=type(error).__name__, seconds=time.monotonic() - started)
        raise
    logs.event("model_loaded", seconds=time.monotonic() - started)


def ref_of(tagger: Tagger) -> str:
    """What loads the same weights again: the folder, or the repo at its commit."""
    return tagger.checkpoint.origin


def name_of(ref: str) -> str:
    """A short name for a person, of what `ref_of` gave: the folder's, or owner/name."""
    if ref == str(EMBEDDED_CHECKPOINT):
        return "TagLoop demo"
    return Path(ref).name if Path(ref).is_absolute() else ref.partition("@")[0]


def _is_folder(ref: str) -> bool:
    try:
        return Path(ref).is_dir()
    except OSError:  # a name too long, or a folder that may not be looked into
        return False


def _is_worse(run: Path) -> bool:
    try:
        return read_json(run / METRICS).get("verdict") == "worse"
    except CheckpointError:
        return False
