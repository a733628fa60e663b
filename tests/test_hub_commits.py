"""The stand-in for the Hub's commit API, driven by huggingface_hub as any other client of it would be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitScheduler, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HTTPError, RemoteEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils import close_session

from tests.hub_commits import OWNER, TOKEN, HubCommits, serve_commits

pytestmark = pytest.mark.filterwarnings(  # huggingface_hub's own way of sending a file
    "ignore:Use 'content=<...>' to upload raw bytes/text content:DeprecationWarning"
)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubCommits]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    close_session()
    with serve_commits() as running:
        yield running
    close_session()


@pytest.fixture
def api(hub: HubCommits) -> HfApi:
    return HfApi(hub.endpoint, token=TOKEN)


def read(api: HfApi, hub: HubCommits, path: str, folder: Path, **where: str) -> bytes:
    url = f"{hub.endpoint}/datasets/owner/data/resolve/{where.get('revision', 'main')}/{path}"
    assert api.get_hf_file_metadata(url=url).size is not None
    kept = api.hf_hub_download("owner/data", path, repo_type="dataset", cache_dir=folder, **where)
    return Path(kept).read_bytes()


def test_a_scheduler_pushes_a_folder_to_a_dataset_and_every_state_stays_readable(hub, api, tmp_path):
    folder = tmp_path / "corrections"
    (folder / "images").mkdir(parents=True)
    (folder / "corrections.csv").write_text("file_name,labels\n")
    (folder / "images" / "a.png").write_bytes(b"\x89PNG\0" * 100)
    scheduler = CommitScheduler(
        repo_id="owner/data", repo_type="dataset", folder_path=folder, every=60, private=True, hf_api=api
    )
    with scheduler:
        scheduler.trigger().result()
        (folder / "corrections.csv").write_text("file_name,labels\nimages/a.png,[]\n")
    repo = hub.repo("owner/data", "dataset")
    assert repo.private
    initial, first, second = repo.commits
    assert [first.parent, second.parent] == [initial.oid, first.oid]
    assert set(second.files) == {".gitattributes", "corrections.csv", "images/a.png"}
    assert read(api, hub, "corrections.csv", tmp_path / "cache", revision=first.oid) == b"file_name,labels\n"
    assert read(api, hub, "corrections.csv", tmp_path / "cache") == second.files["corrections.csv"]
    assert read(api, hub, "images/a.png", tmp_path / "cache") == b"\x89PNG\0" * 100
    assert ("model", "owner/data") not in hub.repos


def test_files_and_folders_are_deleted_and_what_is_not_there_is_an_error(hub, api):
    hub.create("owner/data", "dataset", **{"a/1": b"1", "a/2": b"2", "b": b"3"})
    api.delete_folder("a", "owner/data", repo_type="dataset")
    api.delete_file("b", "owner/data", repo_type="dataset")
    assert set(hub.repo("owner/data", "dataset").head.files) == {".gitattributes"}
    with pytest.raises(RemoteEntryNotFoundError):
        api.delete_file("b", "owner/data", repo_type="dataset")
    assert len(hub.repo("owner/data", "dataset").commits) == 4


def test_a_token_writes_for_its_own_owners_and_sees_what_is_public_or_theirs(hub, api):
    hub.create("other/open")
    hub.create("other/closed", private=True)
    hub.create(f"{OWNER}/closed", private=True)
    assert not api.model_info("other/open").private
    assert api.model_info(f"{OWNER}/closed").private
    for token in (TOKEN, False):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("other/closed", token=token)
    with pytest.raises(HfHubHTTPError, match="403"):
        api.upload_file(path_or_fileobj=b"1", path_in_repo="x", repo_id="other/open")
    with pytest.raises(HfHubHTTPError, match="401"):
        api.create_repo("owner/new", token="hf_unknown")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(f"{OWNER}/closed")
    assert api.create_repo(f"{OWNER}/closed", exist_ok=True).repo_id == f"{OWNER}/closed"


def test_a_fault_hits_the_requests_that_it_is_told_to(hub, api):
    hub.create("owner/data")
    hub.fail("GET /api/models", 500, first=2, times=1, message="Told to.")
    hub.fail("GET /api/models", first=3, times=1)  # counts what the first one let through
    api.model_info("owner/data")
    with pytest.raises(HfHubHTTPError, match="Told to"):
        api.model_info("owner/data")
    api.model_info("owner/data")
    with pytest.raises(HTTPError, match="disconnected"):
        api.model_info("owner/data")
    api.model_info("owner/data")
    assert hub.requests == ["GET /api/models/owner/data"] * 5
