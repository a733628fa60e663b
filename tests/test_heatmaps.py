"""Heat maps: they lie where a model looked, for every family, and leave the model as it was."""

from __future__ import annotations

import gc
import io
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits

from demo import heatmaps
from demo.checkpoint import Checkpoint, load_checkpoint
from demo.heatmaps import Evidence, Heatmaps, NoHeatmap, window
from demo.images import decode
from demo.labels import LabelSet
from demo.preprocessing import Preprocess
from demo.settings import EXAMPLES
from demo.tagger import NotComputed, Tagger
from tests.families import FAMILIES

DATA = {"interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center", "mean": (0.5,) * 3, "std": (0.25,) * 3}


@pytest.fixture(scope="module")
def tagger(loaded_tiny: Checkpoint) -> Tagger:
    return Tagger(loaded_tiny, "cpu")


@pytest.fixture(scope="module")
def picture(make_image: Callable[..., bytes]) -> Image.Image:
    return Image.open(io.BytesIO(make_image(3))).convert("RGB")


# A small model of each kind learns to tell red and blue marks; its map of each must lie on that mark.

SIDE = 32
SMALL = {"img_size": SIDE, "patch_size": 8, "embed_dim": 48, "num_heads": 3, "depth": 2}
KINDS: dict[str, tuple[str, dict]] = {
    "ViT": ("vit_tiny_patch16_224", SMALL | {"depth": 4}),
    "ViT by the mean of its patches": ("vit_tiny_patch16_224", SMALL | {"global_pool": "avg"}),
    "ViT by attention": ("vit_tiny_patch16_224", SMALL | {"global_pool": "map", "class_token": False}),
    "DeiT with its distillation token": ("deit_tiny_distilled_patch16_224", SMALL),
    "BEiT": ("beit_base_patch16_224", SMALL),
    "EVA-02": ("eva02_tiny_patch14_224", SMALL),
    "DINOv2 with registers": ("vit_small_patch14_reg4_dinov2", SMALL),
    "Swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 32, "window_size": 2, "embed_dim": 24, "depths": (1, 1), "num_heads": (2, 4)},
    ),
}
COLOURS = np.array([[230, 40, 40], [40, 60, 230]])


def marked(random: np.random.Generator, marks: dict[int, tuple[int, int]]) -> np.ndarray:
    """Noise (SIDE, SIDE, 3) uint8, and a mark of a colour a quarter as wide at each row and column of four."""
    pixels, step = random.integers(60, 200, (SIDE, SIDE, 3)), SIDE // 4
    for colour, (row, column) in marks.items():
        noise = random.integers(-20, 20, (step, step, 3))
        pixels[row * step : (row + 1) * step, column * step : (column + 1) * step] = COLOURS[colour] + noise
    return pixels.astype(np.uint8)


def taught(architecture: str, **arguments: object) -> Tagger:
    """A model that has just learned which colours there are."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    model = timm.create_model(architecture, num_classes=2, **arguments)
    for name, parameter in model.named_parameters():
        if name.endswith(("gamma", "gamma_1", "gamma_2")):
            torch.nn.init.constant_(
                parameter, 0.5
            )  # meant for long training, they would keep a short one from learning
    optimizer, settled = torch.optim.AdamW(model.parameters(), lr=2e-3), 0
    while settled < 3:
        there = random.integers(0, 2, (16, 2))
        places = [random.permutation(16)[:2] for _ in there]
        batch = [
            marked(random, {c: divmod(int(place[c]), 4) for c in (0, 1) if row[c]})
            for row, place in zip(there, places, strict=True)
        ]
        pixels = (torch.tensor(np.stack(batch)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
        loss = binary_cross_entropy_with_logits(model(pixels), torch.tensor(there).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        settled = settled + 1 if loss < 0.05 else 0
    data = DATA | {"input_size": (3, SIDE, SIDE), "crop_pct": 1.0, "crop_mode": "squash"}
    labels, config = LabelSet(("red", "blue")), {"architecture": architecture}
    return Tagger(Checkpoint("made", "local:made@0", model.eval(), labels, config, Preprocess(data)), "cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_lies_on_what_the_model_learned_to_look_for(kind: str) -> None:
    architecture, arguments = KINDS[kind]
    tagger, random, shares = taught(architecture, **arguments), np.random.default_rng(1), []
    for turn in range(8):
        places = {turn % 2: (int(random.integers(4)), 0), 1 - turn % 2: (int(random.integers(4)), 3)}
        evidence = Evidence(tagger, Image.fromarray(marked(random, places)).resize((240, 160)))
        for colour, (row, column) in places.items():
            values = evidence.heatmap(colour).values
            assert values.shape == (107, 160)
            near = np.zeros_like(values, bool)
            near[max(row * 27 - 27, 0) : row * 27 + 54, max(column * 40 - 40, 0) : column * 40 + 80] = True
            shares.append(values[near].sum() / values.sum())
    assert np.mean(shares) > 0.6  # the mark and its neighbours are a third of the picture or less


def test_a_convolutional_networks_map_is_its_class_activation_map(picture: Image.Image) -> None:
    """Its logit is the mean over places of features times the label's weights."""
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3).eval()
    torch.nn.init.normal_(model.get_classifier().weight, mean=0.5)  # or nothing in this picture might speak for a label
    preprocess = Preprocess(DATA | {"input_size": (3, 160, 160), "crop_pct": 1.0, "crop_mode": "squash"})
    tagger = Tagger(Checkpoint("net", "local:net@0", model, LabelSet(("a", "b", "c")), {}, preprocess), "cpu")
    square = picture.resize((160, 160))
    evidence = Evidence(tagger, square)
    with torch.no_grad():
        features = model.forward_features(preprocess(square).unsqueeze(0))[0]
        wanted = torch.einsum("lc,chw->lhw", model.get_classifier().weight, features).relu()
    assert wanted.shape == (3, 5, 5)
    for label in range(3):
        at_centres = evidence.heatmap(label).values[16::32, 16::32]
        assert np.corrcoef(at_centres.ravel(), wanted[label].numpy().ravel())[0, 1] > 0.98


