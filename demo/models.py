"""The model in use and the one before it, for the whole server: swap, and swap back, without a restart.

Promises: a reader sees one whole model or the other, never a mixture; a checkpoint that cannot be loaded leaves
everything as it was. Two models are kept in memory at most, not counting one that is being loaded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from demo.checkpoint import CONFIG, Checkpoint, load_checkpoint
from demo.errors import BadInput, CheckpointError
from demo.settings import Settings
from demo.tagger import Tagger


class Models:
    """Loads `settings.model` at once. Raises CheckpointError or HubError when that fails."""

    def __init__(self, settings: Settings, load: Callable[[str | None], Checkpoint] = load_checkpoint) -> None:
        self.settings = settings
        self._load = load
        self._changing = threading.Lock()
        self._pair: tuple[Tagger, Tagger | None] = (self.load(settings.model), None)  # replaced whole

    @property
    def current(self) -> Tagger:
        return self._pair[0]

    @property
    def before(self) -> Tagger | None:
        """The model that `previous` goes back to, or None."""
        return self._pair[1]

    def load(self, ref: str | None) -> Tagger:
        """A checkpoint on the device, not in use yet. Raises CheckpointError or HubError."""
        checkpoint = self._load(ref)
        try:
            return Tagger(checkpoint, self.settings.device)
        except (RuntimeError, MemoryError) as error:
            why = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{ref} was read but cannot be put to use.", f"{why}.") from error

    def use(self, ref: str) -> Tagger:
        """Load `ref` and put it in the place of the current model. Raises CheckpointError or HubError."""
        with self._changing:
            tagger = self.load(ref)
            if tagger.checkpoint.identity != self.current.checkpoint.identity:
                self._pair = (tagger, self.current)
            return self.current

    def previous(self) -> Tagger:
        """Swap back to the model before; a second call undoes the first. Raises BadInput where there is none."""
        with self._changing:
            current, before = self._pair
            if before is None:
                raise BadInput("There is no previous model.", "None was replaced since the server started.")
            self._pair = (before, current)
            return before

    def named(self, identity: str) -> Tagger | None:
        """The current or the previous model, if it is the one of that identity."""
        return next((tagger for tagger in self._pair if tagger and tagger.checkpoint.identity == identity), None)

    def runs(self) -> list[str]:
        """Folders of finished fine-tunes, newest first."""
        found = self.settings.runs.glob(f"*/{CONFIG}")
        return [str(path.parent) for path in sorted(found, key=_changed, reverse=True)]


def name_of(tagger: Tagger) -> str:
    """A short name for a person: the folder's, or owner/name."""
    return tagger.checkpoint.identity.removeprefix("local:").partition("@")[0]


def ref_of(tagger: Tagger) -> str:
    """What loads the same weights again: the folder, or the repo at its commit."""
    checkpoint = tagger.checkpoint
    if checkpoint.identity.startswith("local:"):
        return str(Path(checkpoint.ref).absolute())
    return checkpoint.identity


def _changed(path: Path) -> float:
    return path.stat().st_mtime
