"""One model and many who want it at once: batches form by themselves, and everybody gets their own."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context

import numpy as np
import pytest
import torch
from PIL import Image

from demo import together
from demo.batches import scored
from demo.checkpoint import Checkpoint, load_checkpoint
from demo.errors import TargetsError
from demo.tagger import NotComputed, Tagger
from demo.together import PASSED_BY, Turns
from demo.zero import NoGpu
from tests.waiting import until


class Model:
    """Doubles numbers; `hold()` keeps it busy until the block ends. calls: the batches it was given, in order."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.free, self.started = threading.Event(), threading.Event()
        self.free.set()
        self.turns: Turns[int, int] = Turns()
        self.compute: Callable[[Sequence[int]], Sequence[int]] = self.double

    def ask(self, number: int) -> int:
        return self.turns.together(number, self.compute)

    def double(self, numbers: Sequence[int]) -> list[int]:
        self.calls.append(list(numbers))
        self.started.set()
        assert self.free.wait(60)
        return [2 * number for number in numbers]

    @contextmanager
    def hold(self, pool: ThreadPoolExecutor, number: int = 0) -> Iterator[Future[int]]:
        """Busy with a number that came first; what is asked for inside the block queues up."""
        self.free.clear()
        self.started.clear()
        first = pool.submit(self.ask, number)
        assert self.started.wait(60)
        yield first
        self.free.set()

    def wait_for(self, count: int) -> None:
        """Until so many are waiting."""
        until(lambda: len(self.turns._waiting) == count)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as threads:
        yield threads


@pytest.fixture
def model() -> Model:
    return Model()


def test_an_idle_model_begins_at_once_and_alone(model: Model) -> None:
    assert [model.ask(number) for number in (3, 4)] == [6, 8]
    assert model.calls == [[3], [4]]


def test_what_came_while_the_model_was_busy_is_one_batch(model: Model, pool: ThreadPoolExecutor) -> None:
    with model.hold(pool) as first:
        others = [pool.submit(model.ask, number) for number in range(1, 21)]
        model.wait_for(20)
    assert [future.result(60) for future in (first, *others)] == [2 * number for number in range(21)]
    assert [sorted(call) for call in model.calls] == [[0], list(range(1, 21))]


def test_a_batch_has_a_limit_and_the_rest_is_the_next(
    model: Model, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "MOST_TOGETHER", 8)
    with model.hold(pool):
        others = [pool.submit(model.ask, number) for number in range(1, 21)]
        model.wait_for(20)
    assert [future.result(60) for future in others] == [2 * number for number in range(1, 21)]
    assert [len(call) for call in model.calls] == [1, 8, 8, 4]


@pytest.mark.parametrize("bad", [1, 7, 20])
def test_one_that_fails_in_a_batch_fails_alone(pool: ThreadPoolExecutor, bad: int) -> None:
    model = Model()

    def compute(numbers: Sequence[int]) -> list[int]:
        doubled = model.double(numbers)
        if bad in numbers:
            raise ValueError(f"{bad} is bad")
        return doubled

    model.compute = compute
    with model.hold(pool):
        others = {number: pool.submit(model.ask, number) for number in range(1, 21)}
        model.wait_for(20)
    for number, future in others.items():
        if number == bad:
            with pytest.raises(ValueError, match="is bad"):
                future.result(60)
        else:
            assert future.result(60) == 2 * number
    assert model.ask(5) == 10


def test_what_a_batch_that_failed_took_is_free_again_before_its_images_are_computed_alone(
    pool: ThreadPoolExecutor,
) -> None:
    model, taken, held = Model(), [], []

    def compute(numbers: Sequence[int]) -> list[int]:
        held.append(sum(memory() is not None for memory in taken))
        memory = np.zeros(len(numbers))
        taken.append(weakref.ref(memory))
        doubled = model.double(numbers)
        if len(numbers) > 1:
            raise MemoryError(f"{len(memory)} are too many")
        return doubled

    model.compute = compute
    with model.hold(pool):
        others = [pool.submit(model.ask, number) for number in range(1, 6)]
        model.wait_for(5)
    assert [future.result(60) for future in others] == [2, 4, 6, 8, 10]
    assert [len(call) for call in model.calls] == [1, 5, 1, 1, 1, 1, 1]
    assert held == [0] * 7


