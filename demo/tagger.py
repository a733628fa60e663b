"""Images to scores: device, precision, batching. One `Tagger` serves many threads.

Images that are tagged at the same time go through the model together (`demo.together`), unless the GPU is lent by the
call (`demo.zero`); preprocessing, and looking at
whether one's scores make sense, stay in the thread of whoever asked. Takes decoded images (see `demo.images`) and gives
probabilities; which labels are active is decided elsewhere (`demo.thresholds`, the page).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from demo import zero
from demo.checkpoint import Checkpoint
from demo.errors import BadInput, DemoError
from demo.losses import check_finite, check_logits
from demo.together import Turns

CORES = torch.get_num_threads()
"""That PyTorch computes on, unless it is told otherwise."""


@dataclass(frozen=True)
class Tagged:
    """Scores (L,) float32 in [0, 1] of one image, and the milliseconds the model took, waiting for it included."""

    scores: np.ndarray
    milliseconds: float


class NotComputed(DemoError):
    """The device did not run the model: its memory was full, say."""


def choose_device(wanted: str = "auto") -> str:
    """CUDA, then MPS, then CPU; raises BadInput for a device that is not here."""
    # on ZeroGPU nothing asks CUDA: it is there whenever it is lent
    available = {
        "cuda": zero.IS_HERE or torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return next(device for device, here in available.items() if here)
    if not available.get(wanted):
        here = ", ".join(device for device, there in available.items() if there)
        raise BadInput(f"The device {wanted} is not available.", f"PyTorch finds: {here}.", "Use --device auto.")
    return wanted


def choose_precision(device: str) -> tuple[str, torch.dtype | None]:
    """The name and autocast dtype that pay on a device: bf16 or fp16 on CUDA, fp16 on MPS, none on the CPU.

    On a CPU fp32: bf16 would be faster where the CPU has it, but scores would differ from machine to machine.
    """
    if device == "cuda":
        return ("bf16", torch.bfloat16) if zero.IS_HERE or torch.cuda.is_bf16_supported() else ("fp16", torch.float16)
    return ("fp16", torch.float16) if device == "mps" else ("fp32", None)


class Tagger:
    """A checkpoint on a device.

    Has `device` ("cpu", "cuda" or "mps") and `precision` ("fp32", "bf16" or "fp16"). Moves the checkpoint's model.
    lent: on ZeroGPU, the model where the GPU is; the one here computes nothing then. Each call is then the business of
    whoever asked, their quota and their refusal, so nobody's images go with another's and nobody waits for another.
    at_once: batches of `tag` that are computed at the same time on a CPU, which share its cores (see `demo.together`).
    With more than one, how many cores PyTorch takes is set here at each turn, since it keeps that number by thread.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "auto", at_once: int = 1) -> None:
        self.checkpoint = checkpoint
        self.device = choose_device(device)
        self.precision, self._dtype = choose_precision(self.device)
        self.lent = zero.Lent.of(checkpoint) if self.device == "cuda" and zero.is_lent() else None
        self._model = checkpoint.model.eval() if self.lent else checkpoint.model.to(self.device).eval()
        if self.device == "cuda" and not self.lent:
            self._model = self._model.to(memory_format=torch.channels_last)
        self._turns: Turns[torch.Tensor, torch.Tensor] = Turns(min(CORES, at_once) if self.device == "cpu" else 1)

    def scores(self, images: Sequence[Image.Image], batch_size: int = 32) -> np.ndarray:
        """Probabilities (N, L), float32 in [0, 1], of N decoded images of any size."""
        preprocess = self.checkpoint.preprocess
        parts = [
            self.forward(torch.stack([preprocess(image) for image in images[start : start + batch_size]]))
            for start in range(0, len(images), batch_size)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.checkpoint.labels)), np.float32)

    def tag(self, image: Image.Image) -> Tagged:
        """Scores of one image that somebody waits for; the time is without decoding and resizing. Raises as `forward`.

        Those that wait at the same time are one batch.
        """
        pixels = self.checkpoint.preprocess(image)
        started = time.perf_counter()
        with self.explained():
            logits = self._logits(pixels[None])[0] if self.lent else self._turns.together(pixels, self._batch)
        return Tagged(self._scores(logits[None])[0], (time.perf_counter() - started) * 1000)

    def forward(self, pixels: torch.Tensor) -> np.ndarray:
        """Probabilities (B, L) of pixels (B, 3, H, W); the sigmoid (softmax for a single-label head) in fp32.

        Gives way to `tag`. Raises TargetsError for NaN, and for outputs that already went through a sigmoid;
        NotComputed where the device does not run the model.
        """
        with self.explained(), nullcontext() if self.lent else self._turns.alone(is_behind=True):
            self._take_cores()
            logits = self._logits(pixels)
        return self._scores(logits)

    @contextmanager
    def running(self) -> Iterator[torch.nn.Module]:
        """The model, for one thread at a time, on its device and in its precision. As `explained`."""
        with self.explained(), self._turns.alone(), self._autocast():
            self._take_cores()
            yield self._model

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raises NotComputed for what the device raises inside."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
            why = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
            raise NotComputed(
                f"The model {self.checkpoint.identity} could not be run on {self.device}.",
                f"{why}.",
                "Try again; where memory is short, take a smaller model or smaller batches.",
            ) from error

    def _batch(self, batch: Sequence[torch.Tensor]) -> torch.Tensor:
        """`_logits` of pixels (3, H, W) each."""
        self._take_cores()
        return self._logits(torch.stack(list(batch)))

    def _take_cores(self) -> None:
        """For this thread's turn, its share of them: all, but where others have a turn as well."""
        if self._turns.seats > 1:
            torch.set_num_threads(CORES // self._turns.sharers)

    def _logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits (B, L), fp32 on the CPU; for whoever has the turn, or is lent the GPU."""
        if self.lent:
            return torch.from_numpy(self.lent.compute(_logits_of, pixels.numpy()))
        if self.device == "cuda":
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        with self._autocast():
            return torch.from_numpy(_logits_of(self._model, pixels.to(self.device, non_blocking=True)))

    @torch.inference_mode()
    def _scores(self, logits: torch.Tensor) -> np.ndarray:
        check_finite(logits) if self.checkpoint.single_label else check_logits(logits)
        return (logits.softmax(-1) if self.checkpoint.single_label else logits.sigmoid()).numpy()

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device, dtype=self._dtype) if self._dtype else nullcontext()


@torch.inference_mode()
def _logits_of(model: torch.nn.Module, pixels: torch.Tensor) -> np.ndarray:
    return model(pixels).float().cpu().numpy()
