"""Checkpoints from a Hub: what a client in a process of its own gets from a real server, and from broken ones.

The real one is olah. It cannot be made to fail on demand, so the faults come from a stand-in, `tests/faulty_hub.py`.
"""

from __future__ import annotations

import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from demo import hub
from demo.checkpoint import save_checkpoint
from tests.faulty_hub import COMMIT, Faults, contents, serve_faulty
from tests.hub_client import FETCH, ROOT, TOKEN, Client, run_client
from tests.hub_server import HubServer, free_port, serve_hub

SCORE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, timm, torch
from demo.checkpoint import load_checkpoint
pixels = torch.from_numpy(np.load(sys.argv[1]))
logits, identities = {}, {}
with torch.inference_mode():
    for ref in sys.argv[3:]:
        if ref.startswith("hf-hub:"):
            model = timm.create_model(ref, pretrained=True).eval()
        else:
            checkpoint = load_checkpoint(ref)
            model, identities[ref] = checkpoint.model, [checkpoint.identity, list(checkpoint.labels.names)]
        logits[ref] = model(pixels).numpy()
np.savez(sys.argv[2], **logits)
print(json.dumps(identities))
"""


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "hf-home")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with serve_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@dataclass(frozen=True)
class Published:
    """`owner/name` with two revisions: folders by tag, commits by tag. main is at `second`."""

    folders: dict[str, Path]
    commits: dict[str, str]


@pytest.fixture(scope="session")
def published(server: HubServer, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    from tests.conftest import seeded_checkpoint

    second = tmp_path_factory.mktemp("checkpoints") / "second"
    save_checkpoint(second, seeded_checkpoint(1))
    folders = {"first": tiny_checkpoint, "second": second}
    return Published(folders, {tag: server.publish("owner/name", folder, tag) for tag, folder in folders.items()})


@pytest.fixture(scope="session")
def scored(
    server: HubServer, published: Published, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, list], dict[str, np.ndarray], Path]:
    """Identities and label names by ref, logits by ref, and the HF_HOME that they filled."""
    folder = tmp_path_factory.mktemp("scored")
    np.save(folder / "pixels.npy", np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32))
    refs = ["owner/name", "owner/name@first", "owner/name@main", f"owner/name@{published.commits['first']}"]
    refs += ["hf-hub:owner/name", "hf-hub:owner/name@first", *map(str, published.folders.values())]
    home = folder / "hf-home"
    identities = run_client(
        SCORE, folder / "pixels.npy", folder / "logits.npz", *refs, endpoint=server.endpoint, home=home
    )
    with np.load(folder / "logits.npz") as logits:
        return identities, dict(logits), home


# A real Hub


def test_the_identity_of_a_hub_checkpoint_names_the_whole_commit(scored: tuple, published: Published) -> None:
    identities = {ref: identity for ref, (identity, _) in scored[0].items()}
    first, second = (published.commits[tag] for tag in ("first", "second"))
    assert re.fullmatch(r"[0-9a-f]{40}", first)
    assert identities["owner/name"] == identities["owner/name@main"] == f"owner/name@{second}"
    assert identities["owner/name@first"] == identities[f"owner/name@{first}"] == f"owner/name@{first}"


def test_a_hub_checkpoint_scores_as_the_folder_that_was_published(scored: tuple, published: Published) -> None:
    identities, logits, _ = scored
    for tag, ref in (("first", "owner/name@first"), ("second", "owner/name")):
        folder = str(published.folders[tag])
        assert np.array_equal(logits[ref], logits[folder])
        assert identities[ref][1] == identities[folder][1]
    assert not np.allclose(logits["owner/name"], logits["owner/name@first"])


def test_timm_loads_our_layout_from_the_hub_with_the_same_logits(scored: tuple) -> None:
    _, logits, _ = scored
    assert np.array_equal(logits["hf-hub:owner/name"], logits["owner/name"])
    assert np.array_equal(logits["hf-hub:owner/name@first"], logits["owner/name@first"])


def test_a_cached_checkpoint_loads_without_the_hub(scored: tuple, published: Published) -> None:
    warm, gone = Client(scored[2]), f"http://127.0.0.1:{free_port()}"
    for ref, tag in (("owner/name", "second"), ("owner/name@first", "first")):
        for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
            result = warm.fetch(ref, gone, **environment)
            assert result["commit"] == published.commits[tag]
            assert result["seconds"] < 10
            assert contents(Path(result["folder"])) == contents(published.folders[tag])


def test_every_file_is_of_one_commit_even_when_the_branch_moves_meanwhile(
    server: HubServer, published: Published, client: Client
) -> None:
    first, second = (published.commits[tag] for tag in ("first", "second"))
    server.git("owner/name", "branch", "--force", "moving", first)
    move = ["git", "-C", str(server.mirrors / "models/owner/name"), "branch", "--force", "moving", second]
    moving = f"""