def test_too_few_results_are_an_error_and_not_a_neighbours() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Turns().together(1, lambda numbers: [])


def test_when_the_thread_that_computes_is_ended_nobody_waits_for_ever(pool: ThreadPoolExecutor) -> None:
    model, ended = Model(), [True]

    def compute(numbers: Sequence[int]) -> list[int]:
        doubled = model.double(numbers)
        if len(numbers) > 1 and ended.pop():
            raise KeyboardInterrupt
        return doubled

    model.compute = compute
    with model.hold(pool):
        others = [pool.submit(model.ask, number) for number in range(1, 6)]
        model.wait_for(5)
    raised = [type(future.exception(60)) for future in others]
    assert raised.count(KeyboardInterrupt) == 1
    assert raised.count(RuntimeError) == 4
    assert model.ask(5) == 10


def interrupted(monkeypatch: pytest.MonkeyPatch, is_called: bool = False) -> threading.Event:
    """Ctrl+C for the thread named "leaves": once this event is set while it waits, or as its turn comes."""
    wait, going = threading.Event.wait, threading.Event()

    def leave(event: threading.Event, timeout: float | None = None) -> bool:
        if threading.current_thread().name == "leaves" and timeout is None:
            wait(event if is_called else going, 60)
            raise KeyboardInterrupt
        return wait(event, timeout)

    monkeypatch.setattr(threading.Event, "wait", leave)
    return going


@pytest.mark.parametrize("is_called", [False, True], ids=["while it waits", "as its turn comes"])
def test_one_who_goes_while_waiting_holds_up_nobody(
    model: Model, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, is_called: bool
) -> None:
    going = interrupted(monkeypatch, is_called)
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            model.ask(1)
        except KeyboardInterrupt as error:
            caught.append(error)

    with model.hold(pool):
        one = threading.Thread(target=ask, name="leaves", daemon=True)
        one.start()
        model.wait_for(1)
        other = pool.submit(model.ask, 2)
        model.wait_for(2)
        if not is_called:
            going.set()
            one.join(60)
    one.join(60)
    assert len(caught) == 1
    assert other.result(60) == 4
    assert model.ask(5) == 10


def test_work_in_the_background_gives_way_to_those_who_wait(model: Model, pool: ThreadPoolExecutor) -> None:
    order: list[str] = []

    def behind() -> None:
        with model.turns.alone(is_behind=True):
            order.append("behind")

    def asked() -> None:
        with model.turns.alone():
            order.append("asked")

    with model.hold(pool):
        waiting = [pool.submit(behind)]
        model.wait_for(1)
        waiting += [pool.submit(model.ask, 1), pool.submit(asked)]
        model.wait_for(3)
    for future in waiting:
        future.result(60)
    assert order == ["asked", "behind"]
    assert model.calls == [[0], [1]]


def test_work_in_the_background_is_passed_by_so_often_and_no_more(model: Model, pool: ThreadPoolExecutor) -> None:
    order: list[str] = []

    def work(name: str, is_behind: bool) -> None:
        with model.turns.alone(is_behind):
            order.append(name)

    with model.hold(pool):
        waiting = [pool.submit(work, "behind", True)]
        model.wait_for(1)
        for number in range(PASSED_BY + 4):
            waiting.append(pool.submit(work, "asked", False))
            model.wait_for(2 + number)
    for future in waiting:
        future.result(60)
    assert order == ["asked"] * PASSED_BY + ["behind"] + ["asked"] * 4