def test_maps_of_two_photos_side_by_side_lie_on_the_one_that_has_the_label() -> None:
    """With the embedded model, on the example photos; docs/benchmarks.md has the figures for more."""
    tagger = Tagger(load_checkpoint(), "cpu")
    names = tagger.checkpoint.labels.names
    photos = {
        label: decode((EXAMPLES / f"{name}.jpg").read_bytes()).resize((288, 288))
        for name, label in (("cat", "cat"), ("dogs", "dog"), ("polar-bear", "bear"), ("coffee", "cup"))
    }
    shares = []
    for left, right in (("cat", "cup"), ("cup", "bear"), ("bear", "dog"), ("dog", "cat")):
        both = Image.new("RGB", (576, 288))
        both.paste(photos[left], (0, 0))
        both.paste(photos[right], (288, 0))
        evidence = Evidence(tagger, both)
        for label, half in ((left, np.s_[:, :80]), (right, np.s_[:, 80:])):
            values = evidence.heatmap(names.index(label)).values
            shares.append(values[half].sum() / values.sum())
    assert min(shares) > 0.5
    assert np.mean(shares) > 0.75


def test_a_map_is_attention_times_gradient_summed_over_heads_and_tokens(
    make_checkpoint: Callable[..., Checkpoint],
) -> None:
    """As the papers have it, from attention matrices written out; here it comes without them."""
    checkpoint = make_checkpoint()
    model, matrices = checkpoint.model, []
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    maps = [Evidence(Tagger(checkpoint, "cpu"), picture).heatmap(label).values for label in range(3)]
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda module, given, made: matrices.append(made))
    logits = model(checkpoint.preprocess(picture).unsqueeze(0))
    for label, values in enumerate(maps):
        gradients = torch.autograd.grad(logits[0, label], matrices, retain_graph=True)
        told = sum((matrix * gradient).sum((0, 1, 2)) for matrix, gradient in zip(matrices, gradients, strict=True))
        cells = told[1:].relu().reshape(4, 4)
        at_centres = values[20::40, 20::40]
        assert np.corrcoef(at_centres.ravel(), cells.detach().numpy().ravel())[0, 1] > 0.98


# Where the map lies on the photo

STEPS: dict[str, dict] = {
    "crop": {},
    "squash": {"crop_mode": "squash", "crop_pct": 1.0},
    "border": {"crop_mode": "border", "crop_pct": 1.0},
    "wide input": {"input_size": (3, 48, 96)},
}
SIZES = ((301, 200), (200, 301), (96, 96), (900, 60), (48, 30))


def spot(preprocess: Preprocess, size: tuple[int, int], at: tuple[float, float]) -> tuple[float, float] | None:
    """Where a white spot at a place of a black photo comes out in the input, both in fractions; None if nowhere."""
    width, height = size
    columns, rows = np.meshgrid((np.arange(width) + 0.5) / width - at[0], (np.arange(height) + 0.5) / height - at[1])
    near = np.exp(-((columns * width) ** 2 + (rows * height) ** 2) / (2 * (0.06 * min(size)) ** 2))
    pixels = np.repeat((255 * near)[..., None], 3, 2).round().astype(np.uint8)
    black, white = (preprocess(Image.fromarray(one))[0].double() for one in (0 * pixels, pixels))
    light = (white - black).clamp(min=0)
    if light.sum() < 1e-6:
        return None
    share = light / light.sum()
    high, wide = light.shape
    return (
        float((share.sum(0) * (torch.arange(wide) + 0.5)).sum() / wide),
        float((share.sum(1) * (torch.arange(high) + 0.5)).sum() / high),
    )


def check_window(preprocess: Preprocess, size: tuple[int, int]) -> None:
    """What is at the window's quarters on the photo must come out at the quarters of the input."""
    left, top, right, bottom = window(preprocess, size)
    checked = 0
    for across in (0.3, 0.5, 0.7):
        for down in (0.3, 0.5, 0.7):
            place = left + across * (right - left), top + down * (bottom - top)
            if all(0.2 < one < 0.8 for one in place):
                assert spot(preprocess, size, place) == pytest.approx((across, down), abs=0.015)
                checked += 1
    assert checked


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("steps", STEPS)
def test_the_window_is_where_timm_takes_its_input_from(steps: str, size: tuple[int, int]) -> None:
    check_window(Preprocess(DATA | {"input_size": (3, 64, 64)} | STEPS[steps]), size)


