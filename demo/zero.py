"""ZeroGPU: a Space's GPU that is lent by the call, to functions that say for how many seconds. Elsewhere nothing of it.

What holds there (spaces 0.51, from its source):

- A decorated function runs in a process that is forked off at its first call and kept for later ones. Arguments and
  results are pickled, and of an error only gradio's own kind comes back; so arrays go in and out, and a DemoError is
  carried as a result. A lock that was held at the fork stays held in there: none of the app's is taken inside.
- In the app's own process CUDA is acted: `.to("cuda")` is recorded and happens in the fork. That goes for the thread
  that imported `spaces` alone, the main one. So the model that the app starts with is put on "cuda" as it is loaded,
  and goes to disk when the page is launched; one that is loaded later, by a visitor's thread, stays on the CPU as
  far as the app is concerned, and the process that has the GPU reads it from the same files when it is first wanted.
- The seconds count against the quota of whoever's request the call belongs to, found by the context of the thread.
  So each image that somebody tags is a call of their own, and a refusal theirs alone; ZeroGPU keeps the queue.

Nothing here compiles a model: `torch.compile` would begin anew with each process.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from demo.checkpoint import Checkpoint, load_checkpoint
from demo.errors import CheckpointError, DemoError

Result = TypeVar("Result")

SECONDS_TO_BEGIN = 15
"""Of a call: the fork, and bringing the weights to the GPU or reading another model's."""

SECONDS_AN_IMAGE = 0.25
"""A ViT-L at 448 pixels takes a tenth of that; who asks for less is served earlier."""

MAX_MODELS = 3
"""That the process which has the GPU keeps, beside the one that came with it."""

DTYPE = torch.bfloat16  # every GPU of ZeroGPU has it


def is_zero_gpu(environment: Mapping[str, str]) -> bool:
    """Whether this is a ZeroGPU Space."""
    says_so = environment.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
    return says_so and importlib.util.find_spec("spaces") is not None


IS_HERE = is_zero_gpu(os.environ)
_APP = os.getpid()


def is_lent() -> bool:
    """Whether the GPU has to be borrowed by the call: on ZeroGPU, outside of the decorated functions."""
    return IS_HERE and os.getpid() == _APP


class NoGpu(DemoError):
    """The GPU was not lent, or taken back."""


def gpu(seconds: Callable[..., float]) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Decorate a function of a module that needs the GPU; off ZeroGPU it stays as it is.

    seconds: how long the function may have it, of the same arguments. Calls raise the function's DemoErrors, and NoGpu.
    """

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        if not IS_HERE:
            return function
        import spaces
        from gradio import Error

        def carried(*arguments: Any) -> tuple[Result | None, DemoError | None]:
            try:
                return function(*arguments), None
            except DemoError as error:
                return None, error

        lent = spaces.GPU(duration=lambda *arguments: round(seconds(*arguments)))(carried)

        @functools.wraps(function)
        def call(*arguments: Any) -> Result:
            try:
                result, error = lent(*arguments)
            except Error as error:
                raise NoGpu("The GPU did not answer.", f"{error.message}", "Try again later.") from error
            if error is not None:
                raise error
            return result

        return call

    return decorate


@dataclass(frozen=True)
class Lent:
    """A model that is where the GPU is. ref: loads it again. identity: the checkpoint's."""

    ref: str
    identity: str

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Lent:
        """In the main thread the model is put on "cuda"; else it is read where the GPU is."""
        lent = cls(checkpoint.origin, checkpoint.identity)
        if threading.current_thread() is threading.main_thread():
            _came_along[lent] = checkpoint.model.to("cuda")
        return lent

    def compute(self, function: Callable[..., np.ndarray], pixels: np.ndarray, *more: Any) -> np.ndarray:
        """function(model, pixels, …) where the GPU is. function: of a module, so that it is found there.

        pixels: (B, 3, H, W). Raises NoGpu, and CheckpointError or HubError where the model cannot be read there.
        """
        return _compute(self, function, pixels, *more)


def _seconds(lent: Lent, function: Callable, pixels: np.ndarray, *more: Any) -> float:
    return SECONDS_TO_BEGIN + SECONDS_AN_IMAGE * len(pixels)


@gpu(_seconds)
def _compute(lent: Lent, function: Callable[..., np.ndarray], pixels: np.ndarray, *more: Any) -> np.ndarray:
    with torch.autocast("cuda", dtype=DTYPE):
        return function(_model(lent), torch.from_numpy(pixels).to("cuda"), *more)


_came_along: dict[Lent, torch.nn.Module] = {}
_read: OrderedDict[Lent, torch.nn.Module] = OrderedDict()


def _model(lent: Lent) -> torch.nn.Module:
    """The model, in the process that has the GPU."""
    if lent in _came_along:
        return _came_along[lent]
    if lent not in _read:
        checkpoint = load_checkpoint(lent.ref)
        if checkpoint.identity != lent.identity:
            raise CheckpointError(
                f"The files of {lent.ref} have changed.", f"It was {lent.identity}.", "Load the model again."
            )
        _read[lent] = checkpoint.model.to("cuda")
        if len(_read) > MAX_MODELS:
            _read.popitem(last=False)
    _read.move_to_end(lent)
    return _read[lent]
