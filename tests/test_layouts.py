"""Each layout against its own family, to the pixel; what each is told when it is broken; and that it stays itself.

`python -m pytest tests/test_layouts.py -s` prints the largest differences, layout × kind of image.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform, resolve_data_config

from demo import finetune
from demo.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, with_input
from demo.errors import CheckpointError, ImageRejected
from demo.images import decode
from demo.tagger import Tagger
from tests.families import CATEGORIES, FAMILIES, LABELS, THRESHOLDS, Family, wd, write_json
from tests.hub_client import run_client
from tests.hub_server import serve_hub

LARGEST = 1e-5
SLUGS = {name: "owner/" + name.lower().replace(" ", "-").replace(",", "") for name in FAMILIES}


# Twenty pictures


def noise(width: int, height: int, seed: int, channels: int = 3) -> Image.Image:
    """Blocks and noise, so that a resize has edges to get wrong."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (7, 5, channels), dtype=np.uint8)
    blocks = np.asarray([Image.fromarray(blocks[..., band]).resize((width, height), 0) for band in range(channels)])
    values = blocks.transpose(1, 2, 0).astype(int) + generator.integers(-40, 40, (height, width, channels))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8).squeeze())


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def pictures() -> dict[str, list[bytes]]:
    """Twenty files by kind of image."""
    palette = noise(61, 43, 5).quantize(17)
    deep = Image.fromarray(np.random.default_rng(6).integers(0, 65536, (53, 37)).astype(np.uint16))
    return {
        "RGB": [
            saved(noise(101, 67, 0), "PNG"),
            saved(noise(33, 97, 1), "JPEG"),
            saved(noise(31, 31, 2), "WEBP", lossless=True),
            saved(noise(5, 3, 3), "BMP"),
            saved(noise(211, 19, 4), "TIFF"),
        ],
        "alpha": [
            saved(noise(71, 45, 7, 4), "PNG"),
            saved(noise(39, 83, 8, 4), "WEBP", lossless=True, exact=True),
            saved(noise(47, 29, 9, 2), "PNG"),
        ],
        "palette": [
            saved(palette, "PNG"),
            saved(palette, "GIF"),
            saved(palette, "PNG", transparency=3),
        ],
        "CMYK": [saved(noise(77, 41, 10, 4).convert("RGB").convert("CMYK"), "JPEG")],
        "grey": [
            saved(noise(49, 91, 11, 1), "PNG"),
            saved(noise(58, 35, 12, 1), "JPEG"),
            saved(noise(43, 27, 13, 1).convert("1"), "PNG"),
        ],
        "16-bit": [saved(deep, "PNG"), saved(deep.resize((90, 20), 0), "TIFF")],
        "EXIF": [
            saved(noise(87, 51, 14), "JPEG", exif=turned(6)),
            saved(noise(51, 87, 15), "JPEG", exif=turned(3)),
            saved(noise(63, 40, 16, 4), "PNG", exif=turned(5)),
        ],
    }


PICTURES = pictures()


# The families


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Family]:
    folder = tmp_path_factory.mktemp("families")
    return {name: make(folder / SLUGS[name].partition("/")[2]) for name, make in FAMILIES.items()}


@pytest.fixture(scope="session")
def loaded(families: dict[str, Family]) -> dict[str, Checkpoint]:
    return {name: load_checkpoint(family.folder) for name, family in families.items()}


def theirs(name: str, pixels: torch.Tensor) -> torch.Tensor:
    """Our pixels as a family's model takes them: WD's takes BGR."""
    return pixels.flip(0) if name == "WD v3" else pixels


@torch.inference_mode()
def logits(checkpoint: Checkpoint, pixels: torch.Tensor) -> torch.Tensor:
    return checkpoint.model(pixels.unsqueeze(0))[0]


def table(title: str, differences: dict[str, dict[str, float]]) -> None:
    print(f"\n{title:24}" + "".join(f"{kind:>9}" for kind in PICTURES))
    for name, row in differences.items():
        print(f"{name:24}" + "".join(f"{value:9.0e}" if value else f"{'0':>9}" for value in row.values()))


def test_there_are_twenty_pictures_of_odd_sizes() -> None:
    assert sum(map(len, PICTURES.values())) == 20
    sizes = {decode(data).size for files in PICTURES.values() for data in files}
    assert len(sizes) >= 17