@pytest.mark.parametrize("family", ["animetimm", "WD v3", "ViT", "DeiT", "DINOv2"])
def test_the_window_is_where_each_family_takes_its_input_from(family: str, tmp_path: Path) -> None:
    preprocess = load_checkpoint(FAMILIES[family](tmp_path / "model").folder).preprocess
    for size in ((301, 200), (200, 301)):
        check_window(preprocess, size)


def test_what_was_cut_off_is_unseen_and_has_no_heat(tagger: Tagger, picture: Image.Image) -> None:
    evidence = Evidence(tagger, picture.resize((300, 100)))
    for label in range(3):
        values, seen = evidence.heatmap(label)
        assert values.shape == seen.shape == (53, 160)
        assert not seen[:, :50].any()
        assert not seen[:, -50:].any()
        assert seen[3:-3, 60:100].all()
        assert not values[~seen].any()


# The model stays as it was


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layout_has_maps_in_range_and_keeps_its_scores(family: str, tmp_path: Path, picture: Image.Image) -> None:
    tagger = Tagger(load_checkpoint(FAMILIES[family](tmp_path / "model").folder), "cpu")
    before = tagger.tag(picture).scores
    evidence = Evidence(tagger, picture)
    highest = 0.0
    for label in range(8):
        values, seen = evidence.heatmap(label)
        assert values.shape == seen.shape == (107, 160)
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        assert values.min() >= 0
        highest = max(highest, values.max())
    assert highest == 1
    assert np.array_equal(tagger.tag(picture).scores, before)
    assert all(parameter.grad is None for parameter in tagger.checkpoint.model.parameters())


def test_maps_and_scores_asked_for_at_once_do_not_disturb_each_other(
    tagger: Tagger, make_image: Callable[..., bytes]
) -> None:
    pictures = [Image.open(io.BytesIO(make_image(seed))).convert("RGB") for seed in range(4)]
    alone = [(tagger.tag(one).scores, Evidence(tagger, one).heatmap(2).values) for one in pictures]
    shared = Evidence(tagger, pictures[0])

    def work(turn: int) -> np.ndarray:
        one = pictures[turn % 4]
        if turn % 3 == 0:
            return tagger.tag(one).scores
        return (shared if turn % 4 == 0 else Evidence(tagger, one)).heatmap(2).values

    with ThreadPoolExecutor(8) as threads:
        for turn, made in enumerate(threads.map(work, range(72))):
            assert np.allclose(made, alone[turn % 4][turn % 3 != 0], atol=1e-4)


def test_the_image_at_hand_is_prepared_once_and_goes_with_its_model(
    make_checkpoint: Callable[..., Checkpoint], picture: Image.Image
) -> None:
    tagger, maps, asked = Tagger(make_checkpoint(), "cpu"), Heatmaps(), []

    def load() -> Image.Image:
        asked.append(1)
        return picture

    for digest, label in (("a", 0), ("a", 1), ("b", 1), ("b", 0)):
        fresh = Evidence(tagger, picture).heatmap(label)
        assert np.array_equal(maps.of(tagger, digest, load, label).values, fresh.values)
    assert len(asked) == 2
    model = weakref.ref(tagger.checkpoint.model)
    weights = weakref.ref(tagger.checkpoint.model.head.weight)
    del tagger
    gc.collect()
    assert model() is None
    assert weights() is None


@pytest.mark.parametrize("step", ["_end_of", "_cells"])
def test_a_map_for_which_the_memory_is_short_is_told_and_may_be_asked_for_again(
    tagger: Tagger, picture: Image.Image, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    maps = Heatmaps()
    with monkeypatch.context() as patched:
        patched.setattr(heatmaps, step, refuse)
        with pytest.raises(NotComputed, match=r"could not be run on cpu\. CUDA out of memory\. Try again"):
            maps.of(tagger, "a", lambda: picture, 0)
    assert maps.of(tagger, "a", lambda: picture, 0).values.max() <= 1


def test_only_the_models_end_is_kept_for_gradients(tagger: Tagger, picture: Image.Image) -> None:
    values = [*Evidence(tagger, picture)._end.sources]
    assert values[0].is_leaf


def test_a_model_that_keeps_no_track_of_places_is_refused_in_words(picture: Image.Image) -> None:
    model = timm.create_model("mixer_s32_224", img_size=32, num_classes=2).eval()
    preprocess = Preprocess(DATA | {"input_size": (3, 32, 32)})
    tagger = Tagger(Checkpoint("mixer", "local:mixer@0", model, LabelSet(("a", "b")), {}, preprocess), "cpu")
    with pytest.raises(NoHeatmap, match=r"There is no map for this model\. MlpMixer"):
        Evidence(tagger, picture)
