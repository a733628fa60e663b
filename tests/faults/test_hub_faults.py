"""The Hub at its worst: each fault has its own message, soon, and a download that is killed breaks nothing.

The planted implementations are a bare `hf_hub_download`, and a download straight into its place.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import get_session

from demo import hub
from demo.checkpoint import load_checkpoint
from demo.errors import DemoError
from tests.faults.table import demand, planted
from tests.faulty_hub import COMMIT, Faults, contents, serve_faulty
from tests.hub_client import FETCH, Client

Figure = Callable[[str], None]
REF = "owner/name"
KILLS = 20

BARE = """
from pathlib import Path
from huggingface_hub import hf_hub_download
def bare(ref):
    paths = [hf_hub_download(ref, name) for name in ("config.json", "model.safetensors")]
    return Path(paths[0]).parent, Path(paths[0]).parent.name
"""
"""A loader that lets every error of huggingface_hub out; it stands before FETCH, which is to call it."""

DID_NOT_ARRIVE = r"^model\.safetensors of owner/name did not arrive\. .* Check the connection"
FAULTS = {
    "401": ({"status": 401}, r"It answered 401: it does not know the token\. Set HF_TOKEN"),
    "403": ({"status": 403}, r"It answered 403: not allowed\. Set HF_TOKEN"),
    "404": ({"status": 404}, r"It answered 404: there is nothing of that name\."),
    "429": ({"status": 429}, r"It answered 429: too many requests\. Wait a minute"),
    "500": ({"status": 500}, r"It answered 500: a fault of its own\. Try again later"),
    "503": ({"status": 503}, r"It answered 503: a fault of its own\. Try again later"),
    "cut connection": ({"cut": "and goes on"}, DID_NOT_ARRIVE),
    "cut connection, and none to go on with": ({"cut": "and starts over"}, DID_NOT_ARRIVE),
    "offline cold": ({}, r"^owner/name is not in the local cache\. HF_HUB_OFFLINE is set\. Unset it, or name a folder"),
}
"""By fault: what the stand-in does, and what the message says that no other one does."""


@pytest.fixture
def faults(tiny_checkpoint: Path) -> Faults:
    return Faults(files=contents(tiny_checkpoint))


@pytest.fixture
def endpoint(faults: Faults) -> Iterator[str]:
    with serve_faulty(faults) as endpoint:
        yield endpoint


def survive(kind: str, client: Client, faults: Faults, endpoint: str) -> float:
    """Seconds until the fault was told, from the request on. Fails where it was not, or not clearly, or too late."""
    changes, words = FAULTS[kind]
    for name, value in changes.items():
        setattr(faults, name, value)
    environment = {"HF_HUB_OFFLINE": "1"} if kind == "offline cold" else {}
    result = client.fetch(REF, endpoint, **environment)
    assert re.search(words, result["error"]), result
    assert REF in result["error"]
    assert result["seconds"] < (2 if kind == "offline cold" else 10), result
    return result["seconds"]


@demand("Hub faults")
@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_has_its_own_message_soon_and_the_next_try_works(
    kind: str, tmp_path: Path, faults: Faults, endpoint: str, figure: Figure
) -> None:
    client = Client(tmp_path / "hf-home")
    figure(f"{kind}: told in {survive(kind, client, faults, endpoint):.2f} s")
    assert "is not in the local cache" in client.refused(REF, endpoint, HF_HUB_OFFLINE="1")
    faults.status, faults.cut = 200, ""
    assert contents(Path(client.fetch(REF, endpoint)["folder"])) == faults.files


@demand("Hub faults")
def test_offline_a_cached_checkpoint_loads_without_a_request(
    tmp_path: Path, faults: Faults, endpoint: str, figure: Figure
) -> None:
    client = Client(tmp_path / "hf-home")
    client.fetch(REF, endpoint)
    faults.requests.clear()
    result = client.fetch(REF, endpoint, HF_HUB_OFFLINE="1")
    figure(f"offline warm: loads in {result['seconds']:.2f} s")
    assert (result["commit"], faults.requests) == (COMMIT, [])
    assert contents(Path(result["folder"])) == faults.files
    assert result["seconds"] < 10


@planted("Hub faults")
@pytest.mark.parametrize("kind", ["401", "404", "offline cold"])
def test_the_check_of_faults_catches_a_bare_download(kind: str, tmp_path: Path, faults: Faults, endpoint: str) -> None:
    client = Client(tmp_path / "hf-home", BARE + FETCH.replace("hub.fetch(ref)", "bare(ref)"))
    with pytest.raises(AssertionError, match="Traceback"):
        survive(kind, client, faults, endpoint)


# Kills


PROCESSES = multiprocessing.get_context("forkserver")  # whose children need not import torch again
PROCESSES.set_forkserver_preload([__name__])


def straight_into_its_place(repo: str, name: str, revision: str, report: object = None, token: object = None) -> str:
    """A careless download: what is there is taken for whole, and what is not is written where it will be read."""
    path = Path(constants.HF_HUB_CACHE) / "models--owner--name" / "snapshots" / COMMIT / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        answer = get_session().get(hf_hub_url(repo, name, revision=revision))
        if answer.status_code == 404:
            raise hub.RemoteEntryNotFoundError("no such file", response=answer)
        with path.open("wb", buffering=0) as file:
            for start in range(0, len(answer.content), 64 * 1024):
                file.write(answer.content[start : start + 64 * 1024])
                sys.audit("tests.wrote")
    return str(path)


def start(endpoint: str, home: Path, at: int, careless: bool, told: object) -> None:
    """A process that loads the checkpoint; killed at the step `at` of all that it does to files of its cache.

    Tells the message of an error, or the bytes of what it loaded from and the number of steps.
    """
    constants.ENDPOINT, constants.HF_HUB_CACHE = endpoint, str(home)
    constants.HUGGINGFACE_CO_URL_TEMPLATE = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    constants.DOWNLOAD_CHUNK_SIZE = 16 * 1024
    if careless:
        hub._download = straight_into_its_place
        hub.try_to_load_from_cache = lambda *_, **__: None
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def audited(event: str, arguments: tuple) -> None:
        if event == "tests.wrote" or any(str(home) in str(argument) for argument in arguments):
            step()

    update = hub._Progress.update
    hub._Progress.update = lambda self, n=1: (step(), update(self, n))[1]
    sys.addaudithook(audited)
    try:
        load_checkpoint(REF)
        told.send((contents(next(home.glob("models--owner--name/snapshots/*"))), steps))
    except DemoError as error:
        told.send((str(error), steps))


def after(endpoint: str, home: Path, at: int = 0, careless: bool = False) -> tuple[dict[str, bytes] | str | None, int]:
    """What `start` told; None from one that was killed."""
    receiver, sender = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=start, args=(endpoint, home, at, careless, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return None, at
    finally:
        receiver.close()
        process.join()
        assert process.exitcode == (0 if not at else -signal.SIGKILL)
        process.close()


def broken_by_kills(endpoint: str, folder: Path, files: dict[str, bytes], careless: bool = False) -> list[str]:
    """What the start after each kill came to, where that is not the whole checkpoint."""
    loaded, steps = after(endpoint, folder / "whole", careless=careless)
    assert loaded == files
    wrong = []
    for number in range(KILLS):
        home, at = folder / str(number), 1 + round(number * (steps - 2) / (KILLS - 1))
        assert after(endpoint, home, at, careless)[0] is None
        loaded, _ = after(endpoint, home, careless=careless)
        if loaded != files:
            wrong.append(f"killed at step {at} of {steps}: {loaded}")
        shutil.rmtree(home, ignore_errors=True)
    return wrong


@pytest.mark.faults
@demand("Hub faults")
def test_after_a_kill_at_any_step_of_a_download_the_next_start_works(
    endpoint: str, faults: Faults, tmp_path: Path, figure: Figure
) -> None:
    wrong = broken_by_kills(endpoint, tmp_path, faults.files)
    figure(f"{KILLS} SIGKILLs over all steps of a download: {len(wrong)} of the next starts failed")
    assert wrong == []


@pytest.mark.faults
@planted("Hub faults")
def test_the_check_of_kills_catches_a_download_straight_into_its_place(
    endpoint: str, faults: Faults, tmp_path: Path
) -> None:
    assert broken_by_kills(endpoint, tmp_path, faults.files, careless=True)
