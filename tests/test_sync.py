"""Corrections to a dataset of the Hub and back, on a stand-in for it (`tests/hub_commits.py`)."""

from __future__ import annotations

import csv
import io
import itertools
import json
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from PIL import Image, PngImagePlugin

import app
from demo import hub_rows, sync
from demo.corrections import Corrections, read_vocabulary
from demo.errors import BadInput, CorrectionsError, HubError
from demo.hub_rows import HubRows
from demo.rows import HEADER, Correction
from demo.settings import Settings
from demo.sync import Sync
from demo.ui.corrections_tab import CorrectionsTab
from tests import loops
from tests.hub_commits import OWNER, TOKEN, HubCommits, talking
from tests.waiting import until

DATASET = f"{OWNER}/data"
HOSTILE = ["red sofa", "a,b", 'say "hi"', "猫", "=1+1", "null", "nan", "a\nb", "\u2028", "\\", "12345", "1e5", ""]

pytestmark = pytest.mark.filterwarnings(  # huggingface_hub's own way of sending a file
    "ignore:Use 'content=<...>' to upload raw bytes/text content:DeprecationWarning"
)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubCommits]:
    """An empty Hub that this process talks to, with a good token, and no waiting between tries."""
    with talking(monkeypatch) as running:
        yield running


@pytest.fixture
def corrections(tmp_path: Path) -> Corrections:
    return Corrections(tmp_path / "corrections")


@pytest.fixture
def synced(hub: HubCommits, corrections: Corrections) -> Sync:
    """Not started: a test says when it exchanges."""
    return new_sync(corrections)


def new_sync(corrections: Corrections) -> Sync:
    return Sync(corrections, HubRows(DATASET), 60)