@pytest.mark.parametrize("seats", [1, 2])
def test_no_more_have_the_model_at_once_than_there_are_seats_and_who_has_it_alone_does(
    pool: ThreadPoolExecutor, seats: int
) -> None:
    inside: list[str] = []
    seen: set[tuple[str, ...]] = set()

    def enter(numbers: Sequence[int], who: str = "together") -> list[int]:
        inside.append(who)
        threading.Event().wait(0.0005)
        seen.add(tuple(sorted(inside)))
        inside.remove(who)
        return list(numbers)

    turns: Turns[int, int] = Turns(seats)

    def alone(is_behind: bool) -> None:
        with turns.alone(is_behind):
            enter([0], "alone")

    calls = [pool.submit(turns.together, number, enter) for number in range(200)]
    calls += [pool.submit(alone, number % 2 == 0) for number in range(100)]
    assert [future.result(60) for future in calls[:200]] == list(range(200))
    assert [future.result(60) for future in calls[200:]] == [None] * 100
    assert seen == {("alone",), *(("together",) * number for number in range(1, seats + 1))}
    assert not turns._having


def test_of_two_seats_the_second_is_taken_at_once_and_what_comes_then_is_shared(
    model: Model, pool: ThreadPoolExecutor
) -> None:
    model.turns = Turns(2)
    sharers: list[int] = []

    def compute(numbers: Sequence[int]) -> list[int]:
        sharers.append(model.turns.sharers)
        return model.double(numbers)

    model.compute = compute
    with model.hold(pool):
        second = pool.submit(model.ask, 1)
        until(lambda: len(model.calls) == 2)
        others = [pool.submit(model.ask, number) for number in range(2, 6)]
        model.wait_for(4)
    assert [future.result(60) for future in (second, *others)] == [2, 4, 6, 8, 10]
    assert model.calls[:2] == [[0], [1]]
    assert sorted(number for call in model.calls[2:] for number in call) == [2, 3, 4, 5]
    assert sharers[:2] == [1, 2]
    assert model.ask(7) == 14
    assert sharers[-1] == 1


def test_who_wants_both_seats_is_not_passed_by_for_the_one_that_is_free(model: Model, pool: ThreadPoolExecutor) -> None:
    model.turns, order = Turns(2), []

    def alone() -> None:
        with model.turns.alone():
            order.append(len(model.calls))

    with model.hold(pool):
        waiting = [pool.submit(alone)]
        model.wait_for(1)
        waiting.append(pool.submit(model.ask, 1))
        model.wait_for(2)
    for future in waiting:
        future.result(60)
    assert order == [1], "the one who came later was let in before"


def test_when_who_wanted_both_seats_goes_the_next_takes_the_free_one(
    model: Model, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.turns, going = Turns(2), interrupted(monkeypatch)

    def alone() -> None:
        with suppress(KeyboardInterrupt), model.turns.alone():
            raise AssertionError("it had its turn")

    with model.hold(pool) as first:
        one = threading.Thread(target=alone, name="leaves", daemon=True)
        one.start()
        model.wait_for(1)
        other = pool.submit(model.ask, 1)
        model.wait_for(2)
        going.set()
        until(lambda: model.calls == [[0], [1]])
    assert (first.result(60), other.result(60)) == (0, 2)
    assert not model.turns._having


def test_what_an_error_came_from_is_gone_with_it() -> None:
    def asked() -> weakref.ref:
        model = Model()
        model.compute = lambda numbers: [number // 0 for number in numbers]
        try:
            model.ask(1)
        except ZeroDivisionError:
            return weakref.ref(model)
        raise AssertionError("no error")

    collects = gc.isenabled()
    gc.disable()
    try:
        assert asked()() is None
    finally:
        gc.enable() if collects else None


# With a real model


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(7)
    return [Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)).resize((96, 64)) for _ in range(40)]


