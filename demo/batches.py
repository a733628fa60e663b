"""Images to scores by the batch: threads decode and resize ahead of the model; tensors wait, not photographs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from demo.errors import ImageRejected

if TYPE_CHECKING:
    import torch

    from demo.tagger import Tagger

Item = TypeVar("Item")


def scored(
    tagger: Tagger, items: Iterable[Item], pixels_of: Callable[[Item], torch.Tensor], batch_size: int, workers: int
) -> Iterator[tuple[list[Item], np.ndarray, list[tuple[Item, str]]]]:
    """Batch by batch: items, their scores (B, L), and the items met on the way that were rejected, with the reason.

    pixels_of: an item's pixels (3, H, W), in one of `workers` threads, up to two batches ahead of the model; where it
    raises ImageRejected or OSError the item is rejected.
    """
    import torch

    done, pixels, rejected = [], [], []

    def batch() -> tuple[list[Item], np.ndarray, list[tuple[Item, str]]]:
        labels = len(tagger.checkpoint.labels)
        return done, tagger.forward(torch.stack(pixels)) if pixels else np.zeros((0, labels), np.float32), rejected

    pool = ThreadPoolExecutor(workers)
    try:
        for item, future in _ahead(pool, pixels_of, items, 2 * batch_size):
            try:
                pixels.append(future.result())
                done.append(item)
            except (ImageRejected, OSError) as error:
                rejected.append((item, str(error)))
            if len(done) == batch_size:
                yield batch()
                done, pixels, rejected = [], [], []
        if done or rejected:
            yield batch()
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], torch.Tensor], items: Iterable[Item], count: int
) -> Iterator[tuple[Item, Future[torch.Tensor]]]:
    """Each item and its future, in order, with `count` more under way."""
    waiting: deque[tuple[Item, Future[torch.Tensor]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > count:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()
