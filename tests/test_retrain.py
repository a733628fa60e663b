"""The process beside the page: started once, watched, stopped; on small scripts in the place of the fine-tune."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

import pytest

from demo import run_process
from demo.errors import BadInput
from demo.retrain import Retraining, Run
from demo.settings import MAX_WAITING_RUNS, Settings

PREAMBLE = """
import json, os, signal, sys, time
from pathlib import Path
out = Path(sys.argv[sys.argv.index("--out") + 1])
def write(**values):
    (out / "new").write_text(json.dumps(values))
    (out / "new").replace(out / "progress.json")
"""
SLOW = """
def stop(*_):
    write(state="interrupted", phase="head", step=3, steps=9, message="Interrupted.")
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
write(state="running", phase="head", step=3, steps=9, loss=0.5, eta_seconds=6.0, history=[{"loss": 0.7}])
time.sleep(60)
"""
DONE = """
(out / "metrics.json").write_text(json.dumps({"verdict": "better", "arguments": sys.argv[1:]}))
write(state="done", phase="head", step=9, steps=9)
"""
BAD_INPUT = """
print("note: something", file=sys.stderr)
print("error: The CSV decides nothing.", file=sys.stderr)
sys.exit(2)
"""
FAILED = """
write(state="failed", phase="head", step=3, steps=9, message="The disk is full.")
print("error: The disk is full.", file=sys.stderr)
sys.exit(2)
"""
KILLED = """
write(state="running", phase="head", step=3, steps=9)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def retraining(tmp_path: Path) -> Callable[[str], Retraining]:
    """A function that gives a Retraining whose command is a small script."""

    def make(script: str) -> Retraining:
        (tmp_path / "script.py").write_text(PREAMBLE + script)
        return Retraining(Settings(runs=tmp_path / "runs", device="cpu"), (sys.executable, str(tmp_path / "script.py")))

    return make


def until(retraining: Retraining, wanted: Callable[[Run], bool]) -> Run:
    deadline = time.monotonic() + 60
    while not wanted(run := retraining.status()):
        assert time.monotonic() < deadline, run
        time.sleep(0.02)
    return run


def test_before_the_first_run_there_is_nothing(retraining: Callable[[str], Retraining]) -> None:
    assert retraining(DONE).status() == Run()


def test_a_run_is_watched_and_stopped(retraining: Callable[[str], Retraining], tmp_path: Path) -> None:
    slow = retraining(SLOW)
    assert slow.start(tmp_path / "c.csv", "tiny").state == "running"
    run = until(slow, lambda run: run.step == 3)
    assert (run.phase, run.steps, run.loss, run.eta_seconds) == ("head", 9, 0.5, 6.0)
    assert run.history == [{"loss": 0.7}]
    assert run.model == "tiny"
    assert slow.cancel().state == "interrupted"
    assert slow.cancel().state == "interrupted"


def test_a_second_request_waits_for_its_turn_and_then_runs(
    retraining: Callable[[str], Retraining], tmp_path: Path
) -> None:
    slow = retraining(SLOW)
    first = slow.start(tmp_path / "c.csv", "tiny")
    assert slow.start(tmp_path / "c.csv", "other").waiting == 1
    until(slow, lambda run: run.step == 3)
    slow.cancel()
    second = until(slow, lambda run: run.out != first.out and run.step == 3)
    assert (second.state, second.waiting) == ("running", 0)
    assert slow.cancel().state == "interrupted"


def test_what_a_run_came_to_is_kept_while_the_next_one_runs(
    retraining: Callable[[str], Retraining], tmp_path: Path
) -> None:
    runs = retraining(DONE)
    runs.start(tmp_path / "c.csv", "tiny")
    first = until(runs, lambda run: run.state == "done")
    (tmp_path / "script.py").write_text(PREAMBLE + SLOW)
    runs.start(tmp_path / "c.csv", "other")
    second = until(runs, lambda run: run.step == 3)
    assert (second.state, second.model, second.before, second.ended) == ("running", "other", first, first)
    assert first.metrics["verdict"] == "better"
    runs.start(tmp_path / "c.csv", "third")
    interrupted = runs.cancel(second.name)
    third = until(runs, lambda run: run.model == "third" and run.step == 3)
    assert (third.ended.state, third.ended.name, third.before.before) == ("interrupted", second.name, None)
    assert interrupted.ended.name in (second.name, first.name)  # the third may have begun
    assert runs.cancel(second.name).state == "running"  # it is not the one that was meant
    assert runs.cancel(third.name).ended.name == third.name