def crossed(tagger: Tagger, pictures: list[Image.Image], alone: np.ndarray) -> int:
    """How many of 40 threads, three times, got the scores of another image than their own."""
    ready = threading.Barrier(len(pictures))

    def ask(number: int) -> int:
        wrong = 0
        for turn in range(3):
            ready.wait(60)
            own = (number + turn) % len(pictures)
            distances = np.abs(alone - tagger.tag(pictures[own]).scores).max(1)
            wrong += not (distances[own] < 1e-5 and distances.argmin() == own)
        return wrong

    with ThreadPoolExecutor(len(pictures)) as threads:
        return sum(threads.map(ask, range(len(pictures))))


def counted(tagger: Tagger, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that go through the model from now on."""
    sizes, logits = [], tagger._logits

    def count(pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        return logits(pixels)

    monkeypatch.setattr(tagger, "_logits", count)
    return sizes


@pytest.fixture
def tagger(loaded_tiny: Checkpoint) -> Tagger:
    return Tagger(loaded_tiny, "cpu")


def test_of_forty_who_tag_at_once_each_gets_their_own_images_scores(
    tagger: Tagger, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = tagger.scores(pictures)
    distances = np.abs(alone[:, None] - alone).max(2) + np.eye(len(alone))
    assert distances.min() > 1e-3, "the images score alike, so nothing is said here"
    sizes = counted(tagger, monkeypatch)
    assert crossed(tagger, pictures, alone) == 0
    assert sum(sizes) == 3 * len(pictures)
    assert max(sizes) > 1, "no batch formed"


def test_the_check_of_crossed_results_catches_answers_in_another_order(
    tagger: Tagger, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, logits = tagger.scores(pictures), tagger._logits
    monkeypatch.setattr(tagger, "_logits", lambda pixels: logits(pixels).flip(0))
    assert crossed(tagger, pictures, alone) > 0


def test_an_image_that_makes_the_model_say_nan_fails_alone(
    tiny_checkpoint: object, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    tagger = Tagger(load_checkpoint(tiny_checkpoint), "cpu")
    alone, preprocess = tagger.scores(pictures), tagger.checkpoint.preprocess

    def poisoned(image: Image.Image) -> torch.Tensor:
        pixels = preprocess(image)
        return pixels * torch.nan if image is pictures[3] else pixels

    monkeypatch.setattr(tagger.checkpoint, "preprocess", poisoned)
    sizes = counted(tagger, monkeypatch)
    with ThreadPoolExecutor(len(pictures)) as threads:
        with tagger.running():  # busy, until all wait
            asked = [threads.submit(tagger.tag, picture) for picture in pictures]
            until(lambda: len(tagger._turns._waiting) == len(pictures))
        for number, future in enumerate(asked):
            if number == 3:
                with pytest.raises(TargetsError, match="NaN"):
                    future.result(60)
            else:
                assert np.abs(future.result(60).scores - alone[number]).max() < 1e-5
    assert sorted(sizes) == [8, 32]


def test_of_those_in_a_batch_that_the_device_does_not_run_each_is_told(
    tagger: Tagger, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def refuse(pixels: torch.Tensor) -> None:
        sizes.append(len(pixels))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patched, ThreadPoolExecutor(4) as threads:
        patched.setattr(tagger, "_logits", refuse)
        with tagger.running():  # busy, until all wait
            asked = [threads.submit(tagger.tag, picture) for picture in pictures[:3]]
            until(lambda: len(tagger._turns._waiting) == 3)
            asked.append(threads.submit(tagger.scores, pictures[:2]))
            until(lambda: len(tagger._turns._waiting) == 4)
        for future in asked:
            with pytest.raises(NotComputed, match=r"could not be run on cpu\. CUDA out of memory\. Try again"):
                future.result(60)
    assert sizes == [3, 1, 1, 1, 2]
    assert tagger.tag(pictures[0]).scores.shape == (len(tagger.checkpoint.labels),)


def test_a_batch_has_all_cores_unless_others_want_the_model(
    loaded_tiny: Checkpoint, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.tagger.CORES", 4)
    tagger = Tagger(loaded_tiny, "cpu", at_once=2)
    before, cores, logits = torch.get_num_threads(), [], tagger._logits
    inside, going = threading.Event(), threading.Event()

    def count(pixels: torch.Tensor) -> torch.Tensor:
        cores.append(torch.get_num_threads())
        inside.set()
        assert going.wait(60)
        return logits(pixels)

    monkeypatch.setattr(tagger, "_logits", count)
    try:
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(tagger.tag, pictures[0])
            assert inside.wait(60)
            second = threads.submit(tagger.tag, pictures[1])
            until(lambda: len(cores) == 2)
            going.set()
            first.result(60), second.result(60)
            threads.submit(tagger.scores, pictures[:2]).result(60)
        with tagger.running():
            cores.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(before)
    assert cores == [4, 2, 4, 4]


def test_who_tags_alone_leaves_pytorch_the_cores_it_was_given(tagger: Tagger, pictures: list[Image.Image]) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        tagger.tag(pictures[0])
        tagger.scores(pictures[:2])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_photos_that_are_tagged_in_the_background_let_a_visitor_in_after_each_batch(
    tagger: Tagger, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = counted(tagger, monkeypatch)
    with ThreadPoolExecutor(2) as threads:
        batches = scored(tagger, pictures, tagger.checkpoint.preprocess, 8, 1)
        with tagger.running():  # busy, until both wait, and the background came first
            background = threads.submit(lambda: list(batches))
            until(lambda: len(tagger._turns._waiting) == 1)
            visitor = threads.submit(tagger.tag, pictures[0])
            until(lambda: len(tagger._turns._waiting) == 2)
        visitor.result(60)
        assert len(background.result(60)) == 5
    assert sizes == [1, 8, 8, 8, 8, 8]


def test_a_tagger_that_nobody_holds_any_more_is_gone_at_once(tiny_checkpoint: object) -> None:
    tagger = Tagger(load_checkpoint(tiny_checkpoint), "cpu")
    tagger.tag(Image.new("RGB", (40, 30)))
    held = weakref.ref(tagger)
    del tagger
    assert held() is None, "a model takes a gigabyte, which must not wait for a collection of garbage"


class LentGpu:
    """A GPU that is lent by the call, which is answered when `calls` are there at once; it is refused to `refused`."""

    visitor: ContextVar[str] = ContextVar("visitor")

    def __init__(self, tagger: Tagger, calls: int, refused: str) -> None:
        self.model, self.refused, self.all_are_there = tagger._model, refused, threading.Barrier(calls)
        self.asked: list[tuple[str, int]] = []

    def compute(self, function: Callable, pixels: np.ndarray) -> np.ndarray:
        self.asked.append((self.visitor.get("nobody"), len(pixels)))
        self.all_are_there.wait(20)
        if self.visitor.get("nobody") == self.refused:
            raise NoGpu("The GPU did not answer.", "The quota is used up.")
        return function(self.model, torch.from_numpy(pixels))


def test_on_a_gpu_that_is_lent_each_call_is_its_askers_own_and_waits_for_no_other(
    tagger: Tagger, pictures: list[Image.Image]
) -> None:
    alone, names = tagger.scores(pictures[:4]), ["ann", "bob", "cyd"]
    tagger.lent = lent = LentGpu(tagger, len(names) + 1, refused="bob")

    def ask(name: str, function: Callable, item: object) -> object:
        def named() -> object:
            lent.visitor.set(name)
            return function(item)

        return copy_context().run(named)

    with ThreadPoolExecutor(4) as threads:
        asked = {name: threads.submit(ask, name, tagger.tag, pictures[at]) for at, name in enumerate(names)}
        album = threads.submit(ask, "dan", tagger.scores, pictures[:4])
        with pytest.raises(NoGpu, match="quota"):
            asked["bob"].result(60)
        for at in (0, 2):
            assert np.abs(asked[names[at]].result(60).scores - alone[at]).max() < 1e-5
        assert np.abs(album.result(60) - alone).max() < 1e-5
    assert sorted(lent.asked) == [("ann", 1), ("bob", 1), ("cyd", 1), ("dan", 4)]
