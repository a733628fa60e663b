"""Checkpoint folders: what loads, what is written, and what each broken one is told."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from demo import checkpoint as module
from demo.checkpoint import load_checkpoint, save_checkpoint, with_input
from demo.errors import CheckpointError
from demo.labels import LabelSet
from tests.conftest import NAMES, THRESHOLD, seeded_checkpoint

PIXELS = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32))


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may break."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "mine"))


def change(folder: Path, edit: Callable[[dict], object], name: str = "config.json") -> Path:
    value = json.loads((folder / name).read_text(encoding="utf-8"))
    edit(value)
    (folder / name).write_text(json.dumps(value), encoding="utf-8")
    return folder


def change_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors")
    return folder


def refusal(folder: Path | str) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    return str(caught.value)


@torch.inference_mode()
def logits(model: torch.nn.Module) -> np.ndarray:
    return model(PIXELS).numpy()


# What is written loads


def test_a_saved_checkpoint_loads_with_the_same_weights_labels_and_preprocessing(tmp_path: Path) -> None:
    made = seeded_checkpoint()
    made.labels = LabelSet(made.labels.names, ("animal",) * 12, (0.25, *[None] * 11))
    save_checkpoint(tmp_path / "out", made)
    again = load_checkpoint(tmp_path / "out")
    state = again.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in made.model.state_dict().items())
    assert np.array_equal(logits(again.model), logits(made.model))
    assert again.labels == made.labels
    assert again.labels.thresholds == made.labels.thresholds
    assert again.data == made.data
    assert again.metrics == made.metrics
    assert (again.threshold, again.card, again.single_label) == (THRESHOLD, "# tiny\n", False)
    assert not again.model.training


def test_half_stores_the_weights_rounded_to_fp16_and_loads_them_as_fp32(tmp_path: Path) -> None:
    made = seeded_checkpoint()
    save_checkpoint(tmp_path / "out", made, half=True)
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.float16}
    state = load_checkpoint(tmp_path / "out").model.state_dict()
    for name, tensor in made.model.state_dict().items():
        assert torch.equal(state[name], tensor.half().float())


def test_saving_again_what_was_loaded_changes_no_byte(tiny_checkpoint: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "out", load_checkpoint(tiny_checkpoint))
    files = {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files


def test_timm_loads_a_saved_folder_by_itself(tiny_checkpoint: Path) -> None:
    model = timm.create_model(f"local-dir:{tiny_checkpoint}", pretrained=True).eval()
    assert np.array_equal(logits(model), logits(load_checkpoint(tiny_checkpoint).model))


def test_a_convolutional_model_in_channels_last_round_trips(tmp_path: Path) -> None:
    made = seeded_checkpoint()
    made.model = timm.create_model("test_resnet", num_classes=12).to(memory_format=torch.channels_last).eval()
    made.config = {"architecture": "test_resnet"}
    save_checkpoint(tmp_path / "out", made)
    assert np.allclose(logits(load_checkpoint(tmp_path / "out").model), logits(made.model), atol=1e-6)


def test_a_softmax_head_stays_one_when_it_is_saved(tmp_path: Path) -> None:
    made = seeded_checkpoint()
    made.single_label = True
    save_checkpoint(tmp_path / "out", made)
    assert load_checkpoint(tmp_path / "out").single_label


def test_label_names_that_need_care_round_trip(tmp_path: Path) -> None:
    made = seeded_checkpoint()
    names = ("null", "nan", "NA", 'a "b"', "a,b", "a\nb", "a\r\nb", "a\rb", "<b>", "\\m/", "ünï", "=1+1")
    made.labels = LabelSet(names)
    save_checkpoint(tmp_path / "out", made)
    assert load_checkpoint(tmp_path / "out").labels.names == names


@pytest.mark.parametrize("there_before", [False, True])
@pytest.mark.parametrize("writes", range(5))
def test_a_folder_does_not_load_at_any_moment_before_its_last_write(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int, there_before: bool
) -> None:
    put, done = module.put, []

    def put_some(path: Path, content: bytes) -> None:
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(path.name)
        put(path, content)

    out = folder if there_before else tmp_path / "new"
    with monkeypatch.context() as patch:
        patch.setattr(module, "put", put_some)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(out, seeded_checkpoint(1))
    assert "no config.json. A fine-tune that has not finished leaves such a folder." in refusal(out)

    save_checkpoint(out, seeded_checkpoint(1))
    assert np.array_equal(logits(load_checkpoint(out).model), logits(seeded_checkpoint(1).model))


def test_the_identity_of_a_folder_is_its_name_and_its_weights_hash(folder: Path) -> None:
    before = load_checkpoint(folder).identity
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert before == f"local:mine@{digest[:12]}"
    change_weights(folder, lambda state: state["head.bias"].add_(1e-3))
    assert re.fullmatch(r"local:mine@[0-9a-f]{12}", load_checkpoint(folder).identity)
    assert load_checkpoint(folder).identity != before


def test_the_identity_does_not_depend_on_how_the_folder_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_checkpoint(folder).identity
    monkeypatch.chdir(folder)
    assert load_checkpoint(".").identity == whole
    monkeypatch.chdir(folder.parent)
    assert load_checkpoint("mine").identity == whole


# Labels


def by_index(names: list[str]) -> dict[str, str]:
    """An object keyed by index strings, in the order that sorting them as text gives."""
    return {key: names[int(key)] for key in sorted(str(index) for index in range(len(names)))}


@pytest.mark.parametrize(
    "edit",
    [
        lambda config, names: config.update(label_names=names),
        lambda config, names: config.update(label_names=by_index(names)),
        lambda config, names: config.update(label_names=dict(reversed(by_index(names).items()))),
        lambda config, names: config.update(label_names={f"id of {name}": name for name in names}),
        lambda config, names: config.update(tags=names),
        lambda config, names: config["pretrained_cfg"].update(label_names=names),
        lambda config, names: config["pretrained_cfg"].update(label_names=by_index(names)),
        lambda config, names: (config.update(label_names=names), config["pretrained_cfg"].update(label_names=["x"])),
        lambda config, names: (config.update(tags=["x"]), config["pretrained_cfg"].update(label_names=names)),
        lambda config, names: config.update(label_names=names, tags=["x"]),
    ],
    ids=[
        "list",
        "by index, as text",
        "by index, backwards",
        "by another key",
        "tags",
        "in pretrained_cfg",
        "in pretrained_cfg by index",
        "the top level wins",
        "tags come last",
        "label_names before tags",
    ],
)
def test_label_names_are_found_and_in_logit_order(folder: Path, edit: Callable) -> None:
    (folder / "selected_tags.csv").unlink()

    def rename(config: dict) -> None:
        names = config.pop("label_names")
        edit(config, names)

    assert load_checkpoint(change(folder, rename)).labels.names == NAMES


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (list(NAMES[:-1]), ["11 label names", "12 outputs"]),
        ([*NAMES, "more"], ["13 label names", "12 outputs"]),
        ([*NAMES[:-1], "cat"], ["'cat'", "twice"]),
        ([*NAMES[:-1], ""], ["number 11", "empty"]),
        ({str(index + 1): name for index, name in enumerate(NAMES)}, ["not 0 to 11"]),
        ({"0": "cat", "zero": "dog"}, ["not 0 to 1"]),
        ([*NAMES[:-1], None], ["not a list of strings"]),
        ({"cat": {"id": 3}}, ["not a list of strings"]),
        ("cat dog", ["not a list of strings"]),
        (7, ["not a list of strings"]),
        ([], ["names no labels"]),
        (None, ["names no labels"]),
    ],
)
def test_what_is_wrong_with_the_label_names_is_said(folder: Path, names: object, words: list[str]) -> None:
    (folder / "selected_tags.csv").unlink()
    message = refusal(change(folder, lambda config: config.update(label_names=names)))
    assert all(word in message for word in words), message


def test_tags_and_config_that_differ_are_refused_with_the_first_difference(folder: Path) -> None:
    names = list(NAMES)
    names[3], names[4] = names[4], names[3]
    (folder / "selected_tags.csv").write_text("name\n" + "\n".join(names) + "\n")
    message = refusal(folder)
    assert "do not name the same labels in the same order" in message
    assert "Number 3 is 'sky' in one and 'tree' in the other" in message
    (folder / "selected_tags.csv").write_text("name\ncat\n")
    assert "They hold 1 and 12 labels." in refusal(folder)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({}, False),
        ({"problem_type": "single_label_classification"}, True),
        ({"problem_type": None}, False),
    ],
)
def test_a_head_is_a_softmax_where_the_config_says_so(folder: Path, edit: dict, expected: bool) -> None:
    assert load_checkpoint(change(folder, lambda config: config.update(edit))).single_label is expected


def test_a_head_over_imagenets_synsets_is_a_softmax_unless_the_config_says_otherwise(folder: Path) -> None:
    (folder / "selected_tags.csv").unlink()

    def synsets(config: dict) -> None:
        config["label_names"] = [f"n{number:08d}" for number in range(12)]
        del config["problem_type"]

    assert load_checkpoint(change(folder, synsets)).single_label
    change(folder, lambda config: config.update(problem_type="multi_label_classification"))
    assert not load_checkpoint(folder).single_label


# What is broken


@pytest.mark.parametrize(
    ("name", "words"),
    [("config.json", "A fine-tune that has not finished"), ("model.safetensors", "model.safetensors only: a pickle")],
)
def test_a_missing_file_is_named_with_the_likely_reason(folder: Path, name: str, words: str) -> None:
    (folder / name).unlink()
    message = refusal(folder)
    assert f"has no {name}." in message
    assert words in message


def test_optional_files_may_be_missing(folder: Path) -> None:
    for name in ("selected_tags.csv", "metrics.json", "README.md"):
        (folder / name).unlink()
    loaded = load_checkpoint(folder)
    assert loaded.labels == LabelSet(NAMES)
    assert (loaded.metrics, loaded.curve, loaded.card, loaded.threshold) == ({}, None, "", 0.5)


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"text"', b"\xff\xfe{}", b"{" * 100_000])
def test_broken_json_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert str(folder / name) in refusal(folder)


@pytest.mark.parametrize("argument", ["checkpoint_path", "pretrained_cfg", "pretrained", "cache_dir", "device"])
def test_a_config_cannot_make_timm_open_another_file(folder: Path, argument: str) -> None:
    message = refusal(change(folder, lambda config: config["model_args"].update({argument: "/tmp/canary.pth"})))
    assert f"holds {argument}." in message


@pytest.mark.parametrize("name", ["no_such_model", "", None, 3, ["vit"], "hf-hub:owner/name", "local-dir:/tmp", "../x"])
def test_an_architecture_that_timm_does_not_have_is_named(folder: Path, name: object) -> None:
    message = refusal(change(folder, lambda config: config.update(architecture=name)))
    assert f"names the architecture {name!r}" in message


@pytest.mark.parametrize(
    "edit",
    [
        lambda config: config.update(model_args=[1]),
        lambda config: config.update(pretrained_cfg="text"),
        lambda config: config["model_args"].update(no_such_argument=1),
        lambda config: config["model_args"].update(num_heads=5),
        lambda config: config["model_args"].update(embed_dim="wide"),
        lambda config: config["model_args"].update(act_layer="no such"),
        lambda config: config["pretrained_cfg"].update(input_size=[3, 32]),
        lambda config: config["pretrained_cfg"].update(input_size=[3, 10**6, 10**6]),
        lambda config: config["pretrained_cfg"].update(input_size=[1, 32, 32]),
        lambda config: config["pretrained_cfg"].update(input_size="big"),
        lambda config: config["pretrained_cfg"].update(mean=["a", "b", "c"]),
        lambda config: config["pretrained_cfg"].update(std=[0, 0, 0]),
        lambda config: config["pretrained_cfg"].update(crop_pct="most"),
        lambda config: config["pretrained_cfg"].update(interpolation="no such"),
    ],
    ids=lambda edit: None,
)
def test_a_config_that_makes_no_model_is_an_error_that_names_it(folder: Path, edit: Callable) -> None:
    assert str(folder) in refusal(change(folder, edit))


def test_what_the_model_arguments_say_of_the_number_of_classes_does_not_count(folder: Path) -> None:
    change(folder, lambda config: config["model_args"].update(num_classes=1000))
    assert len(load_checkpoint(folder).labels) == 12


def test_unknown_keys_in_a_config_are_ignored(folder: Path) -> None:
    change(folder, lambda config: (config.update(ours=1), config["pretrained_cfg"].update(theirs=2)))
    assert len(load_checkpoint(folder).labels) == 12


def test_a_config_without_pretrained_cfg_uses_the_models_own_preprocessing(folder: Path) -> None:
    change(folder, lambda config: config.pop("pretrained_cfg"))
    assert load_checkpoint(folder).data["mean"] == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    "ref", ["no-such-folder", "a/b/c", "", "\0", "x" * 5000, "o/n@", "http://o/n", "None", "./o/n"]
)
def test_a_name_that_is_neither_folder_nor_repo_is_said_to_be(
    ref: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"There is no checkpoint at|has no config\.json"):
        load_checkpoint(ref)


def test_a_missing_default_checkpoint_is_named_by_its_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "EMBEDDED_CHECKPOINT", tmp_path / "assets")
    with pytest.raises(CheckpointError, match=re.escape(repr(str(tmp_path / "assets")))):
        load_checkpoint()


# Other layouts; more in test_layouts.py


def test_label_names_in_the_config_make_it_plain_timm_even_with_a_tag_id_column(folder: Path) -> None:
    rows = "".join(f"{number},{name}\n" for number, name in enumerate(NAMES))
    (folder / "selected_tags.csv").write_text("tag_id,name\n" + rows)
    assert load_checkpoint(folder).labels.names == NAMES


def test_tags_that_are_not_utf8_are_named(folder: Path) -> None:
    (folder / "selected_tags.csv").write_bytes(b"name\nm\xfcde\n")
    assert "selected_tags.csv cannot be read" in refusal(folder)


# Another input


def test_another_input_size_resamples_the_positions_and_is_saved(tmp_path: Path, tiny_checkpoint: Path) -> None:
    larger = with_input(load_checkpoint(tiny_checkpoint), 48, None)
    assert larger.data["input_size"] == (3, 48, 48)
    assert larger.model.pos_embed.shape == (1, 6 * 6 + 1, 48)
    save_checkpoint(tmp_path / "out", larger)
    again = load_checkpoint(tmp_path / "out")
    assert tuple(again.data["input_size"]) == (3, 48, 48)
    pixels = torch.rand(2, 3, 48, 48)
    with torch.inference_mode():
        assert torch.equal(again.model(pixels), larger.model(pixels))


def test_resampled_positions_are_close_to_what_they_were(tiny_checkpoint: Path) -> None:
    before = load_checkpoint(tiny_checkpoint)
    with torch.no_grad():
        before.model.pos_embed[:, 1:] = torch.linspace(-1, 1, 16).reshape(1, 16, 1)
    after = with_input(before, 48, None).model.pos_embed[0, 1:, 0].reshape(6, 6)
    assert torch.all(after[:, 1:] > after[:, :-1])
    assert torch.all(after[1:] > after[:-1])


def test_the_same_size_and_no_crop_mode_change_nothing(tiny_checkpoint: Path) -> None:
    before = load_checkpoint(tiny_checkpoint)
    weights = before.model.pos_embed.clone()
    after = with_input(before, 32, None)
    assert (after.data, after.config) == (before.data, before.config)
    assert torch.equal(after.model.pos_embed, weights)


def test_squash_shows_the_whole_photo_and_is_saved(tiny_checkpoint: Path, tmp_path: Path) -> None:
    squashed = with_input(load_checkpoint(tiny_checkpoint), None, "squash")
    assert (squashed.data["crop_mode"], squashed.data["crop_pct"]) == ("squash", 1.0)
    save_checkpoint(tmp_path / "out", squashed)
    assert load_checkpoint(tmp_path / "out").data["crop_mode"] == "squash"
    assert load_checkpoint(tmp_path / "out").data["crop_pct"] == 1.0


def test_a_size_that_the_model_cannot_take_is_an_error(tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="vit_tiny_patch16_224 cannot take 3 px"):
        with_input(load_checkpoint(tiny_checkpoint), 3, None)


def test_a_model_of_fixed_size_says_so(tiny_checkpoint: Path) -> None:
    fixed = load_checkpoint(tiny_checkpoint)
    fixed.model = torch.nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match="takes no other input size"):
        with_input(fixed, 48, None)