def test_a_run_that_ended_goes_on_after_the_one_that_runs(
    retraining: Callable[[str], Retraining], tmp_path: Path
) -> None:
    slow = retraining(SLOW)
    slow.start(tmp_path / "c.csv", "tiny")
    until(slow, lambda run: run.step == 3)
    first = slow.cancel()
    second = slow.start(tmp_path / "c.csv", "other")
    assert not second.ended.is_queued
    for _ in range(2):  # asked for twice, it waits once
        asked = slow.resume(first.name)
        assert (asked.waiting, asked.ended.is_queued) == (1, True)
    with pytest.raises(BadInput, match="no such fine-tune to go on with"):
        slow.resume(second.name)
    slow.cancel()
    again = until(slow, lambda run: run.model == "tiny" and run.state == "running")
    assert (again.name, again.waiting, again.ended.name) == (first.name, 0, second.name)
    with pytest.raises(BadInput, match="no such fine-tune to go on with"):
        slow.resume(first.name)
    slow.cancel()
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_run_does_not_go_on_where_the_corrections_have_changed(
    retraining: Callable[[str], Retraining], tmp_path: Path
) -> None:
    slow, csv = retraining(SLOW), tmp_path / "c.csv"
    csv.write_text("file_name,labels\n")
    slow.start(csv, "tiny")
    until(slow, lambda run: run.step == 3)
    first = slow.cancel()
    assert not first.is_stale
    slow.resume(first.name)
    until(slow, lambda run: run.step == 3)
    with csv.open("a") as file:
        file.write("cat.png,[]\n")
    assert slow.cancel().is_stale
    with pytest.raises(BadInput, match="The corrections have changed since it began"):
        slow.resume(first.name)
    slow.start(csv, "tiny")
    until(slow, lambda run: run.step == 3)
    assert not slow.cancel().is_stale


def test_where_the_server_ends_the_run_is_stopped_and_no_other_begins(
    retraining: Callable[[str], Retraining], tmp_path: Path
) -> None:
    slow, others = retraining(SLOW), set(threading.enumerate())
    slow.start(tmp_path / "c.csv", "tiny")
    slow.start(tmp_path / "c.csv", "tiny")
    watching = set(threading.enumerate()) - others
    until(slow, lambda run: run.step == 3)
    closed = slow.close()
    assert (closed.state, closed.waiting) == ("interrupted", 0)
    for thread in watching:
        thread.join()
    for begin in (lambda: slow.resume(closed.name), lambda: slow.start(tmp_path / "c.csv", "tiny")):
        with pytest.raises(BadInput, match="The server is ending"):
            begin()
    assert slow.status() == closed
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_requests_beyond_the_limit_are_refused_and_those_that_wait_can_be_taken_back(
    retraining: Callable[[str], Retraining], tmp_path: Path
) -> None:
    slow = retraining(SLOW)
    for _ in range(MAX_WAITING_RUNS + 1):
        slow.start(tmp_path / "c.csv", "tiny")
    with pytest.raises(BadInput, match="running already"):
        slow.start(tmp_path / "c.csv", "tiny")
    assert slow.forget_waiting().waiting == 0
    slow.cancel()
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_requests_that_no_folder_can_be_made_for_are_dropped(
    retraining: Callable[[str], Retraining], tmp_path: Path
) -> None:
    slow, runs, others = retraining(SLOW), tmp_path / "runs", set(threading.enumerate())
    slow.start(tmp_path / "c.csv", "tiny")
    slow.start(tmp_path / "c.csv", "tiny")
    watching = set(threading.enumerate()) - others
    until(slow, lambda run: run.step == 3)
    runs.rename(tmp_path / "moved")
    runs.write_text("a file")
    gone = slow.cancel()
    assert (gone.state, gone.message) == ("failed", f"Its log {gone.out}/log.txt cannot be read: Not a directory.")
    for thread in watching:
        thread.join()
    runs.unlink()
    assert slow.start(tmp_path / "c.csv", "tiny").waiting == 0
    slow.cancel()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), BadInput("It is not free yet.")])