def photo(seed: int = 0) -> bytes:
    """A picture with its place in it; the bytes differ by seed."""
    told, target = PngImagePlugin.PngInfo(), io.BytesIO()
    told.add_text("GPS", "canary 52.5200N")
    Image.new("RGB", (8, 6), (seed % 256, seed // 256 % 256, 7)).save(target, "PNG", pnginfo=told)
    return target.getvalue()


def give(corrections: Corrections, seed: int = 0, threshold: float = 0.5, **values: object) -> Correction:
    lists = {"labels": [f"label {seed}"], "rejected": [], "model_labels": [], "reviewed": "listed"}
    return corrections.save(photo(seed), "png", **(lists | {"threshold": threshold, "model": "owner/model@1"} | values))


def commits(hub: HubCommits) -> list:
    return hub.repo(DATASET, "dataset").commits


def files(hub: HubCommits) -> dict[str, bytes]:
    return {path: content for path, content in commits(hub)[-1].files.items() if path != ".gitattributes"}


def tables(hub: HubCommits) -> dict[str, list[dict[str, str]]]:
    """The rows of each folder of the dataset, as any reader of CSV sees them."""
    return {
        path.removesuffix("/metadata.csv"): list(csv.DictReader(io.StringIO(content.decode(), newline="")))
        for path, content in files(hub).items()
        if path.endswith("/metadata.csv")
    }


def rows(hub: HubCommits) -> list[dict[str, str]]:
    """All rows; each has its picture beside it, and no picture is there without a row."""
    found = tables(hub)
    named = {f"{folder}/{row['file_name']}" for folder, rows in found.items() for row in rows}
    assert named == {path for path in files(hub) if "/images/" in path}
    return list(itertools.chain(*found.values()))


def same(there: list[dict[str, str]], here: list[Correction]) -> bool:
    told = [
        (row["file_name"], json.loads(row["labels"]), json.loads(row["annotator"]), row["saved_at"]) for row in there
    ]
    return sorted(told) == sorted((row.file_name, [*row.labels], row.annotator, row.saved_at) for row in here)


# Pushing


def test_a_saved_row_is_in_a_private_dataset_with_its_picture_after_one_commit(hub, corrections, synced):
    row = give(corrections, 1, labels=HOSTILE[:-1], annotator="ann")
    assert synced.state().waiting == 1
    assert not synced.is_synced(row)
    synced.exchange()
    (folder,) = tables(hub)
    assert hub.repo(DATASET, "dataset").private
    assert len(commits(hub)) == 2
    assert same(rows(hub), [row])
    assert rows(hub)[0]["threshold"] == "0.5"
    with Image.open(io.BytesIO(files(hub)[f"{folder}/{row.file_name}"])) as image:
        assert image.getpixel((0, 0)) == (1, 0, 7)
    assert synced.is_synced(row)
    assert synced.state().waiting == 0
    assert synced.state().private


def test_no_byte_that_leaves_the_machine_holds_what_a_picture_tells_beside_itself(hub, corrections, synced):
    row = give(corrections)
    assert b"canary" in corrections.image_path(row).read_bytes()
    synced.exchange()
    sent = [*hub.blobs.values(), *itertools.chain.from_iterable(commit.files.values() for commit in commits(hub))]
    assert len(sent) > 3
    assert not any(b"canary" in content for content in sent)
    assert b"canary" in corrections.image_path(row).read_bytes()


def test_nothing_is_sent_when_nothing_has_changed(hub, corrections, synced):
    give(corrections)
    synced.exchange()
    asked = len(hub.requests)
    synced.exchange()
    assert len(hub.requests) == asked


def test_a_row_that_is_saved_again_replaces_the_one_that_is_there(hub, corrections, synced):
    rows_before = [give(corrections, seed) for seed in range(3)]
    synced.exchange()
    again = give(corrections, 1, labels=["other"])
    assert synced.state().waiting == 1
    synced.exchange()
    assert len(tables(hub)) == 1
    assert same(rows(hub), [rows_before[0], again, rows_before[2]])
    uploads = [request for request in hub.requests if request.startswith("PUT")]
    assert len(uploads) == 3  # no picture twice


def test_a_deleted_row_goes_with_its_picture_and_the_last_one_with_its_folder(hub, corrections, synced):
    first, second = give(corrections, 1), give(corrections, 2)
    other = give(corrections, 2, annotator="ann")
    synced.exchange()
    corrections.delete(first.file_name)
    corrections.delete(second.file_name)
    assert synced.state().waiting == 2
    synced.exchange()
    assert synced.state().waiting == 0
    assert same(rows(hub), [other])
    corrections.delete(other.file_name, "ann")
    synced.exchange()
    assert files(hub) == {}


def test_many_rows_go_in_several_commits_and_several_folders(hub, corrections, synced, monkeypatch):
    monkeypatch.setattr(sync, "COMMIT_ROWS", 3)
    monkeypatch.setattr(hub_rows, "FOLDER_ROWS", 5)
    saved = [give(corrections, seed) for seed in range(10)]
    synced.exchange()
    assert len(commits(hub)) == 5
    assert sorted(len(found) for found in tables(hub).values()) == [4, 6]
    assert same(rows(hub), saved)


def test_the_labels_of_a_model_go_along_once_where_a_row_is_reviewed_in_full(hub, corrections, synced):
    give(corrections, 1, reviewed="all", vocabulary=["label 1", "b"])
    give(corrections, 2, reviewed="all", model="owner/test-valid@2", vocabulary=["label 2", "c"])
    give(corrections, 3, model="owner/third@3", vocabulary=["label 3"])
    synced.exchange()
    kept = [json.loads(content) for path, content in files(hub).items() if path.startswith("vocabularies/")]
    assert {told["model"]: told["labels"] for told in kept} == {
        "owner/model@1": ["label 1", "b"],
        "owner/test-valid@2": ["label 2", "c"],
    }


def test_what_cannot_be_pushed_is_named_and_keeps_nothing_else_back(hub, corrections, synced):
    gone, fine, damaged = give(corrections, 1), give(corrections, 2), give(corrections, 3)
    corrections.image_path(gone).unlink()
    corrections.image_path(damaged).write_bytes(b"no picture")
    secret = corrections.folder.parent / "secret.png"
    secret.write_bytes(photo(9))
    line = corrections.lines()[0].replace(gone.file_name.encode(), str(secret).encode())
    with corrections.csv_path.open("ab") as file:
        file.write(line)
    synced.start().close()
    assert same(rows(hub), [fine])
    state = synced.state()
    assert state.waiting == 3
    assert state.error.startswith("3 rows cannot be synced, the first is ")


# Restarts


def test_a_restart_on_an_empty_disk_finds_every_row_and_pushes_none_again(hub, corrections, synced, tmp_path):
    saved = [give(corrections, seed, annotator=("", "ann")[seed % 2]) for seed in range(20)]
    saved.append(give(corrections, 0, annotator="ben", reviewed="all", vocabulary=["label 0", "b"]))
    synced.exchange()
    before, fresh = len(commits(hub)), Corrections(tmp_path / "fresh")
    restarted = new_sync(fresh)
    restarted.exchange()
    assert sorted(fresh.rows(), key=repr) == sorted(saved, key=repr)
    assert [row.saved_at for row in fresh.rows()] == sorted(row.saved_at for row in saved)
    assert all(b"canary" not in fresh.image_path(row).read_bytes() for row in saved)
    assert read_vocabulary(fresh.folder, "owner/model@1") == ("label 0", "b")
    assert len(commits(hub)) == before
    assert restarted.state().waiting == 0
    restarted.exchange()
    assert len(commits(hub)) == before


def test_rows_of_before_a_restart_can_be_saved_again_and_deleted(hub, corrections, synced, tmp_path):
    _first, second, third = (give(corrections, seed) for seed in range(3))
    synced.exchange()
    fresh = Corrections(tmp_path / "fresh")
    restarted = new_sync(fresh)
    restarted.exchange()
    again, new = give(fresh, 0, labels=["other"]), give(fresh, 5)
    also = give(fresh, 1, annotator="ann")
    fresh.delete(third.file_name)
    restarted.exchange()
    assert same(rows(hub), [again, second, new, also])
    assert len(tables(hub)) == 2  # what is new is in a folder of its own


def test_a_restart_on_the_same_disk_pushes_what_the_dataset_lacks_and_nothing_else(hub, corrections, synced):
    first, second = give(corrections, 1), give(corrections, 2)
    synced.exchange()
    third = give(corrections, 3)
    corrections.delete(first.file_name)
    again = new_sync(Corrections(corrections.folder))
    again.exchange()
    assert same(rows(hub), [second, third])
    assert same(rows(hub), again.corrections.rows())


def test_rows_saved_while_the_hub_did_not_answer_stay_when_the_earlier_ones_come_back(
    hub, corrections, synced, tmp_path
):
    before = give(corrections, 1)
    synced.exchange()
    hub.fail("GET /api/datasets", 503, times=1)
    fresh = Corrections(tmp_path / "fresh")
    restarted = new_sync(fresh)
    with pytest.raises(HubError, match="answered 503"):
        restarted.exchange()
    meanwhile = give(fresh, 2)
    restarted.exchange()
    assert same(rows(hub), [before, meanwhile])
    assert same(rows(hub), fresh.rows())


def test_a_folder_that_cannot_take_rows_in_deletes_none_of_them_there(hub, corrections, synced, tmp_path, monkeypatch):
    saved = [give(corrections, seed) for seed in range(3)]
    synced.exchange()
    fresh = Corrections(tmp_path / "fresh")

    def full(*_: object) -> None:
        raise CorrectionsError("The disk is full.")

    monkeypatch.setattr(fresh, "restore", full)
    restarted, new = new_sync(fresh), give(fresh, 9)
    for _ in range(2):
        with pytest.raises(CorrectionsError):
            restarted.exchange()
    assert same(rows(hub), [*saved, new])


# Faults


@pytest.mark.parametrize("status", [500, None])
@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize(
    "request_",
    [
        "POST /api/repos/create",
        "GET /api/datasets",
        "POST .*/preupload/",
        "batch",
        "PUT /lfs/",
        "/commit/",
        "/resolve/",
    ],
)
def test_a_request_that_fails_anywhere_loses_nothing_and_doubles_nothing(
    hub, corrections, synced, request_, status, carried_out
):
    if request_ == "/resolve/":
        give(corrections, 9)
        synced.exchange()
        synced = new_sync(corrections)
    saved = [give(corrections, seed) for seed in range(3)]
    hub.fail(request_, status, times=6, carried_out=carried_out)  # huggingface_hub tries some requests five times
    failures = 0
    while synced.state().waiting:
        assert failures < 10
        try:
            synced.exchange()
        except HubError:
            failures += 1
    assert failures or request_ in ("/preupload/", "/batch", "PUT /lfs/")
    assert same(rows(hub), corrections.rows())
    assert len(saved) <= len(rows(hub))


def test_a_row_that_is_deleted_while_it_is_in_doubt_whether_it_arrived_goes(hub, corrections, synced):
    row = give(corrections)
    hub.fail("/commit/", carried_out=True, times=1)
    with pytest.raises(HubError, match="cannot be synced"):
        synced.exchange()
    assert synced.state().waiting == 1
    corrections.delete(row.file_name)
    assert synced.state().waiting == 1
    synced.exchange()
    assert files(hub) == {}
    assert synced.state().waiting == 0


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "does not know the token.*HF_TOKEN"), (403, "may not write.*HF_TOKEN"), (429, "too many requests")],
)
def test_what_keeps_the_hub_from_taking_rows_is_said_with_the_next_step(hub, corrections, synced, status, said):
    give(corrections)
    hub.fail("/commit/", status)
    with pytest.raises(HubError, match=said) as raised:
        synced.exchange()
    assert TOKEN not in str(raised.value)