from demo import hub
download = hub.hf_hub_download
def then_move(*args, **kwargs):
    path = download(*args, **kwargs)
    subprocess.run({move!r}, check=True)
    return path
hub.hf_hub_download = then_move
"""
    code = FETCH.replace("results = []", moving + "results = []")
    (result,) = run_client(code, "owner/name@moving", endpoint=server.endpoint, home=client.home)
    assert result["commit"] == first
    assert contents(Path(result["folder"])) == contents(published.folders["first"])
    assert client.fetch("owner/name@moving", server.endpoint)["commit"] == second


def test_a_repo_or_revision_that_is_not_there_is_named(server: HubServer, published: Published, client: Client) -> None:
    message = client.refused("owner/nothing", server.endpoint)
    assert "owner/nothing" in message
    assert "does not exist, or it is private" in message
    assert "owner/name@no-such-tag" in client.refused("owner/name@no-such-tag", server.endpoint)


def test_the_command_line_ends_with_the_message_and_exit_code_2(tmp_path: Path, image_folder: Path) -> None:
    command = [sys.executable, "-m", "demo.tag", str(image_folder), "--model", "owner/name", "--out", "tags.csv"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("error: owner/name is not in the local cache.")
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stderr + done.stdout


class _RunsCode:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_repo_with_only_a_pickle_is_refused_and_the_pickle_never_runs(
    server: HubServer, tiny_checkpoint: Path, client: Client, tmp_path: Path
) -> None:
    folder, trace = tmp_path / "pickled", tmp_path / "trace"
    folder.mkdir()
    shutil.copy(tiny_checkpoint / "config.json", folder)
    pickled = pickle.dumps({"head.weight": _RunsCode(trace)})
    for name in ("pytorch_model.bin", "model.bin", "model.pth", "open_clip_pytorch_model.bin"):
        (folder / name).write_bytes(pickled)
    server.publish("owner/pickled", folder)
    message = client.refused("owner/pickled", server.endpoint)
    assert "owner/pickled has no model.safetensors." in message
    assert hub.ONLY_SAFETENSORS in message
    assert not trace.exists()
    assert not any(path.name.endswith((".bin", ".pth")) for path in client.home.rglob("*"))
    pickle.loads(pickled)
    assert trace.exists(), "the pickle is harmless, so the test says nothing"


# Broken ones


@pytest.fixture
def faults(tiny_checkpoint: Path) -> Faults:
    return Faults(files=contents(tiny_checkpoint))


@pytest.fixture
def endpoint(faults: Faults) -> Iterator[str]:
    with serve_faulty(faults) as endpoint:
        yield endpoint


def test_the_stand_in_serves_a_checkpoint_when_nothing_is_wrong(client: Client, faults: Faults, endpoint: str) -> None:
    result = client.fetch("owner/name", endpoint)
    assert result["commit"] == COMMIT
    assert contents(Path(result["folder"])) == faults.files


def test_a_second_load_asks_the_hub_once(client: Client, faults: Faults, endpoint: str) -> None:
    client.fetch("owner/name", endpoint)
    faults.requests.clear()
    client.fetch("owner/name", endpoint)
    assert set(faults.requests) == {"HEAD config.json"}


WATCH = """
import json, sys
from pathlib import Path
from demo import hub
steps, stop_after = [], int(sys.argv[2])
class Enough(Exception): pass
def report(folder, done, total):
    steps.append([done, total, (Path(folder) / "README.md").read_text()])
    if done > stop_after: raise Enough
try:
    hub.fetch(sys.argv[1], report)
except Enough:
    pass
