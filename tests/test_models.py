"""Models in memory: loaded once for everybody, kept up to a number, and not at all when they are no good."""

from __future__ import annotations

import asyncio
import gc
import shutil
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import gradio as gr
import numpy as np
import psutil
import pytest
import torch
from PIL import Image

import demo.models
from demo.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from demo.errors import BadInput, CheckpointError, HubError
from demo.models import Load, Models, name_of, ref_of
from demo.settings import EMBEDDED_CHECKPOINT, Settings
from demo.tagger import Tagger
from demo.ui.desk import Desk
from demo.ui.model_box import ModelBox
from tests import loops

WAIT_SECONDS = 60


def settings_of(tiny_checkpoint: Path, tmp_path: Path, **others: object) -> Settings:
    return Settings(model=str(tiny_checkpoint), device="cpu", runs=tmp_path / "runs", **others)


@pytest.fixture
def models(tiny_checkpoint: Path, tmp_path: Path) -> Models:
    return Models(settings_of(tiny_checkpoint, tmp_path))


@pytest.fixture
def refs(tmp_path: Path, make_checkpoint: Callable[..., Checkpoint]) -> list[str]:
    """Four runs, the second with its own labels."""
    vocabularies = [{}, {"names": ("sun", "moon")}, {}, {}]
    folders = [tmp_path / "runs" / name for name in ("one", "two", "three", "four")]
    for seed, (folder, vocabulary) in enumerate(zip(folders, vocabularies, strict=True), start=1):
        save_checkpoint(folder, make_checkpoint(seed, **vocabulary))
    return [str(folder) for folder in folders]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The refs that were read from the disk, in order."""
    read: list[str] = []
    load = demo.models.load_checkpoint

    def counted(ref: str | None) -> Checkpoint:
        read.append(str(ref))
        return load(ref)

    monkeypatch.setattr(demo.models, "load_checkpoint", counted)
    return read


def test_a_ref_gives_its_model_and_a_second_time_the_same_one(
    models: Models, refs: list[str], loads: list[str]
) -> None:
    two = models.get(refs[1])
    assert two.checkpoint.labels.names == ("sun", "moon")
    assert models.get(refs[1]) is two
    assert models.get(ref_of(models.own)) is models.own
    assert loads == [refs[1]]


def test_the_one_not_asked_for_longest_goes_first_and_comes_back_when_asked_for(
    models: Models, refs: list[str], loads: list[str]
) -> None:
    one, _ = models.get(refs[0]), models.get(refs[1])
    assert models.get(refs[0]) is one
    models.get(refs[2])  # the third beside the server's own: the second has to go
    assert models.get(refs[0]) is one
    assert loads == refs[:3]
    assert models.get(refs[1]).checkpoint.labels.names == ("sun", "moon")
    assert loads == [*refs[:3], refs[1]]


def test_a_model_that_had_to_go_leaves_the_memory_and_the_servers_own_never_goes(
    models: Models, refs: list[str], loads: list[str]
) -> None:
    gone = weakref.ref(models.get(refs[0]))
    own = models.own
    gc.disable()  # a model that only the collector finds would stay for as long as nobody makes garbage
    try:
        for ref in refs[1:]:
            models.get(ref)
        assert gone() is None
    finally:
        gc.enable()
    assert models.get(ref_of(own)) is own
    assert loads == refs


def test_a_request_that_holds_a_model_finishes_with_it_after_it_had_to_go(models: Models, refs: list[str]) -> None:
    image = Image.new("RGB", (40, 40), "red")
    held = models.get(refs[0])
    before = held.tag(image).scores
    for ref in refs[1:]:
        models.get(ref)
    assert models.identity(refs[0]) is None
    assert np.array_equal(held.tag(image).scores, before)


def test_many_who_ask_at_once_load_it_once(
    models: Models, refs: list[str], loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody_asked = threading.Event()
    load = demo.models.load_checkpoint

    def late(ref: str | None) -> Checkpoint:
        assert everybody_asked.wait(WAIT_SECONDS)
        return load(ref)

    monkeypatch.setattr(demo.models, "load_checkpoint", late)
    waiting = [models.load(ref) for ref in (refs[0], str(Path(refs[0]).parent / "." / "one"), refs[0])]
    everybody_asked.set()
    taggers = {load.future.result(WAIT_SECONDS) for load in waiting}
    assert len(taggers) == 1
    assert loads == [refs[0]]


def test_who_tags_with_a_model_in_memory_does_not_wait_for_one_that_is_loaded(
    models: Models, refs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models.get(refs[0])
    begun, done = threading.Event(), threading.Event()
    load = demo.models.load_checkpoint

    def slow(ref: str | None) -> Checkpoint:
        begun.set()
        assert done.wait(WAIT_SECONDS)
        return load(ref)

    monkeypatch.setattr(demo.models, "load_checkpoint", slow)
    waiting = models.load(refs[1])
    assert begun.wait(WAIT_SECONDS)
    assert len(models.get(refs[0]).tag(Image.new("RGB", (32, 32))).scores) == 12
    assert not waiting.future.done()
    done.set()
    assert len(waiting.future.result(WAIT_SECONDS).checkpoint.labels) == 2


def test_a_model_that_does_not_load_changes_nothing(models: Models, refs: list[str], loads: list[str]) -> None:
    kept = models.get(refs[0])
    weights = Path(refs[1]) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    for ref in (refs[1], f"{refs[1]}/nowhere"):
        with pytest.raises(CheckpointError):
            models.get(ref)
    assert models.get(refs[0]) is kept
    assert models.vocabulary(kept.checkpoint.identity) == kept.checkpoint.labels.names


def test_a_model_that_the_device_cannot_hold_is_told(
    models: Models, refs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(demo.models, "Tagger", full)
    with pytest.raises(CheckpointError, match="out of memory"):
        models.get(refs[0])


def test_a_folder_whose_weights_changed_is_read_again_when_it_is_loaded_again(
    models: Models, refs: list[str], make_checkpoint: Callable[..., Checkpoint]
) -> None:
    old = models.get(refs[0])
    save_checkpoint(Path(refs[0]), make_checkpoint(9))
    assert models.get(refs[0]) is old
    load = models.load(refs[0])
    assert load.future.result(WAIT_SECONDS).checkpoint.identity != old.checkpoint.identity
    assert models.get(refs[0]) is load.future.result()


def test_the_labels_of_a_model_that_had_to_go_are_still_known(models: Models, refs: list[str]) -> None:
    identity = models.get(refs[1]).checkpoint.identity
    models.get(refs[2])
    models.get(refs[3])
    assert models.identity(refs[1]) is None
    assert models.vocabulary(identity) == ("sun", "moon")
    assert models.vocabulary("local:gone@000000000000") is None


def test_only_finished_runs_are_offered(models: Models, refs: list[str]) -> None:
    (Path(refs[0]).parent / "unfinished").mkdir()
    assert sorted(models.runs()) == sorted(refs)


def test_a_run_that_came_out_worse_is_not_offered_but_can_be_named(models: Models, refs: list[str]) -> None:
    for ref, metrics in zip(refs, ('{"verdict": "worse"}', '{"verdict": "same"}', "broken", "[]"), strict=True):
        (Path(ref) / "metrics.json").write_text(metrics)
    assert sorted(models.runs()) == sorted(refs[1:])
    assert models.get(refs[0])


def test_a_run_deleted_while_the_runs_are_listed_is_not_offered(
    models: Models, refs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    glob = Path.glob

    def glob_before_it_went(folder: Path, pattern: str) -> list[Path]:
        found = list(glob(folder, pattern))
        shutil.rmtree(refs[0])
        return found

    monkeypatch.setattr(Path, "glob", glob_before_it_went)
    assert sorted(models.runs()) == sorted(refs[1:])


def test_a_name_is_short(models: Models) -> None:
    assert name_of(ref_of(models.own)) == "tiny"
    assert name_of("owner/name@" + "0" * 40) == "owner/name"
    assert name_of(str(EMBEDDED_CHECKPOINT)) == "TagLoop demo"


# What visitors may load


@pytest.fixture
def stranger(tmp_path: Path, make_checkpoint: Callable[..., Checkpoint]) -> Path:
    """A checkpoint that is none of the server's runs."""
    save_checkpoint(tmp_path / "elsewhere" / "stranger", make_checkpoint(7))
    return tmp_path / "elsewhere" / "stranger"