def test_pixels_are_those_of_the_family(families: dict[str, Family], loaded: dict[str, Checkpoint]) -> None:
    differences = {
        name: {
            kind: max(
                float((theirs(name, loaded[name].preprocess(decode(data))) - family.pixels(data)).abs().max())
                for data in files
            )
            for kind, files in PICTURES.items()
        }
        for name, family in families.items()
    }
    table("largest difference, pixels", differences)
    assert max(max(row.values()) for row in differences.values()) <= LARGEST


def test_logits_are_those_of_the_family(families: dict[str, Family], loaded: dict[str, Checkpoint]) -> None:
    differences: dict[str, dict[str, float]] = {}
    for name, family in families.items():
        differences[name] = {}
        for kind, files in PICTURES.items():
            pixels = [family.pixels(data) for data in files]
            told = [family.logits(one) for one in pixels]
            ours = [logits(loaded[name], theirs(name, one)) for one in pixels]
            differences[name][kind] = float((torch.stack(ours) - torch.stack(told)).abs().max())
            assert torch.stack(told).std() > 0.1
    table("largest difference, logits", differences)
    assert max(max(row.values()) for row in differences.values()) <= LARGEST


# What a checkpoint says of its labels


@pytest.mark.parametrize("name", ["animetimm", "WD v3"])
def test_a_taggers_labels_come_from_its_csv_by_category(loaded: dict[str, Checkpoint], name: str) -> None:
    labels = loaded[name].labels
    called = {0: "general", 4: "character", 9: "rating"}
    assert labels.names == LABELS
    assert labels.categories == tuple(called[number] for number in CATEGORIES)
    assert labels.exclusive == {"rating"}
    assert labels.thresholds == (THRESHOLDS if name == "animetimm" else ())


def test_a_transformers_checkpoint_names_its_labels_in_the_config(loaded: dict[str, Checkpoint]) -> None:
    assert loaded["ViT"].labels.names == LABELS


def test_a_bare_classifier_of_a_thousand_classes_names_imagenets(loaded: dict[str, Checkpoint]) -> None:
    names = loaded["timm, bare"].labels.names
    assert len(names) == 1000
    assert names[0] == "tench, Tinca tinca"
    assert (names[134], names[517]) == ("crane (134)", "crane (517)")


def test_the_recommended_threshold_is_the_authors(loaded: dict[str, Checkpoint]) -> None:
    assert loaded["WD v3"].threshold == 0.2614
    assert loaded["animetimm"].threshold == 0.36
    assert loaded["ViT"].threshold == 0.5


def test_thresholds_of_categories_stand_in_for_those_of_labels(families: dict[str, Family], tmp_path: Path) -> None:
    folder = copy(families["animetimm"], tmp_path)
    rows = [line.rpartition(",")[0] for line in (folder / "selected_tags.csv").read_text().splitlines()]
    (folder / "selected_tags.csv").write_text("\n".join(rows) + "\n")
    expected = {9: 0.4, 0: 0.36, 4: 0.53}
    assert load_checkpoint(folder).labels.thresholds == tuple(expected[number] for number in CATEGORIES)


@pytest.mark.parametrize(
    ("problem_type", "expected"),
    [("multi_label_classification", False), ("single_label_classification", True), (None, True)],
)
def test_a_transformers_head_is_a_softmax_unless_it_says_otherwise(
    families: dict[str, Family], tmp_path: Path, problem_type: str | None, expected: bool
) -> None:
    folder = copy(families["ViT"], tmp_path)
    change(folder, "config.json", lambda config: config.update(problem_type=problem_type))
    assert load_checkpoint(folder).single_label is expected


def test_which_heads_are_softmaxes(loaded: dict[str, Checkpoint]) -> None:
    assert [name for name, checkpoint in loaded.items() if checkpoint.single_label] == ["timm, bare"]


def test_a_wd_tagger_of_10861_tags_loads_and_tags(tmp_path: Path) -> None:
    family = wd(tmp_path / "wd", labels=10_861)
    checkpoint = load_checkpoint(family.folder)
    assert len(checkpoint.labels) == 10_861
    assert {name: checkpoint.labels.categories.count(name) for name in ("rating", "general", "character")} == {
        "rating": 4,
        "general": 8857,
        "character": 2000,
    }
    (scores,) = Tagger(checkpoint, "cpu").scores([decode(PICTURES["RGB"][0])])
    assert np.abs(scores - family.logits(family.pixels(PICTURES["RGB"][0])).sigmoid().numpy()).max() < LARGEST


