"""When a fine-tune's model is compiled (`torch.compile`): on a GPU, where the run is long enough to pay for it.

PyTorch's own figures are 43 % more training steps a second on an A100, over 163 models
(https://pytorch.org/get-started/pytorch-2-x/); compiling forward and backward takes a minute or so. Which of the two
is more goes by arithmetic and not by a watch: same seed, same machine, same metrics. Not measured here. Where it cannot
be, for want of a C compiler or for what a compiler makes of a model, the run goes on as any other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch._dynamo.exc import TorchDynamoException
from torch.utils.flop_counter import FlopCounterMode

from demo import zero

PAYS_FROM = 5e16
"""Floating-point operations of a whole training: five minutes of a GPU that does 1.7e14 a second in bf16, of which
compiling saves one and a half. Slower GPUs would gain from less."""


def forward_of(model: torch.nn.Module, device: str, pixels: tuple[int, int, int], images: int) -> Callable:
    """What gives the logits of `model`, whose parameters stay its own: the model, or compiled where that pays.

    pixels: (3, H, W) of an image. images: how many times one goes through forward and backward.
    """
    # on ZeroGPU each call would compile anew
    if device != "cuda" or zero.IS_HERE or training_flops(model, pixels) * images < PAYS_FROM:
        return model
    return where_it_can_be(torch.compile(model), model)


def where_it_can_be(compiled: Callable, model: Callable) -> Callable:
    """What gives the logits of `compiled`, which is compiled when it is first called, or of `model` once that fails."""
    forward = compiled

    def logits(pixels: torch.Tensor) -> torch.Tensor:
        nonlocal forward
        try:
            return forward(pixels)
        except TorchDynamoException as error:
            why = str(error).strip().partition("\n")[0]
            print(f"note: the model could not be compiled, and is trained without: {why}", file=sys.stderr)
            forward = model
        return forward(pixels)

    return logits


def training_flops(model: torch.nn.Module, pixels: tuple[int, int, int]) -> float:
    """Floating-point operations of one image forward and backward; backward takes two matrix products for each one."""
    device = next(model.parameters()).device
    model.eval()  # batch norms have no statistics of one image
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *pixels, device=device))
    return 3.0 * counter.get_total_flops()
