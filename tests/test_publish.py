"""Publishing to the Hub, on a stand-in for the part of it that pushing needs (`tests/hub_commits.py`)."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

from demo import card, finetune, publish
from demo.checkpoint import load_checkpoint
from demo.tagger import Tagger
from tests.hub_commits import TOKEN, HubCommits, point_to, talking
from tests.hub_server import free_port

ROOT = Path(__file__).parent.parent
REPO = "owner/first"
FILES = {"config.json", "model.safetensors", "selected_tags.csv", "metrics.json", "README.md"}

pytestmark = pytest.mark.filterwarnings(  # huggingface_hub's own way of sending a file
    "ignore:Use 'content=<...>' to upload raw bytes/text content:DeprecationWarning"
)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubCommits]:
    """An empty Hub that this process talks to, with a good token, an empty cache, and no waiting between tries."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf-cache"))
    with talking(monkeypatch) as running:
        yield running


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Publish from here; nothing that is said holds the token or a traceback."""

    def run(*arguments: object) -> Done:
        capfd.readouterr()
        code = publish.main([str(argument) for argument in arguments])
        said = capfd.readouterr()
        assert "canary" not in (said.out + said.err).lower()
        assert "Traceback" not in said.err
        return Done(code, said.out, said.err)

    return run


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint of one's own to change."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "runs" / "first"))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """A function that types a line on the terminal that this process then has."""
    master, slave = os.openpty()
    with os.fdopen(slave, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield lambda line: os.write(master, f"{line}\n".encode())
        os.close(master)


def set_verdict(folder: Path, verdict: str) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | {"verdict": verdict}))


def names(hub: HubCommits) -> set[str]:
    return set(hub.repo(REPO).head.files) - {".gitattributes"}


def posts(hub: HubCommits) -> list[str]:
    return [request for request in hub.requests if not request.startswith("GET")]


# What is published


def test_what_was_published_loads_by_the_printed_ref_and_scores_the_same(hub, run, folder, image_folder):
    done = run(folder, REPO, "--yes")
    assert done.code == 0, done.err
    assert re.fullmatch(rf"{REPO}@[0-9a-f]{{40}}\n", done.out)
    here, there = load_checkpoint(folder), load_checkpoint(done.out.strip())
    assert there.identity == done.out.strip()
    assert there.labels == here.labels
    assert there.threshold == here.threshold
    images = [Image.open(path).convert("RGB") for path in sorted(image_folder.iterdir())]
    scores = Tagger(here, "cpu").scores(images)
    assert scores.std() > 0.05
    assert np.array_equal(Tagger(there, "cpu").scores(images), scores)


def test_one_commit_holds_the_checkpoints_files_and_nothing_else_of_the_folder(hub, run, folder):
    for name in ("progress.json", "log.txt", "photo.png", ".writing", "state.safetensors"):
        (folder / name).write_bytes(b"mine")
    assert run(folder, REPO, "--yes").code == 0
    assert len(hub.repo(REPO).commits) == 2
    assert names(hub) == FILES
    for name in FILES - {"README.md", "metrics.json"}:
        assert hub.repo(REPO).head.files[name] == (folder / name).read_bytes()


@pytest.fixture(scope="module")
def finetuned(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, make_image) -> Path:
    """A fine-tune whose every path is absolute and whose corrections name an annotator; it came out better, say."""
    home = tmp_path_factory.mktemp("secret-home")
    with (home / "corrections.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "labels", "rejected", "reviewed", "is_valid", "model", "annotator"])
        for seed in range(12):
            (home / f"family-{seed}.png").write_bytes(make_image(seed))
            present, absent = ("cat", "dog") if seed % 2 else ("dog", "cat")
            cells = [json.dumps([present]), json.dumps([absent]), "listed", seed > 9, f"local:{home}@0", "jane-doe"]
            writer.writerow([home / f"family-{seed}.png", *cells])
    base = shutil.copytree(tiny_checkpoint, home / "base")
    (base / "README.md").write_text("---\nlicense: cc-by-4.0\nbase_model: timm/some-vit\n---\n# Base\n")
    flags = ["--device", "cpu", "--workers", "0", "--head-epochs", "2"]
    paths = ["--csv", home / "corrections.csv", "--out", home / "runs" / "first", "--model", base]
    assert finetune.main([*map(str, paths), *flags]) == 0
    metrics = json.loads((home / "runs" / "first" / "metrics.json").read_text())
    metrics |= {"verdict": "better", "suspects": [{"file_name": f"{home}/family-1.png"}], "annotator": "jane-doe"}
    (home / "runs" / "first" / "metrics.json").write_text(json.dumps(metrics))
    return home / "runs" / "first"


def test_no_path_file_name_or_annotator_is_published(hub, run, finetuned):
    done = run(finetuned, REPO, "--yes")
    assert done.code == 0, done.err
    home = finetuned.parent.parent
    for name, content in hub.repo(REPO).head.files.items():
        for secret in (str(home), home.name, "family-", "jane-doe", str(ROOT)):
            assert secret.encode() not in content, (name, secret)
    assert json.loads(hub.repo(REPO).head.files["metrics.json"])["csv"] == "corrections.csv"


def test_metrics_of_an_older_run_lose_their_folders_too(hub, run, folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | {"csv": "/home/jane/photos/corrections.csv"}))
    assert run(folder, REPO, "--yes").code == 0
    assert json.loads(hub.repo(REPO).head.files["metrics.json"]) == metrics | {"csv": "corrections.csv"}


def test_the_published_card_says_how_timm_loads_it_and_that_gives_the_same_labels(
    hub, run, finetuned, tmp_path, make_image, monkeypatch, capfd
):
    assert run(finetuned, REPO, "--yes").code == 0
    text = hub.repo(REPO).head.files["README.md"].decode()
    assert card.REPO not in text
    front = card.front_matter(text)
    assert front == {
        "license": "cc-by-4.0",
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "base_model": "timm/some-vit",
        "tags": ["multi-label", "tagloop"],
    }
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(make_image(3))
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], {})
    told = eval(capfd.readouterr().out)
    checkpoint = load_checkpoint(finetuned)
    (scores,) = Tagger(checkpoint, "cpu").scores([Image.open("photo.jpg").convert("RGB")])
    threshold = round(checkpoint.threshold, 2)
    expected = {name: score for name, score in zip(checkpoint.labels.names, scores, strict=True) if score >= threshold}
    assert 0 < len(told) < len(scores)
    assert told == pytest.approx(expected, abs=2e-3)


# What is shown and asked


def test_what_will_be_pushed_is_shown_first(hub, run, finetuned):
    done = run(finetuned, REPO, "--private")
    assert done.code == 2
    assert f"{hub.endpoint}/{REPO} (new; private)" in done.err
    assert re.search(r"model\.safetensors +\d+kB", done.err)
    assert set(re.findall(r"[\w.]+", done.err)) | {"metrics.json", "README.md"} >= FILES
    assert "licence: cc-by-4.0" in done.err
    assert "verdict: better" in done.err
    assert "on 2 valid images" in done.err
    figure = load_checkpoint(finetuned).metrics["metrics"]["micro_f1"]
    assert f"{figure:.4f}" in done.err


def test_without_a_terminal_only_a_yes_said_beforehand_publishes(hub, run, folder, monkeypatch):
    with Path(os.devnull).open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        done = run(folder, REPO)
    assert (done.code, done.out) == (2, "")
    assert "Say --yes" in done.err
    assert posts(hub) == []


@pytest.mark.parametrize(("line", "published"), [("y", True), ("yes", True), ("", False), ("n", False), ("yep", False)])
def test_on_a_terminal_a_typed_yes_publishes_and_nothing_else_does(hub, run, folder, terminal, line, published):
    terminal(line)
    done = run(folder, REPO)
    assert "Publish it?" in done.err
    assert done.code == (0 if published else 130)
    assert bool(posts(hub)) == published


def test_a_worse_model_needs_somebody_who_has_seen_the_warning(hub, run, folder, monkeypatch, terminal):
    set_verdict(folder, "worse")
    on_terminal = sys.stdin
    with Path(os.devnull).open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        refused = run(folder, REPO, "--yes")
    assert refused.code == 2
    assert "--yes does not cover" in refused.err
    assert posts(hub) == []
    monkeypatch.setattr(sys, "stdin", on_terminal)
    terminal("y")
    done = run(folder, REPO, "--yes")
    assert done.code == 0
    assert "warning: it came out worse" in done.err


@pytest.mark.parametrize("private", [True, False])
def test_a_new_repo_is_public_unless_private_is_said(hub, run, folder, private):
    assert run(folder, REPO, "--yes", *(["--private"] if private else [])).code == 0
    assert hub.repo(REPO).private is private


def test_a_repo_that_is_there_stays_as_private_as_it_is(hub, run, folder):
    hub.create(REPO, private=True)
    done = run(folder, REPO, "--yes")
    assert done.code == 0
    assert "private)" in done.err
    assert hub.repo(REPO).private


def test_what_is_to_be_private_does_not_go_to_a_public_repo(hub, run, folder):
    hub.create(REPO)
    done = run(folder, REPO, "--yes", "--private")
    assert done.code == 2
    assert f"{REPO} is there already, and public" in done.err
    assert posts(hub) == []


# Publishing again


def test_publishing_again_adds_a_commit_and_the_old_ref_still_loads(hub, run, folder, make_checkpoint):
    from demo.checkpoint import save_checkpoint

    first = run(folder, REPO, "--yes").out.strip()
    before = load_checkpoint(folder).model.head.weight
    save_checkpoint(folder, make_checkpoint(1))
    second = run(folder, REPO, "--yes").out.strip()
    commits = hub.repo(REPO).commits
    assert [f"{REPO}@{commit.oid}" for commit in commits[1:]] == [first, second]
    assert commits[2].parent == commits[1].oid
    assert load_checkpoint(first).model.head.weight.equal(before)
    assert load_checkpoint(second).model.head.weight.equal(load_checkpoint(folder).model.head.weight)


def test_publishing_the_same_again_adds_nothing_and_gives_the_same_ref(hub, run, folder):
    first = run(folder, REPO, "--yes")
    again = run(folder, REPO, "--yes")
    assert (again.code, again.out) == (0, first.out)
    assert "holds exactly this already" in again.err
    assert len(hub.repo(REPO).commits) == 2


def test_files_of_an_older_checkpoint_go_and_all_others_stay(hub, run, folder):
    (folder / "selected_tags.csv").unlink()
    left = {"preprocess.json": b"{}", "selected_tags.csv": b"name\nother\n"}
    kept = {"LICENSE": b"mine", "docs/selected_tags.csv": b"mine"}
    hub.create(REPO, **left, **kept)
    done = run(folder, REPO, "--yes")
    assert done.code == 0, done.err
    assert re.search(r"preprocess\.json +is removed", done.err)
    assert "2 other files of the repo stay: LICENSE, docs/selected_tags.csv" in done.err
    assert names(hub) == FILES - {"selected_tags.csv"} | set(kept)
    assert load_checkpoint(done.out.strip()).labels.names == load_checkpoint(folder).labels.names


# What cannot be published


@pytest.mark.parametrize("repo", ["first", "owner/", "/first", "a/b/c", "owner/first@main", "owner/a--b", "owner/é"])
def test_what_is_no_repo_name_is_refused(hub, run, folder, repo):
    done = run(folder, repo, "--yes")
    assert done.code == 2
    assert "is no repo name" in done.err
    assert hub.requests == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: shutil.rmtree(folder), "is not a folder"),
        (lambda folder: (folder / "config.json").unlink(), "no whole checkpoint"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"short"), "no whole checkpoint"),
        (lambda folder: (folder / "README.md").unlink(), "has no README.md"),
    ],
)
def test_what_is_no_whole_checkpoint_with_a_card_is_refused(hub, run, folder, spoil, said):
    spoil(folder)
    done = run(folder, REPO, "--yes")
    assert done.code == 2
    assert said in done.err
    assert hub.requests == []


def test_without_a_token_the_message_says_where_it_goes(hub, run, folder, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    done = run(folder, REPO, "--yes")
    assert done.code == 2
    assert "HF_TOKEN" in done.err
    assert hub.requests == []


@pytest.mark.parametrize("token", ["hf_canaryUnknown", "hf_canaryé", "hf_canary\x0bbell"])
def test_a_token_that_is_none_is_told_and_never_shown(hub, run, folder, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    done = run(folder, REPO, "--yes")
    assert done.code == 2
    assert "HF_TOKEN" in done.err
    assert hub.repos == {}


def test_a_repo_of_somebody_else_is_refused_with_the_owners_name(hub, run, folder):
    done = run(folder, "stranger/first", "--yes")
    assert done.code == 2
    assert "403" in done.err
    assert "a token that may write to stranger" in done.err
    assert hub.repos == {}


def test_a_commit_that_came_in_between_is_not_overwritten(hub, run, folder, monkeypatch):
    repo = hub.create(REPO, **{"README.md": b"theirs"})
    consent = publish.require_consent

    def meanwhile(*asked):
        repo.add("Theirs", repo.head.files | {"README.md": b"theirs, again"})
        consent(*asked)

    monkeypatch.setattr(publish, "require_consent", meanwhile)
    done = run(folder, REPO, "--yes")
    assert done.code == 2
    assert "412" in done.err
    assert "Run it again" in done.err
    assert repo.head.files["README.md"] == b"theirs, again"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "does not know the token"),
        (403, "may not write"),
        (404, "Check the spelling of owner"),
        (409, "at the same moment"),
        (413, "--half"),
        (429, "too many requests"),
        (500, "a fault of its own"),
    ],
)
def test_each_refusal_of_the_hub_has_its_own_message(hub, run, folder, status, said):
    hub.fail("POST /api/repos/create", status, message="Because.")
    done = run(folder, REPO, "--yes")
    assert done.code == 2
    assert f"{REPO} was not published. The Hub answered {status}: " in done.err
    assert said in done.err
    assert "It says: Because." in done.err
    assert hub.repos == {}


REQUESTS = [
    "GET /api/models",
    "repos/create",
    "validate-yaml",
    "preupload",
    "objects/batch",
    "PUT",
    "verify",
    "/commit/",
]


@pytest.mark.parametrize("status", [403, 500, None])
@pytest.mark.parametrize("request_", REQUESTS)
def test_a_fault_at_any_request_leaves_nothing_half_published_and_a_second_run_publishes(
    hub, run, folder, request_, status
):
    hub.fail(request_, status)
    done = run(folder, REPO, "--yes")
    assert (done.code, done.out) == (2, "")
    assert (str(status) if status else "The connection to") in done.err
    assert done.err.count("error: ") == 1
    empty = ("model", REPO) in hub.repos
    assert not empty or names(hub) == set()
    if request_ == "/commit/" and status != 403:
        assert "It is not known whether" in done.err
    else:
        assert f"{REPO} was not published." in done.err
        assert ("is empty" in done.err) == empty
    hub.faults.clear()
    assert run(folder, REPO, "--yes").code == 0
    assert names(hub) == FILES


def test_a_commit_whose_answer_got_lost_is_found_by_the_next_run(hub, run, folder):
    hub.fail("/commit/", carried_out=True, times=1)
    lost = run(folder, REPO, "--yes")
    assert lost.code == 2
    assert "It is not known whether" in lost.err
    again = run(folder, REPO, "--yes")
    assert (again.code, again.out.strip()) == (0, f"{REPO}@{hub.repo(REPO).head.oid}")
    assert len(hub.repo(REPO).commits) == 2


def test_a_fault_that_passes_is_waited_out(hub, run, folder):
    for request, status in (("preupload", 503), ("objects/batch", 429), ("PUT", None), ("verify", 500)):
        hub.fail(request, status, times=2)
    assert run(folder, REPO, "--yes").code == 0
    assert names(hub) == FILES


def test_a_card_that_the_hub_refuses_is_told_with_its_reason(hub, run, folder):
    hub.fail("validate-yaml", 400, message='"license" must be one of the known ones')
    done = run(folder, REPO, "--yes")
    assert done.code == 2
    assert '"license" must be one of the known ones' in done.err
    assert names(hub) == set()


def test_offline_mode_and_no_connection_are_told_apart(hub, run, folder, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in run(folder, REPO, "--yes").err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    gone = f"http://127.0.0.1:{free_port()}"
    point_to(gone, monkeypatch)
    done = run(folder, REPO, "--yes")
    assert done.code == 2
    assert f"The connection to {gone} failed" in done.err


# The README


@pytest.mark.slow
def test_the_readmes_way_to_the_hub_and_back_works_as_written(hub, tiny_checkpoint, tmp_path, image_folder):
    section = re.search(r"^## Publishing\n(.*?)^## ", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)[1]
    commands = re.search(r"```bash\n(.*?)```", section, re.DOTALL)[1].replace("you/first", REPO)
    shutil.copytree(tiny_checkpoint, tmp_path / "runs" / "first")
    image_folder.rename(tmp_path / "photos")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TAGLOOP_"))}
    environment = kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "hf-home"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
    }
    done = subprocess.run(
        ["sh", "-ec", commands], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert hub.repo(REPO).private
    assert names(hub) == FILES
    assert len((tmp_path / "tags.csv").read_text().splitlines()) == 9