# What is saved is plain timm, and scores the same


@pytest.mark.parametrize("name", FAMILIES)
def test_a_checkpoint_saved_again_is_plain_timm_with_the_same_scores(
    loaded: dict[str, Checkpoint], tmp_path: Path, name: str
) -> None:
    before = loaded[name]
    save_checkpoint(tmp_path / "out", before)
    again = load_checkpoint(tmp_path / "out")
    assert not {"model_type", "architectures"} & set(again.config)
    assert again.preprocess == before.preprocess
    assert (again.labels, again.labels.thresholds) == (before.labels, before.labels.thresholds)
    assert (again.single_label, again.threshold) == (before.single_label, before.threshold)
    for kind in ("RGB", "alpha"):
        pixels = before.preprocess(decode(PICTURES[kind][0]))
        assert torch.equal(again.preprocess(decode(PICTURES[kind][0])), pixels)
        assert torch.equal(logits(again, pixels), logits(before, pixels))


@pytest.mark.parametrize("name", ["animetimm", "WD v3", "ViT", "DeiT", "BEiT", "Swin", "timm"])
def test_timm_alone_reads_what_was_saved(loaded: dict[str, Checkpoint], tmp_path: Path, name: str) -> None:
    save_checkpoint(tmp_path / "out", loaded[name])
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    pixels = loaded[name].preprocess(decode(PICTURES["RGB"][0]))
    if name in ("ViT", "BEiT", "Swin", "timm"):
        transform = create_transform(**resolve_data_config(model.pretrained_cfg, model=model))
        assert torch.equal(transform(decode(PICTURES["RGB"][0])), pixels)
    with torch.inference_mode():
        # timm's layer norms have an epsilon of their own
        assert (model(pixels.unsqueeze(0))[0] - logits(loaded[name], pixels)).abs().max() < 1e-3


@pytest.mark.parametrize("name", ["animetimm", "WD v3", "ViT", "Swin", "DINOv2", "timm, bare"])
def test_a_fine_tune_starts_from_any_layout(
    families: dict[str, Family], loaded: dict[str, Checkpoint], tmp_path: Path, name: str
) -> None:
    first, second = loaded[name].labels.names[2:4]
    rows = []
    for number, data in enumerate([*PICTURES["alpha"], *PICTURES["palette"]]):
        (tmp_path / f"{number}.img").write_bytes(data)
        rows.append({"file_name": f"{number}.img", "labels": json.dumps([(first, second, "new")[number % 3]])})
    pandas.DataFrame(rows).to_csv(tmp_path / "some.csv", index=False)
    told = ["--csv", tmp_path / "some.csv", "--model", families[name].folder, "--out", tmp_path / "out"]
    how = {"--train": "norm", "--epochs": 1, "--workers": 0, "--device": "cpu"}
    assert finetune.main([str(part) for part in (*told, *(part for flag in how.items() for part in flag))]) == 0
    tuned = load_checkpoint(tmp_path / "out")
    assert tuned.labels.names == (*loaded[name].labels.names, "new")
    assert tuned.preprocess == loaded[name].preprocess
    if loaded[name].labels.categories:
        assert tuned.labels.categories == (*loaded[name].labels.categories, "")


@pytest.mark.parametrize("name", ["animetimm", "WD v3", "ViT", "DINOv2"])
def test_another_input_size_keeps_what_comes_before_the_resize(
    families: dict[str, Family], tmp_path: Path, name: str
) -> None:
    before = load_checkpoint(families[name].folder)
    larger = with_input(before, 56, None) if name != "animetimm" else with_input(before, None, "squash")
    save_checkpoint(tmp_path / "out", larger)
    again = load_checkpoint(tmp_path / "out")
    picture = decode(PICTURES["alpha"][0])
    assert torch.equal(again.preprocess(picture), larger.preprocess(picture))
    assert again.preprocess.white is before.preprocess.white
    logits(again, again.preprocess(picture))


# From a Hub, and without it