def test_a_request_that_cannot_begin_holds_up_nobody_behind_it(
    retraining: Callable[[str], Retraining], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    slow, start = retraining(SLOW), run_process.start

    def begin(command: Sequence[str], arguments: Sequence[str], *more: Path) -> run_process.Process:
        if "bad" in arguments:
            raise error
        return start(command, arguments, *more)

    monkeypatch.setattr(run_process, "start", begin)
    with pytest.raises(BadInput, match=r"No space left|not free"):
        slow.start(tmp_path / "c.csv", "bad")
    for model in ("first", "bad", "bad", "last"):
        slow.start(tmp_path / "c.csv", model)
    slow.cancel()
    assert until(slow, lambda run: run.model == "last" and run.step == 3).waiting == 0
    slow.cancel()


def test_each_fine_tune_runs_in_the_name_of_whoever_asked_for_it(
    retraining: Callable[[str], Retraining], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, start, visitor, began = retraining(SLOW), run_process.start, ContextVar("visitor"), []

    def begin(*arguments: Any) -> run_process.Process:
        began.append(visitor.get("nobody"))
        return start(*arguments)

    def ask(name: str, what: Callable[..., Run], *arguments: Any) -> None:
        def named() -> None:
            visitor.set(name)
            what(*arguments)

        copy_context().run(named)

    monkeypatch.setattr(run_process, "start", begin)
    ask("ann", slow.start, tmp_path / "c.csv", "first")
    until(slow, lambda run: run.step == 3)
    first = slow.cancel()
    ask("bob", slow.start, tmp_path / "c.csv", "second")
    ask("cyd", slow.start, tmp_path / "c.csv", "third")
    ask("dan", slow.resume, first.name)
    for model in ("second", "third"):
        until(slow, lambda run, model=model: run.model == model and run.step == 3)
        slow.cancel()
    until(slow, lambda run: run.model == "first")
    slow.cancel()
    assert began == ["ann", "bob", "cyd", "dan"]


def test_an_interrupted_run_goes_on_in_its_own_folder(retraining: Callable[[str], Retraining], tmp_path: Path) -> None:
    slow = retraining(SLOW)
    slow.start(tmp_path / "c.csv", "tiny", ["--seed", "3"])
    with pytest.raises(BadInput, match="no such fine-tune to go on with"):
        slow.resume(slow.status().name)
    until(slow, lambda run: run.step == 3)
    interrupted = slow.cancel()
    (tmp_path / "script.py").write_text(PREAMBLE + DONE)
    slow.resume(interrupted.name)
    run = until(slow, lambda run: run.state != "running")
    assert (run.state, run.out) == ("done", interrupted.out)
    assert run.metrics["arguments"][-3:] == ["--seed", "3", "--resume"]


@pytest.mark.parametrize(("script", "state"), [(SLOW, "interrupted"), (FAILED, "failed")])
def test_going_on_that_is_refused_is_a_failed_run_with_its_own_reason(
    retraining: Callable[[str], Retraining], tmp_path: Path, script: str, state: str
) -> None:
    first = retraining(script)
    first.start(tmp_path / "c.csv", "tiny")
    until(first, lambda run: run.step == 3)
    if state == "interrupted":
        first.cancel()
    assert until(first, lambda run: run.state != "running").state == state
    for script, message in ((BAD_INPUT, "The CSV decides nothing."), ("sys.exit(2)", "It ended with exit code 2.")):
        (tmp_path / "script.py").write_text(PREAMBLE + script)
        first.resume(first.status().name)
        run = until(first, lambda run: run.state != "running")
        assert (run.state, run.message, run.step) == ("failed", message, 3)


def test_a_finished_run_gives_its_metrics_and_got_its_flags(
    retraining: Callable[[str], Retraining], tmp_path: Path
) -> None:
    done = retraining(DONE)
    done.start(tmp_path / "c.csv", "tiny", ["--seed", "3"])
    run = until(done, lambda run: run.state != "running")
    assert (run.state, run.metrics["verdict"]) == ("done", "better")
    csv = str(tmp_path / "c.csv")
    arguments = ["--csv", csv, "--model", "tiny", "--out", run.out, "--device", "cpu", "--seed", "3"]
    assert run.metrics["arguments"] == arguments


@pytest.mark.parametrize(
    ("script", "message"),
    [(BAD_INPUT, "The CSV decides nothing."), (KILLED, "SIGKILL"), ("raise ValueError('a bug')", "a bug")],
)
def test_a_process_that_died_is_a_failed_run_with_a_reason(
    retraining: Callable[[str], Retraining], tmp_path: Path, script: str, message: str
) -> None:
    dead = retraining(script)
    dead.start(tmp_path / "c.csv", "tiny")
    run = until(dead, lambda run: run.state != "running")
    assert run.state == "failed"
    assert message in run.message
    assert run.metrics == {}


def test_a_runs_folder_that_cannot_be_made_is_bad_input(
    retraining: Callable[[str], Retraining], tmp_path: Path
) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(BadInput, match="No fine-tune can begin in"):
        retraining(DONE).start(tmp_path / "c.csv", "tiny")


def test_a_run_cancelled_before_it_can_listen_counts_as_interrupted(
    retraining: Callable[[str], Retraining], tmp_path: Path
) -> None:
    early = retraining("time.sleep(60)")
    early.start(tmp_path / "c.csv", "tiny")
    assert early.cancel().state == "interrupted"


def test_where_retraining_is_closed_nothing_starts(tmp_path: Path) -> None:
    closed = Retraining(Settings(runs=tmp_path / "runs", retraining=False), (sys.executable, "-c", ""))
    with pytest.raises(BadInput, match="No fine-tune is started here"):
        closed.start(tmp_path / "c.csv", "tiny")
    with pytest.raises(BadInput, match="No fine-tune is started here"):
        closed.resume("one")
    assert closed.status() == Run()
    assert not (tmp_path / "runs").exists()