@pytest.mark.parametrize("public", [{"on_space": True}, {"host": "0.0.0.0"}, {"host": "example.org"}])
def test_on_a_public_host_only_its_own_folders_are_loaded(
    tiny_checkpoint: Path,
    tmp_path: Path,
    refs: list[str],
    stranger: Path,
    public: dict,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = Models(settings_of(tiny_checkpoint, tmp_path, **public))
    for ref in (refs[0], str(tiny_checkpoint)):
        assert models.get(ref)
    (tmp_path / "runs" / "link").symlink_to(stranger)
    monkeypatch.chdir(stranger)
    traps = [stranger, f"{refs[0]}/../../elsewhere/stranger", tmp_path / "runs" / "link", ".", tmp_path / "runs"]
    for ref in map(str, [*traps, tmp_path / "nowhere", "/etc", "../../etc", "", "\0"]):
        with pytest.raises(BadInput, match="is not loaded here"):
            models.load(ref)


@pytest.mark.parametrize(
    ("others", "anybodys"),
    [
        ({"on_space": True}, True),
        ({"host": "0.0.0.0"}, True),
        ({}, False),
        ({"host": "0.0.0.0", "accounts": (("ann", "x"),)}, False),
        ({"on_space": True, "allow_models": ("owner",)}, False),
    ],
)
def test_where_strangers_come_what_they_name_is_fetched_as_anybody_would_unless_it_is_named_for_them(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: dict, anybodys: bool
) -> None:
    asked = []

    def fetch(ref: str, report: object, as_anybody: bool) -> None:  # the Hub itself is asked in test_hub.py
        asked.append((ref, as_anybody))
        raise HubError("There is no Hub here.")

    monkeypatch.setattr(demo.models.hub, "fetch", fetch)
    models = Models(settings_of(tiny_checkpoint, tmp_path, **others))
    with pytest.raises(HubError):
        models.get("owner/private")
    assert asked == [("owner/private", anybodys)]


def test_on_a_public_host_a_name_means_the_hub_even_where_a_folder_has_it(
    tiny_checkpoint: Path, tmp_path: Path, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models(settings_of(tiny_checkpoint, tmp_path, host="0.0.0.0"))
    asked = []

    def fetch(ref: str, report: object, as_anybody: bool) -> tuple[Path, str]:
        asked.append(ref)
        raise CheckpointError("No Hub here.")

    monkeypatch.setattr(demo.models.hub, "fetch", fetch)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="No Hub here"):
        models.get("elsewhere/stranger")
    assert asked == ["elsewhere/stranger"]


def test_on_ones_own_machine_any_folder_is_loaded(models: Models, stranger: Path) -> None:
    assert name_of(ref_of(models.get(str(stranger)))) == "stranger"


@pytest.mark.parametrize(
    ("allowed", "ref", "is_let_in"),
    [
        (("timm",), "timm/vit_tiny", True),
        (("timm",), "TIMM/vit_tiny@main", True),
        (("timm",), "timmy/vit_tiny", False),
        (("timm",), "owner/timm", False),
        (("owner/name",), "owner/name@v1", True),
        (("owner/name",), "owner/other", False),
        ((), "owner/name", False),
    ],
)
def test_an_allow_list_names_owners_and_repos(
    tiny_checkpoint: Path, tmp_path: Path, allowed: tuple, ref: str, is_let_in: bool
) -> None:
    models = Models(settings_of(tiny_checkpoint, tmp_path, allow_models=allowed))
    if is_let_in:
        models.check(ref)
    else:
        with pytest.raises(BadInput, match="This server allows " + (", ".join(allowed) or "none")):
            models.check(ref)


# Memory


def resident_after_switches(models: Models, refs: list[str]) -> list[int]:
    """Resident bytes after each of a hundred switches, an image tagged by each model."""
    image, process, resident = Image.new("RGB", (64, 64), "green"), psutil.Process(), []
    for switch in range(100):
        models.get(refs[switch % len(refs)]).tag(image)
        resident.append(process.memory_info().rss)
    return resident


@pytest.mark.slow
def test_a_hundred_switches_among_five_models_take_no_more_memory(
    tiny_checkpoint: Path, tmp_path: Path, refs: list[str], loads: list[str]
) -> None:
    models = Models(settings_of(tiny_checkpoint, tmp_path))
    resident = resident_after_switches(models, [*refs, str(tiny_checkpoint)])
    assert len(loads) > 75
    assert resident[99] <= 1.05 * resident[19]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_switches_among_five_copies_of_the_embedded_model_take_no_more_memory(tmp_path: Path) -> None:
    checkpoint, refs = load_checkpoint(), []
    for number in range(5):
        torch.nn.init.constant_(next(checkpoint.model.parameters()), number)  # other weights, another identity
        save_checkpoint(tmp_path / "runs" / f"copy-{number}", checkpoint)
        refs.append(str(tmp_path / "runs" / f"copy-{number}"))
    del checkpoint
    resident = resident_after_switches(Models(Settings(device="cpu", runs=tmp_path / "runs")), refs)
    after_20, after_100, most = (round(size / 1e6) for size in (resident[19], resident[99], max(resident)))
    print(f"\nresident memory: {after_20} MB after 20 switches, {after_100} MB after 100, {most} MB at most")
    assert resident[99] <= 1.05 * resident[19]


@pytest.mark.parametrize("outcome", ["loaded", "refused", "a fault"])
def test_while_a_model_is_read_again_for_the_model_box_the_server_answers_others(
    models: Models, refs: list[str], monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    desk, get, on_the_loop = Desk(lambda: ref_of(models.own)), models.get, []

    def watched(ref: str) -> Tagger:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return get(ref)
        on_the_loop.append(ref)
        return get(ref)

    def broken(ref: str) -> Load:
        load = Load(ref)
        load.future.set_exception(ZeroDivisionError("a fault"))
        return load

    async def shown() -> list[tuple]:
        with gr.Blocks():
            box = ModelBox(models, gr.State())
        found = [shown async for shown in box.enter(desk, {})]
        with suppress(ZeroDivisionError):
            async for more in box._switch(refs[0] if outcome != "refused" else "no/where/at/all", desk, {}):
                found.append(more)
        return found

    monkeypatch.setattr(models, "get", watched)
    if outcome == "a fault":
        monkeypatch.setattr(models, "load", broken)
    entered, *_, (last, _) = loops.run(shown())
    assert on_the_loop == []
    assert entered[0]["error"] == ""
    assert bool(last["error"]) == (outcome != "loaded")
    assert desk.model == (refs[0] if outcome == "loaded" else ref_of(models.own))


def test_visitors_who_switch_at_once_get_what_they_asked_for(models: Models, refs: list[str]) -> None:
    def ask(number: int) -> bool:
        ref = refs[number % 4]
        return ref_of(models.get(ref)) == ref

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(60)))