SCORE = """
import json, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import numpy as np
from demo.checkpoint import load_checkpoint
from demo.images import decode
from demo.tagger import Tagger
picture = decode(Path(sys.argv[1]).read_bytes())
loaded = {ref: load_checkpoint(ref) for ref in sys.argv[2:]}
print(json.dumps({
    ref: [checkpoint.identity, Tagger(checkpoint, "cpu").tag(picture).scores.tolist()]
    for ref, checkpoint in loaded.items()
}))
"""


@pytest.mark.slow
def test_each_layout_loads_from_a_hub_and_with_the_hub_gone_from_the_cache(
    families: dict[str, Family], loaded: dict[str, Checkpoint], tmp_path: Path
) -> None:
    picture = tmp_path / "picture"
    picture.write_bytes(PICTURES["alpha"][0])
    with serve_hub(tmp_path / "hub") as server:
        commits = {name: server.publish(SLUGS[name], family.folder) for name, family in families.items()}
        refs = [f"{SLUGS[name]}@{commit}" for name, commit in commits.items()]
        told = run_client(SCORE, picture, *refs, endpoint=server.endpoint, home=tmp_path / "home")
    from_cache = run_client(SCORE, picture, *refs, endpoint=server.endpoint, home=tmp_path / "home")
    assert from_cache == told
    for name, ref in zip(families, refs, strict=True):
        identity, scores = told[ref]
        assert identity == ref
        here = Tagger(loaded[name], "cpu").tag(decode(picture.read_bytes())).scores
        assert np.abs(np.float32(scores) - here).max() < LARGEST


# What is broken


def copy(family: Family, tmp_path: Path) -> Path:
    return Path(shutil.copytree(family.folder, tmp_path / "mine"))


def change(folder: Path, name: str, edit: Callable[[dict], object]) -> Path:
    value = json.loads((folder / name).read_text(encoding="utf-8"))
    edit(value)
    write_json(folder / name, value)
    return folder


def change_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors")
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    return str(caught.value)


@pytest.mark.parametrize("name", ["animetimm", "WD v3"])
def test_more_or_fewer_tags_than_outputs_are_refused_with_both_numbers(
    families: dict[str, Family], tmp_path: Path, name: str
) -> None:
    table = copy(families[name], tmp_path) / "selected_tags.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]) + "\n")
    assert "7 label names but its head has 8 outputs" in refusal(table.parent)
    table.write_text("\n".join([*lines, lines[-1].replace("NA", "one more")]) + "\n")
    assert "9 label names but its head has 8 outputs" in refusal(table.parent)


@pytest.mark.parametrize("name", ["ViT", "Swin", "DINOv2", "DeiT with teacher"])
def test_more_or_fewer_ids_than_outputs_are_refused_with_both_numbers(
    families: dict[str, Family], tmp_path: Path, name: str
) -> None:
    folder = copy(families[name], tmp_path)
    change(folder, "config.json", lambda config: config["id2label"].pop("7"))
    assert "7 label names but its head has 8 outputs" in refusal(folder)


STEPS_THAT_CANNOT_BE_TAKEN = [
    "{",
    "[]",
    "{}",
    {"test": 3},
    {"test": ["resize"]},
    {"test": []},
    {"test": [{"type": "no such"}]},
    {"test": [{"type": ["resize"]}]},
    {"test": [{"type": "resize"}]},
    {"test": [{"type": "resize", "size": 40}] * 10_000},
    {"test": [{"type": "resize", "size": 10**9}, {"type": "to_tensor"}]},
    {"test": [{"type": "resize", "size": [40, -40]}, {"type": "to_tensor"}]},
    {"test": [{"type": "resize", "size": [40, 40, 40]}, {"type": "to_tensor"}]},
    {"test": [{"type": "resize", "size": True}, {"type": "to_tensor"}]},
    {"test": [{"type": "resize", "size": [40, 40], "interpolation": "no such"}, {"type": "to_tensor"}]},
    {"test": [{"type": "pad_to_size", "size": 40, "background_color": "no such"}, {"type": "to_tensor"}]},
    {"test": [{"type": "pad_to_size", "size": [40, 10**6]}, {"type": "to_tensor"}]},
    {"test": [{"type": "resize", "size": [40, 40]}]},
    {"test": [{"type": "to_tensor"}, {"type": "to_tensor"}]},
    {"test": [{"type": "to_tensor"}, {"type": "resize", "size": [40, 40]}, {"type": "normalize", "mean": "a"}]},
    {"test": [{"type": "to_tensor"}, {"type": "normalize", "mean": [0.5], "std": [0.0]}]},
    {"test": [{"type": "to_tensor"}, {"type": "normalize", "mean": [float("nan")], "std": [1.0]}]},
    {"test": [{"type": "to_tensor"}, {"type": "normalize", "mean": [0.5] * 5, "std": [1.0] * 5}]},
]