print(json.dumps(steps))
"""


def test_a_download_reports_the_bytes_of_the_weights_when_the_card_is_there(
    client: Client, faults: Faults, endpoint: str
) -> None:
    faults.files["model.safetensors"] += bytes(1_000_000)
    total = len(faults.files["model.safetensors"])
    steps = run_client(WATCH, "owner/name", 10**9, endpoint=endpoint, home=client.home)
    done = [step[0] for step in steps]
    assert done == sorted(set(done))
    assert (done[0], done[-1]) == (0, total)
    assert len(done) > 4
    assert {(step[1], step[2]) for step in steps} == {(total, faults.files["README.md"].decode())}
    assert run_client(WATCH, "owner/name", 10**9, endpoint=endpoint, home=client.home) == []


def test_a_download_that_nobody_wants_any_more_ends_and_leaves_nothing_that_loads(
    client: Client, faults: Faults, endpoint: str
) -> None:
    faults.files["model.safetensors"] += bytes(1_000_000)
    steps = run_client(WATCH, "owner/name", 1, endpoint=endpoint, home=client.home)
    assert 0 < steps[-1][0] < steps[-1][1]
    assert "is not in the local cache" in client.refused("owner/name", endpoint, HF_HUB_OFFLINE="1")
    assert contents(Path(client.fetch("owner/name", endpoint)["folder"])) == faults.files


def test_a_commit_that_is_cached_whole_is_not_asked_for(client: Client, faults: Faults, endpoint: str) -> None:
    ref = f"owner/name@{COMMIT}"
    folder = Path(client.fetch(ref, endpoint)["folder"])
    faults.requests.clear()
    assert client.fetch(ref, endpoint)["commit"] == COMMIT
    assert faults.requests == []
    (folder / "selected_tags.csv").unlink()  # as if another program had cached config and weights only
    assert contents(Path(client.fetch(ref, endpoint)["folder"])) == faults.files


def test_as_anybody_nothing_private_is_to_be_had_not_even_what_is_cached(
    tmp_path: Path, faults: Faults, endpoint: str
) -> None:
    home, anybody = tmp_path / "hf-home", FETCH.replace("hub.fetch(ref)", "hub.fetch(ref, as_anybody=True)")
    faults.token = TOKEN
    for ref in ("owner/name", f"owner/name@{COMMIT}"):
        assert f"shows no model {ref}" in Client(home, anybody).refused(ref, endpoint)
        assert Client(home).fetch(ref, endpoint)["commit"] == COMMIT
        assert f"shows no model {ref}" in Client(home, anybody).refused(ref, endpoint)
    faults.token = ""
    assert Client(home, anybody).fetch("owner/name", endpoint)["commit"] == COMMIT


@pytest.mark.parametrize("name", ["model.safetensors", "selected_tags.csv"])
@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_refusal_half_way_leaves_nothing_that_loads(
    client: Client, faults: Faults, endpoint: str, status: int, name: str
) -> None:
    faults.status, faults.only = status, name
    assert f"It answered {status}" in client.refused("owner/name", endpoint)
    assert "is not in the local cache" in client.refused("owner/name", endpoint, HF_HUB_OFFLINE="1")

    faults.status = 200
    assert contents(Path(client.fetch("owner/name", endpoint)["folder"])) == faults.files


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (401, {"X-Error-Code": "RepoNotFound"}, "The Hub shows no model owner/name. It answered 401"),
        (403, {"X-Error-Code": "GatedRepo"}, "owner/name is gated."),
        (404, {"X-Error-Code": "RevisionNotFound"}, "owner/name has no revision"),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "it does not know the token"),
        (404, {"X-Error-Code": "EntryNotFound"}, "owner/name has no config.json."),
    ],
)
def test_the_hubs_own_error_codes_are_told_apart(
    client: Client, faults: Faults, endpoint: str, status: int, headers: dict[str, str], expected: str
) -> None:
    faults.status, faults.headers = status, headers
    assert expected in client.refused("owner/name", endpoint)


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_a_cached_checkpoint_outlives_a_hub_that_refuses(
    client: Client, faults: Faults, endpoint: str, status: int
) -> None:
    client.fetch("owner/name", endpoint)
    faults.status = status
    result = client.fetch("owner/name", endpoint)
    assert result["commit"] == COMMIT
    assert result["seconds"] < 10


def test_an_endpoint_that_refuses_connections_is_named(client: Client) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    message = client.refused("owner/name", endpoint, within_seconds=2)
    assert f"{endpoint} cannot be asked for it. ConnectError" in message


def test_an_endpoint_that_never_answers_is_given_up(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        message = client.refused("owner/name", endpoint)
    assert f"{endpoint} cannot be asked for it. ReadTimeout" in message


def test_an_endpoint_that_is_no_hub_is_named(client: Client, faults: Faults, endpoint: str) -> None:
    faults.status, faults.headers = 204, {}
    message = client.refused("owner/name", endpoint)
    assert "X-Repo-Commit" in message


@pytest.mark.parametrize("token", ["hf_canäry", "hf_canary\x0bx"])
def test_a_token_that_cannot_be_sent_is_not_shown(client: Client, endpoint: str, token: str) -> None:
    message = client.refused("owner/name", endpoint, HF_TOKEN=token)
    assert "HF_TOKEN holds a character that no token has." in message
    assert "hf_can" not in message


@pytest.mark.parametrize(
    "ref", ["owner/name", "Owner-1/n.a_me", "o/n@main", "o/n@refs/pr/1", "o/n@v1.0+x", "o/n@" + COMMIT]
)
def test_a_repo_is_told_by_its_form(ref: str) -> None:
    assert hub.is_repo(ref)


@pytest.mark.parametrize(
    "ref",
    [
        *("", "name", "/owner/name", "../name", "./name", "a/b/c", "http://o/n", "o/n\n", "ö/n"),
        *("o/n@", "o/n@a b", "o/n@a@b", "o/n@../../../x", "o/n@/etc/x", "o/n@a\nb"),
    ],
)
def test_what_is_no_repo_never_reaches_the_hub(ref: str) -> None:
    assert not hub.is_repo(ref)