def test_a_token_that_may_not_write_there_is_told_so(hub, corrections):
    with pytest.raises(HubError, match=r"may not write there.*to other"):
        Sync(corrections, HubRows("other/data"), 60).exchange()


def test_without_a_token_or_a_name_nothing_starts(hub, corrections, monkeypatch):
    with pytest.raises(BadInput, match="Write owner/name"):
        HubRows("data")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(sync, "get_token", lambda: None)
    with pytest.raises(BadInput, match="no token"):
        new_sync(corrections)


def test_nothing_is_synced_unless_it_is_asked_for(hub, corrections, tmp_path, monkeypatch):
    monkeypatch.setattr(sync, "disable_progress_bars", lambda: None)
    folder = ["--corrections", str(tmp_path / "corrections")]
    assert Sync.of(Settings.from_flags(folder, {}), corrections) is None
    asked = Sync.of(Settings.from_flags([*folder, "--sync", DATASET], {"TAGLOOP_SYNC_MINUTES": "7"}), corrections)
    assert (asked.there.name, asked.minutes, asked.corrections) == (DATASET, 7, corrections)
    assert hub.requests == []


def test_the_page_tells_of_a_torn_tail_that_was_healed_whatever_opened_the_folder_first(
    hub, corrections, tmp_path, tiny_checkpoint, monkeypatch
):
    monkeypatch.setattr(sync, "disable_progress_bars", lambda: None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shown: list[CorrectionsTab] = []
    look = CorrectionsTab.__init__
    monkeypatch.setattr(CorrectionsTab, "__init__", lambda tab, *of: shown.append(tab) or look(tab, *of))
    give(corrections)
    with corrections.csv_path.open("ab") as file:
        file.write(b"images/torn.png,[")
    flags = ["--corrections", str(corrections.folder), "--sync", DATASET, "--model", str(tiny_checkpoint)]

    async def made() -> None:  # where no loop runs gradio makes some and closes none
        with ExitStack() as ending:
            app.build(Settings.from_flags([*flags, "--device", "cpu"], {}), ending)

    loops.run(made())
    table, _ = shown[0].look()
    assert "17 bytes were cut off" in str(table["message"])


# Others


def test_two_processes_that_push_at_once_lose_none_of_each_others_rows(hub, corrections, tmp_path):
    folders = [corrections, Corrections(tmp_path / "second")]
    both = [new_sync(folder) for folder in folders]
    saved = []
    for number in range(5):
        for place, folder in enumerate(folders):
            saved.append(give(folder, 10 * number + place))
        threads = [threading.Thread(target=one.exchange) for one in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert same(rows(hub), saved)
    assert len(tables(hub)) == 2


def test_a_row_that_another_process_deleted_is_not_pushed_again(hub, corrections, synced, tmp_path):
    row, other = give(corrections, 1), give(corrections, 2)
    synced.exchange()
    second = new_sync(Corrections(tmp_path / "second"))
    second.exchange()
    second.corrections.delete(row.file_name)
    second.exchange()
    new = give(corrections, 3)
    synced.exchange()
    assert same(rows(hub), [other, new])


def test_the_row_that_was_saved_last_stays_where_two_processes_saved_one(hub, corrections, synced, tmp_path):
    give(corrections)
    synced.exchange()
    second = new_sync(Corrections(tmp_path / "second"))
    second.exchange()
    give(corrections, labels=["earlier"])
    later = give(second.corrections, labels=["later"])
    second.exchange()
    synced.exchange()
    assert same(rows(hub), [later])


def test_other_files_of_the_dataset_stay_and_a_changed_table_is_left_alone(hub, corrections):
    odd = b"file_name,labels\nimages/1.png,cat\n"
    there = {
        "README.md": b"# mine\n",
        "data/mine/metadata.csv": odd,
        "data/mine/images/1.png": photo(),
        "old.csv": b"1",
    }
    there |= {"data/torn/metadata.csv": HEADER + b"images/1.png,"}
    hub.create(DATASET, "dataset", **there)
    synced, row = new_sync(corrections), give(corrections)
    synced.start().close()
    assert there.items() <= files(hub).items()
    assert corrections.rows() == [row]
    assert "data/mine/metadata.csv was changed by hand" in synced.state().error
    assert synced.is_synced(row)


def test_hostile_rows_of_a_dataset_are_not_taken_in(hub, corrections, synced):
    fine = give(corrections)
    synced.exchange()
    (path,) = (path for path in files(hub) if path.endswith("metadata.csv"))
    line, folder = files(hub)[path].removeprefix(HEADER), path.rpartition("/")[0]
    digest = fine.file_name[7:71].encode()
    changes = {b"images/": b"../../images/", b"owner/model@1": b"=cmd()", b"0.5": b"nan"}
    hostile, pictures = b"", {}
    for number, (old, new) in enumerate(changes.items(), start=1):
        other = b"%064d" % number
        assert old in line
        hostile += line.replace(old, new).replace(digest, other)
        pictures[f"{folder}/images/{other.decode()}.png"] = photo(number)
    hub.repo(DATASET, "dataset").add("by hand", files(hub) | pictures | {path: HEADER + line + hostile})
    fresh = Corrections(corrections.folder.parent / "fresh")
    with_fresh = new_sync(fresh)
    with_fresh.start().close()
    assert fresh.rows() == [fine]
    assert "3 rows cannot be synced" in with_fresh.state().error
    assert {path.name for path in corrections.folder.parent.iterdir()} == {"corrections", "fresh"}


def test_a_server_on_which_people_save_all_the_time_makes_one_commit_a_round(hub, corrections, synced, monkeypatch):
    give(corrections)
    change, numbers = synced.there.change, itertools.count(1)

    def change_and_save(*arguments: object) -> None:
        change(*arguments)
        give(corrections, next(numbers))

    monkeypatch.setattr(synced.there, "change", change_and_save)
    for rounds in range(1, 4):
        synced.exchange()
        assert len(commits(hub)) == 1 + rounds
    assert synced.state().waiting == 1


# In the background


def test_it_pushes_by_itself_tries_again_after_a_failure_and_says_how_it_is(hub, corrections, monkeypatch):
    monkeypatch.setattr(sync, "RETRY_SECONDS", 0.01)
    hub.fail("/commit/", 500, times=2, message="Told to.")
    row, synced = give(corrections), Sync(corrections, HubRows(DATASET), 0.001)
    assert synced.state().synced_at == ""
    synced.start()
    until(lambda: "Told to" in synced.state().error)
    until(lambda: synced.is_synced(row))
    until(lambda: synced.state().error == "" and synced.state().synced_at != "")
    later = give(corrections, 2)
    until(lambda: synced.is_synced(later))
    synced.close()
    assert same(rows(hub), [row, later])


def test_a_stop_pushes_what_waits(hub, corrections, synced):
    first = give(corrections)
    synced.start()
    until(lambda: synced.is_synced(first))
    second = give(corrections, 2)
    synced.close()
    assert same(rows(hub), [first, second])


def test_a_stop_waits_no_longer_than_it_is_told(hub, corrections, synced):
    give(corrections)
    with hub.lock:  # the Hub answers nobody
        synced.start()
        synced.close(0.1)
    synced._thread.join()
    assert len(rows(hub)) == 1


def test_rows_that_are_saved_while_many_are_taken_in_do_not_wait_for_all_of_them(
    hub, corrections, synced, tmp_path, monkeypatch
):
    monkeypatch.setattr(sync, "ROWS_AT_ONCE", 1)
    for seed in range(12):
        give(corrections, seed)
    synced.exchange()
    fresh = Corrections(tmp_path / "fresh")
    restarted, restore = Sync(fresh, HubRows(DATASET), 0), fresh.restore  # no time to take in more than a few at once
    pushed_at = []

    def restore_and_save(*arguments: object) -> None:
        restore(*arguments)
        if len(fresh.rows()) == 1:
            give(fresh, 99)
        pushed_at.append(len(rows(hub)))

    monkeypatch.setattr(fresh, "restore", restore_and_save)
    restarted.start()
    until(lambda: len(fresh.rows()) == 13 and restarted.state().waiting == 0)
    restarted.close()
    assert pushed_at == [12, *[13] * 11]
    assert same(rows(hub), fresh.rows())


def test_a_bug_does_not_end_what_keeps_the_rows(hub, corrections, synced, monkeypatch, capfd):
    monkeypatch.setattr(sync, "RETRY_SECONDS", 0.01)
    row, real = give(corrections), sync.without_metadata
    broken = iter([True])

    def fails_once(image: bytes) -> tuple[bytes, str]:
        if next(broken, False):
            raise AssertionError("a bug")
        return real(image)

    monkeypatch.setattr(sync, "without_metadata", fails_once)
    synced.start()
    until(lambda: synced.is_synced(row))
    synced.close()
    assert "a bug" in capfd.readouterr().err


# What is there is of use


def fill(corrections: Corrections, count: int, annotators: tuple[str, ...]) -> None:
    for seed in range(count):
        labels = [name for place, name in enumerate(HOSTILE[:-1]) if (seed + place) % 3 == 0]
        values = {"labels": labels, "threshold": (0.0, 0.5, 1.0)[seed % 3], "model": "local:test-run@1"}
        vocabulary = {"reviewed": "all", "vocabulary": HOSTILE[:-1]} if seed % 2 else {}
        give(corrections, seed, annotator=annotators[seed % len(annotators)], **values, **vocabulary)


def snapshot(hub: HubCommits, folder: Path) -> Path:
    for path, content in files(hub).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def test_datasets_loads_the_dataset_of_several_processes_as_an_imagefolder(hub, tmp_path):
    for number, annotators in enumerate([("",), ("ann", "12345"), ("", "null")]):
        corrections = Corrections(tmp_path / f"disk {number}")
        synced = new_sync(corrections)
        fill(corrections, 4 + number, annotators)
        synced.exchange()
    read = """if True:
        import json, sys
        from datasets import load_dataset
        rows = load_dataset("imagefolder", data_dir=sys.argv[1], cache_dir=sys.argv[2], split="train")
        print(json.dumps([
            [row["image"].size, json.loads(row["labels"]), json.loads(row["annotator"]), row["is_valid"],
             row["reviewed"], row["threshold"], row["model"], row["saved_at"]] for row in rows
        ]))"""
    command = [sys.executable, "-c", read, snapshot(hub, tmp_path / "snapshot"), tmp_path / "cache"]
    done = subprocess.run(command, capture_output=True, text=True, env={"HF_HUB_OFFLINE": "1", "PATH": "/usr/bin"})
    assert not done.returncode, done.stderr
    expected = [
        [
            [8, 6],
            json.loads(row["labels"]),
            json.loads(row["annotator"]),
            row["is_valid"] == "True",
            row["reviewed"],
            float(row["threshold"]),
            row["model"],
            row["saved_at"],
        ]
        for row in rows(hub)
    ]
    assert len(tables(hub)) == 3
    assert sorted(json.loads(done.stdout), key=repr) == sorted(expected, key=repr)


def test_the_command_pulls_the_rows_of_all_processes_into_one_folder(hub, tmp_path, capfd):
    saved = []
    for number in range(3):
        corrections = Corrections(tmp_path / f"disk {number}")
        synced = new_sync(corrections)
        synced.exchange()
        give(corrections, number, annotator=f"person {number}")
        synced.exchange()
        saved = corrections.rows()
    out = tmp_path / "out"
    assert sync.main([DATASET, "--out", str(out)]) == 0
    said = capfd.readouterr()
    assert said.out == f"{out / 'corrections.csv'}\n"
    assert "3 rows" in said.err
    assert sorted(Corrections(out).rows(), key=repr) == sorted(saved, key=repr)
    assert sync.main([DATASET, "--out", str(out)]) == 2
    assert sync.main([f"{OWNER}/none", "--out", str(tmp_path / "none")]) == 2
    assert sync.main(["none", "--out", str(tmp_path / "none")]) == 2
    assert TOKEN not in said.out + said.err + "".join(capfd.readouterr())


def test_rows_that_cannot_be_pulled_are_named(hub, corrections, synced, tmp_path, capfd):
    first, second = give(corrections, 1), give(corrections, 2)
    synced.exchange()
    kept = {path: content for path, content in files(hub).items() if first.file_name not in path}
    hub.repo(DATASET, "dataset").add("by hand", kept)
    assert sync.main([DATASET, "--out", str(tmp_path / "out")]) == 3
    assert f"skipped: {first.file_name[7:19]}" in capfd.readouterr().err
    assert Corrections(tmp_path / "out").rows() == [second]
    new_sync(corrections).exchange()  # and whoever has the picture puts it back
    assert same(rows(hub), [first, second])


def test_a_fine_tune_takes_what_was_pulled(hub, tmp_path, tiny_checkpoint):
    from demo import finetune

    corrections = Corrections(tmp_path / "disk")
    for seed in range(24):
        give(corrections, seed, labels=["cat"] if seed % 2 else ["dog"], annotator=f"person {seed % 3}")
    new_sync(corrections).exchange()
    assert sync.main([DATASET, "--out", str(tmp_path / "pulled")]) == 0
    arguments = [
        "--model",
        tiny_checkpoint,
        "--device",
        "cpu",
        "--workers",
        "0",
        "--train",
        "head",
        "--head-epochs",
        "1",
    ]
    for name, table in {
        "merged": tmp_path / "pulled" / "corrections.csv",
        "direct": next(snapshot(hub, tmp_path / "snapshot").glob("data/*/metadata.csv")),
    }.items():
        given = ["--csv", table, "--out", tmp_path / name, *arguments, "--head-epochs", "1"]
        assert finetune.main([str(argument) for argument in given]) == 0
        trained = json.loads((tmp_path / name / "metrics.json").read_text())["trained_images"]
        assert trained == Counter(row.is_valid for row in corrections.rows())[False]


def test_the_api_of_the_hub_sees_what_we_say_of_it(hub, corrections, synced):
    give(corrections)
    synced.exchange()
    assert HfApi().dataset_info(DATASET).private
    assert replace(synced.state(), synced_at="", error="") == sync.State(DATASET, True, 60, 0, "", "")