@pytest.mark.parametrize("content", STEPS_THAT_CANNOT_BE_TAKEN, ids=lambda content: None)
def test_steps_that_cannot_be_taken_are_an_error(families: dict[str, Family], tmp_path: Path, content: object) -> None:
    folder = copy(families["animetimm"], tmp_path)
    (folder / "preprocess.json").write_text(content if isinstance(content, str) else json.dumps(content))
    assert str(folder) in refusal(folder)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("categories.json", "{"),
        ("categories.json", "3"),
        ("categories.json", '[{"category": 0}]'),
        ("categories.json", '["general"]'),
        ("thresholds.csv", "category,threshold\n0,high\n"),
        ("thresholds.csv", "category\n0\n"),
        ("thresholds.csv", "category,threshold\n0\n"),
        ("selected_tags.csv", "name,category\n"),
        ("selected_tags.csv", "tag,category\na,0\n"),
    ],
)
def test_a_broken_file_of_an_animetimm_checkpoint_is_named(
    families: dict[str, Family], tmp_path: Path, file: str, content: str
) -> None:
    folder = copy(families["animetimm"], tmp_path)
    (folder / file).write_text(content)
    assert str(folder / file) in refusal(folder)


def test_a_threshold_that_is_none_is_not_recommended(families: dict[str, Family], tmp_path: Path) -> None:
    folder = copy(families["WD v3"], tmp_path)
    (folder / "README.md").write_text("the threshold = 0.9.1 or threshold = high or threshold = 7")
    assert 0 < load_checkpoint(folder).threshold < 1


def test_a_wd_tagger_without_its_first_convolution_is_refused(families: dict[str, Family], tmp_path: Path) -> None:
    folder = copy(families["WD v3"], tmp_path)
    change_weights(folder, lambda state: state.pop("patch_embed.proj.weight"))
    assert "first convolution" in refusal(folder)


def test_an_architecture_that_timm_lacks_is_told_which_work(families: dict[str, Family], tmp_path: Path) -> None:
    folder = copy(families["ViT"], tmp_path)
    for change_to in ({"model_type": "siglip"}, {"architectures": ["ViTModel"]}, {"architectures": []}):
        config = json.loads((families["ViT"].folder / "config.json").read_text()) | change_to
        write_json(folder / "config.json", config)
        message = refusal(folder)
        assert all(f"{one}ForImageClassification" in message for one in ("ViT", "DeiT", "Beit", "Swin", "Dinov2"))


def test_remote_code_of_a_transformers_checkpoint_never_runs(families: dict[str, Family], tmp_path: Path) -> None:
    folder = copy(families["ViT"], tmp_path)
    (folder / "modeling.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')")
    auto = {"AutoModelForImageClassification": "modeling.ViTForImageClassification"}
    change(folder, "config.json", lambda config: config.update(auto_map=auto))
    load_checkpoint(folder)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["ViT", "DeiT", "BEiT", "Swin", "DINOv2"])
