"""SIGKILL against a fine-tune, at drawn moments of all of it; the checks are seen failing on a careless writer.

The default takes a minute or two; FAULTS=full, as `make test-faults` sets it, kills fifty runs.
"""

import csv
import hashlib
import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from demo import checkpoint, evaluate, finetune, progress, training
from demo.checkpoint import load_checkpoint
from demo.errors import EXIT_BAD_INPUT, EXIT_DONE, CheckpointError
from demo.layouts import CONFIG, METRICS
from demo.progress import PROGRESS
from demo.report import REPORT
from tests.faults.table import demand, planted

pytestmark = [pytest.mark.faults, pytest.mark.timeout(7200)]

KILLS = 50 if os.environ.get("FAULTS") == "full" else 10
WRITING_CALLS = ("open", "write", "fsync", "replace", "unlink")

PROCESSES = multiprocessing.get_context("forkserver")  # whose children need not import torch again
PROCESSES.set_forkserver_preload([__name__])


def put_in_place(path: Path, content: bytes) -> None:
    """A careless `put`: no other name, no sync."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.write(fd, content)
    os.close(fd)


def be_careless() -> None:
    """Have this process write in place, and the checkpoint's `config.json` before its other files."""
    files, save = {}, finetune.save_checkpoint

    def save_config_first(*arguments, **more) -> None:
        save(*arguments, **more)
        for path in sorted(files, key=lambda path: path.name != CONFIG):
            put_in_place(path, files[path])

    finetune.put = progress.put = put_in_place
    checkpoint.put = files.__setitem__
    finetune.save_checkpoint = save_config_first