def test_the_servers_own_model_can_be_replaced_and_given_back(
    models: Models, refs: list[str], loads: list[str]
) -> None:
    first = models.own
    assert models.former is None
    models.make_own(refs[1])
    assert models.own.checkpoint.labels.names == ("sun", "moon")
    assert models.former == ref_of(first)
    assert models.get(models.former) is first
    models.make_own(refs[1])
    models.make_own(models.former)
    assert (models.own, models.former) == (first, refs[1])
    assert loads == [refs[1]]


def test_a_broken_run_does_not_become_the_servers_own_and_the_first_one_is_always_a_way_back(
    tmp_path: Path, tiny_checkpoint: Path, refs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_checkpoint.parent)
    models = Models(settings_of(Path("tiny"), tmp_path, host="0.0.0.0", max_models=2))
    first = ref_of(models.own)
    (Path(refs[0]) / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError):
        models.make_own(refs[0])
    assert (ref_of(models.own), models.former) == (first, None)
    models.make_own(refs[1])
    models.make_own(refs[2])
    models.make_own(first)
    assert ref_of(models.own) == first


def test_a_desk_follows_the_servers_own_model_until_another_is_chosen() -> None:
    server = ["one"]
    desk, other = Desk(lambda: server[0]), Desk(lambda: server[0])
    other.choose("mine")
    server[0] = "two"
    assert (desk.model, desk.before) == ("two", None)
    assert (other.model, other.before) == ("mine", "one")
    other.choose("two")
    server[0] = "three"
    assert (other.model, other.before) == ("three", "mine")