@pytest.mark.parametrize(
    "edit",
    [
        {"hidden_size": "wide", "embed_dim": "wide"},
        {"hidden_size": 0, "embed_dim": 0},
        {"num_attention_heads": 5, "num_heads": [5, 5]},
        {"num_hidden_layers": 10**9, "depths": [10**9, 2]},
        {"num_hidden_layers": -1, "depths": []},
        {"image_size": 10**6},
        {"image_size": [32]},
        {"patch_size": 0},
        {"hidden_act": "no such"},
        {"num_channels": 1},
        {"layer_norm_eps": "small"},
        {"layer_norm_eps": float("nan")},
        {"id2label": {"1": "cat"}},
        {"id2label": ["cat"]},
        {"architectures": "ViT"},
        {"architectures": 5},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_a_transformers_config_that_makes_no_model_is_an_error(
    families: dict[str, Family], tmp_path: Path, name: str, edit: dict
) -> None:
    folder = copy(families[name], tmp_path)
    change(folder, "config.json", lambda config: config.update(edit))
    if name == "Swin" and "image_size" in edit:  # it takes any, and the images' size counts
        load_checkpoint(folder)
    else:
        assert str(folder) in refusal(folder)


@pytest.mark.parametrize(
    "edit",
    [
        lambda processor: processor.update(image_processor_type="CLIPImageProcessor"),
        lambda processor: processor.update(size=10**9),
        lambda processor: processor.update(size={"height": 48, "width": 48}),
        lambda processor: processor.update(size={"longest_edge": 32}),
        lambda processor: processor.update(size="32"),
        lambda processor: processor.update(resample=9),
        lambda processor: processor.update(image_std=[0, 0, 0]),
        lambda processor: processor.update(image_mean=["a"] * 3),
        lambda processor: processor.update(rescale_factor=0),
        lambda processor: processor.update(do_resize=False),
        lambda processor: processor.update(do_pad=True),
    ],
    ids=lambda edit: None,
)
def test_an_image_processor_that_cannot_be_followed_is_an_error(
    families: dict[str, Family], tmp_path: Path, edit: Callable
) -> None:
    folder = copy(families["ViT"], tmp_path)
    assert str(folder) in refusal(change(folder, "preprocessor_config.json", edit))


def test_a_swin_whose_windows_do_not_tile_its_images_is_refused(families: dict[str, Family], tmp_path: Path) -> None:
    """timm and transformers pad and shift them in another order, and the scores would differ."""
    folder = copy(families["Swin"], tmp_path)
    change(folder, "preprocessor_config.json", lambda processor: processor.update(size={"height": 40, "width": 40}))
    assert "windows of 4 do not tile images of (40, 40)" in refusal(folder)


@pytest.mark.parametrize("name", ["WD v3", "DINOv2", "timm", "animetimm"])
def test_a_long_thin_image_is_rejected_before_it_fills_the_memory(loaded: dict[str, Checkpoint], name: str) -> None:
    for size in ((1_000_000, 1), (1, 1_000_000)):
        if name == "animetimm":  # it fits any image into its square
            loaded[name].preprocess(Image.new("RGB", size))
        else:
            with pytest.raises(ImageRejected, match="too long and thin"):
                loaded[name].preprocess(Image.new("RGB", size))


@pytest.mark.parametrize("side", [4096, 10**9])
def test_a_giant_image_is_refused_before_positions_are_made_for_it(
    families: dict[str, Family], tmp_path: Path, side: int
) -> None:
    folder = copy(families["DINOv2"], tmp_path)
    asked = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    change(folder, "preprocessor_config.json", lambda processor: processor.update(asked))
    change(folder, "config.json", lambda config: config.update(patch_size=1))
    assert str(side) in refusal(folder)


def test_a_missing_image_processor_is_named(families: dict[str, Family], tmp_path: Path) -> None:
    folder = copy(families["ViT"], tmp_path)
    (folder / "preprocessor_config.json").unlink()
    assert "preprocessor_config.json" in refusal(folder)


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_that_do_not_fit_are_refused_in_each_layout(
    families: dict[str, Family], tmp_path: Path, name: str
) -> None:
    folder = copy(families[name], tmp_path)
    state = load_file(folder / "model.safetensors")
    wide = next(key for key, tensor in sorted(state.items()) if tensor.ndim == 2)
    for broken in (
        {},
        state | {"extra": torch.ones(2)},
        {key: tensor for key, tensor in state.items() if key != wide},
        state | {wide: torch.ones(3, 3)},
        state | {wide: torch.full_like(state[wide], float("nan"))},
        {key: torch.ones(1) for key in state},
    ):
        save_file(broken, folder / "model.safetensors")
        assert str(folder) in refusal(folder)


@pytest.mark.parametrize("asked", [{"depth": 10**9}, {"embed_dim": 3 * 10**6}, {"img_size": 10**6}, {"mlp_ratio": 1e9}])
def test_a_plain_timm_config_that_asks_for_a_giant_is_refused(
    families: dict[str, Family], tmp_path: Path, asked: dict
) -> None:
    folder = copy(families["timm"], tmp_path)
    assert str(folder) in refusal(change(folder, "config.json", lambda config: config["model_args"].update(asked)))