class DiesAtCall:
    """Counts the system calls that write the state and the checkpoint in `folder`; at the given one it kills.

    A write it dies at writes half; any other call is made or not, by `rng`. `progress.json` is not counted: how
    often that is written goes by the clock.
    """

    def __init__(self, folder: Path, at: int, rng: random.Random) -> None:
        self.folder, self.calls, self.at, self.rng, self.is_counting = folder, 0, at, rng, True
        for name in WRITING_CALLS:
            setattr(os, name, self._counted(name, getattr(os, name)))
        put = progress.put

        def uncounted(*arguments) -> None:
            self.is_counting = False
            put(*arguments)
            self.is_counting = True

        progress.put = uncounted

    def _counted(self, name: str, call):
        def counted(*arguments, **more):
            where = arguments[0]
            path = Path(f"/proc/self/fd/{where}").readlink() if isinstance(where, int) else Path(where)
            reads = name == "open" and not arguments[1] & os.O_CREAT
            counts = self.is_counting and not reads and self.folder in (path, path.parent)
            self.calls += counts
            if not counts or self.calls != self.at:
                return call(*arguments, **more)
            if name == "write":
                call(arguments[0], arguments[1][: len(arguments[1]) // 2])
            elif self.rng.random() < 0.5:
                call(*arguments, **more)
            os.killpg(0, signal.SIGKILL)

        return counted


def work(arguments, folder, at, seed, careless, log, told) -> None:
    """A process that fine-tunes, and tells when it starts and what it took; dies at the call `at`."""
    os.setsid()
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(2, 1)
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # for the loaders' workers, as in a process of its own
    training.MIN_HEAD_STEPS = 1  # fifty runs: the head's epochs are nothing that a kill could break
    if careless:
        be_careless()
    told.send("started")
    counter, started = DiesAtCall(folder, at, random.Random(seed)), time.monotonic()
    code = finetune.main(arguments)
    told.send((counter.calls, time.monotonic() - started))
    os._exit(code)


class Runs:
    """Fine-tunes of one CSV in processes of their own; `calls` and `seconds` are those of the whole one."""

    def __init__(self, folder: Path, model: Path, make_image, careless: bool = False) -> None:
        self.folder, self.model, self.careless = folder, model, careless
        self.csv, self.log, self.old_files = folder / "c.csv", folder / "log.txt", digests(model)
        with self.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file_name", "labels", "rejected", "reviewed", "is_valid"])
            for number in range(24):
                (folder / f"{number}.png").write_bytes(make_image(number))
                present, absent = ("cat", "dog") if number % 2 else ("dog", "cat")
                cells = (json.dumps([present]), json.dumps([absent]), "listed", number % 5 == 0)
                writer.writerow([f"{number}.png", *cells])
        code, (self.calls, self.seconds) = self.run("whole")
        assert code == EXIT_DONE, self.log.read_text()
        self.whole = metrics(folder / "whole")

    def run(self, name: str, *flags: str, at: int = 0, after: float | None = None, seed: int = 0):
        """Exit code and what it told last, of a run into the folder `name`; killed `after` so many seconds."""
        common = ["--csv", str(self.csv), "--model", str(self.model), "--out", str(self.folder / name)]
        common += ["--device", "cpu", "--workers", "1", "--batch-size", "8", "--train", "full", "--epochs", "2"]
        common += ["--head-epochs", "5", "--blend", "1"]
        hears, tells = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(
            target=work, args=([*common, *flags], self.folder / name, at, seed, self.careless, self.log, tells)
        )
        process.start()
        tells.close()
        last = hears.recv()
        process.join(after)
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
        with suppress(EOFError):  # of one that came to no end
            last = hears.recv()
        return process.exitcode, last

    def kill(self, number: int) -> tuple[str, str, list[str]]:
        """Kill a run: where that hit it, what became of its folder, and everything that is wrong afterwards."""
        rng, name = random.Random(number), f"killed {number}"
        while True:
            if number % 2:
                code, _ = self.run(name, at=rng.randint(1, self.calls), seed=number)
            else:
                code, _ = self.run(name, after=rng.uniform(0, self.seconds))
            if code == -signal.SIGKILL:
                return self.check(self.folder / name)
            name += "+"  # it had ended already, or the system was slow to start it: draw again

    def check(self, folder: Path) -> tuple[str, str, list[str]]:
        hit, wrong = phase(folder), [] if digests(self.model) == self.old_files else ["the old checkpoint changed"]
        load_checkpoint(self.model)
        try:
            load_checkpoint(folder)
            fate = "whole"
            wrong += self.not_as_measured(folder)
        except CheckpointError as error:
            fate = "absent"
            if folder.exists() and "A fine-tune that has not finished" not in str(error):
                wrong.append(f"half there: {error}")
        code, _ = self.run(folder.name, "--resume")
        if code != (EXIT_BAD_INPUT if fate == "whole" else EXIT_DONE):
            wrong.append(f"--resume ended with {code}: {self.log.read_text()[-2000:]}")
        elif "Traceback" in self.log.read_text():
            wrong.append(self.log.read_text()[-2000:])
        elif metrics(folder) != self.whole:
            wrong.append("--resume came to other metrics")
        if leftovers := [path.name for path in folder.glob(".writing-*") if fate == "absent"]:
            wrong.append(f"left behind: {leftovers}")
        return hit, fate, wrong

    def not_as_measured(self, folder: Path) -> list[str]:
        """Of a folder that loads: whether it says of itself what `demo.evaluate` measures of it."""
        report = self.folder / "again.json"
        if not (folder / METRICS).exists():
            return ["half there: it has no metrics"]
        arguments = ["--csv", str(self.csv), "--model", str(folder), "--device", "cpu", "--json", str(report)]
        if evaluate.main(arguments) != EXIT_DONE:
            return ["it cannot be evaluated"]
        again, stored = (json.loads(path.read_text())["metrics"] for path in (report, folder / METRICS))
        return [] if again == pytest.approx(stored, abs=1e-6) else ["its scores are not those of its metrics"]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def metrics(folder: Path) -> dict:
    """The metrics, and of the model's identity the digest of its weights alone: the folders' names differ."""
    try:
        found = json.loads((folder / METRICS).read_text())
    except (OSError, ValueError) as error:
        return {"unreadable": str(error)}
    return found | {"model": found["model"].rpartition("@")[2]}


def phase(folder: Path) -> str:
    """What a killed run was at."""
    if (folder / CONFIG).exists():
        return "what comes after the last file"
    if (folder / REPORT).exists():
        return "the final files"
    try:
        return json.loads((folder / PROGRESS).read_text())["phase"]
    except FileNotFoundError:
        return "what comes before it begins"


@demand("retraining")
def test_a_killed_fine_tune_leaves_all_or_nothing_and_goes_on(tmp_path, tiny_checkpoint, make_image, figure):
    runs = Runs(tmp_path, tiny_checkpoint, make_image)
    came_to = [runs.kill(number) for number in range(KILLS)]
    amiss = [wrong for *_, wrong in came_to if wrong]
    figure(f"{KILLS} kills of a run of {runs.seconds:.1f} s and {runs.calls} calls that write: {len(amiss)} amiss")
    for (hit, fate), count in sorted(Counter((hit, fate) for hit, fate, _ in came_to).items()):
        figure(f"{count} at {hit}: the new checkpoint is {fate}")
    assert amiss == []


@planted("retraining")
def test_the_check_of_killed_fine_tunes_catches_writing_in_place(tmp_path, tiny_checkpoint, make_image):
    runs = Runs(tmp_path, tiny_checkpoint, make_image, careless=True)
    wrong = []
    for at in range(2, runs.calls, 7):  # within the first state, and within the checkpoint's weights
        runs.run(f"killed {at}", at=at)
        wrong += runs.check(tmp_path / f"killed {at}")[2]
    assert any("half there" in said for said in wrong)
    assert any("--resume" in said for said in wrong)
