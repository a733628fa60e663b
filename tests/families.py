"""Small seeded checkpoints of every layout, and what their own families make of a picture.

Each family's rules are written down here a second time, from its own code or with its own library, and share nothing
with `demo`. A checkpoint is as on the Hub: the files, the columns and the names of the weights are the real ones.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config

with warnings.catch_warnings():  # what importing other people's code warns about is not this project's
    warnings.simplefilter("ignore")
    import transformers
    from transformers import (
        BeitConfig,
        BeitForImageClassification,
        BeitImageProcessorPil,
        BitImageProcessorPil,
        DeiTConfig,
        DeiTForImageClassification,
        DeiTForImageClassificationWithTeacher,
        DeiTImageProcessorPil,
        Dinov2Config,
        Dinov2ForImageClassification,
        PreTrainedConfig,
        SwinConfig,
        SwinForImageClassification,
        ViTConfig,
        ViTForImageClassification,
        ViTImageProcessorPil,
    )

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

LABELS = ("general", "sensitive", "1girl", "null", "nan", "hat, red", "hakurei_reimu", "NA")
CATEGORIES = (9, 9, 0, 0, 0, 0, 4, 0)
THRESHOLDS = (0.5, 0.4, 0.26, 0.31, 0.35, 0.2, 0.53, 0.45)

Pixels = Callable[[bytes], torch.Tensor]
Logits = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Family:
    """A checkpoint's folder, and its family's own way from a file to pixels (3, H, W) and on to logits (L,)."""

    folder: Path
    pixels: Pixels
    logits: Logits


def randomized(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every weight drawn, so that logits spread and each weight counts; in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            is_scale = parameter.ndim == 1 and name.endswith("weight")
            parameter.normal_(float(is_scale), 0.15, generator=generator)
    return model.eval()


def upright(data: bytes) -> Image.Image:
    """A file opened and turned; 16-bit grey scaled to 8 bits, which families clip or wrap instead."""
    image = Image.open(io.BytesIO(data))
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.round(np.asarray(image) / 257.0).astype(np.uint8))
    return ImageOps.exif_transpose(image)


def on_white(image: Image.Image) -> Image.Image:
    if image.mode not in ("RGB", "RGBA"):
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "LA" else "RGB")
    if image.mode == "RGBA":
        canvas = Image.new("RGBA", image.size, (255, 255, 255, 255))
        canvas.alpha_composite(image)
        image = canvas.convert("RGB")
    return image


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


# Layouts 1, 2 and 4: models of timm's


def timm_model(folder: Path, config: dict, labels: int, scale: float = 1.0) -> torch.nn.Module:
    """A seeded model of the config, its head scaled, which is written to `folder` with the weights."""
    model = randomized(timm.create_model(config["architecture"], num_classes=labels, **config.get("model_args", {})))
    with torch.no_grad():
        model.get_classifier().weight.mul_(scale)
    folder.mkdir(parents=True)
    write_json(folder / "config.json", config)
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, folder / "model.safetensors")
    return model


def one(model: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(pixels.unsqueeze(0))[0]


def wd(folder: Path, labels: int | None = None) -> Family:
    """As SmilingWolf/wd-vit-tagger-v3, smaller: average pooling, no class token, tanh GELU."""
    args = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "act_layer": "gelu_tanh"}
    names = LABELS if labels is None else tuple(f"tag_{number}" for number in range(labels))
    config = {
        "architecture": "vit_base_patch16_224",
        "num_classes": len(names),
        "num_features": 48,
        "global_pool": "avg",
        "model_args": args | {"class_token": False, "global_pool": "avg", "fc_norm": False},
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [3, 32, 32],
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "num_classes": len(names),
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    model = timm_model(folder, config, len(names))
    lines = ["tag_id,name,category,count"]
    for number, name in enumerate(names):
        category = CATEGORIES[number] if labels is None else (9 if number < 4 else 4 if number >= labels - 2000 else 0)
        lines.append(f'{900_000 + number},"{name}",{category},{10**6 - number}')
    (folder / "selected_tags.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "README.md").write_text("## Validation\nv2.0: `P=R: threshold = 0.2614, F1 = 0.4402`\n")

    transform = create_transform(**resolve_data_config({}, pretrained_cfg=config["pretrained_cfg"], model=model))

    def pixels(data: bytes) -> torch.Tensor:
        image = on_white(upright(data))
        side = max(image.size)
        canvas = Image.new("RGB", (side, side), (255, 255, 255))
        canvas.paste(image, ((side - image.size[0]) // 2, (side - image.size[1]) // 2))
        return transform(canvas)[[2, 1, 0]]

    return Family(folder, pixels, partial(one, model))


def animetimm(folder: Path) -> Family:
    """As animetimm's dbv4-full models, smaller, in a convolutional network and with steps that do something each."""
    config = {
        "architecture": "test_resnet",
        "num_classes": len(LABELS),
        "num_features": 64,
        "pretrained_cfg": {"tag": "dbv4-full", "input_size": [3, 40, 40], "num_classes": len(LABELS)},
        "tags": list(LABELS),
    }
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    steps = [
        {"type": "pad_to_size", "size": [64, 64], "background_color": "white", "interpolation": "bilinear"},
        {"type": "resize", "size": 44, "interpolation": "bicubic", "max_size": None, "antialias": True},
        {"type": "center_crop", "size": [40, 40]},
        {"type": "maybe_to_tensor"},
        {"type": "normalize", "mean": mean, "std": std},
    ]
    model = timm_model(folder, config, len(LABELS), scale=0.01)
    write_json(folder / "preprocess.json", {"val": steps[1:], "test": steps})
    names = {0: "general", 4: "character", 9: "rating"}
    write_json(folder / "categories.json", [{"category": key, "name": name} for key, name in names.items()])
    lines = ["id,tag_id,name,category,count,best_threshold"]
    for number, (name, category, threshold) in enumerate(zip(LABELS, CATEGORIES, THRESHOLDS, strict=True)):
        lines.append(f'{number},{number + 7},"{name}",{category},{100 - number},{threshold}')
    (folder / "selected_tags.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "thresholds.csv").write_text(
        "category,name,alpha,threshold\n0,general,1.0,0.36\n4,character,1.0,0.53\n9,rating,1.0,0.4\n0,general,2.0,0.6\n"
    )

    def pixels(data: bytes) -> torch.Tensor:
        image = on_white(upright(data))
        ratio = min(64 / image.width, 64 / image.height)
        inner = image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BILINEAR)
        canvas = Image.new("RGB", (64, 64), (255, 255, 255))
        canvas.paste(inner, ((64 - inner.width) // 2, (64 - inner.height) // 2))
        canvas = canvas.resize((44, 44), Image.Resampling.BICUBIC).crop((2, 2, 42, 42))
        values = np.asarray(canvas, np.float32).transpose(2, 0, 1) / 255
        return torch.from_numpy((values - np.float32(mean)[:, None, None]) / np.float32(std)[:, None, None])

    return Family(folder, pixels, partial(one, model))


def plain_timm(folder: Path, names: tuple[str, ...] | None = LABELS) -> Family:
    """A timm classifier; without names a bare one of ImageNet's 1000 classes."""
    args = {"img_size": 48, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
    count = 1000 if names is None else len(names)
    cfg = {"input_size": [3, 48, 48], "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center"}
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": count,
        "model_args": args,
        "pretrained_cfg": cfg | {"mean": [0.5, 0.4, 0.6], "std": [0.3, 0.2, 0.25], "num_classes": count},
    }
    if names is not None:
        config |= {"label_names": list(names), "problem_type": "multi_label_classification"}
    timm_model(folder, config, count)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = create_transform(**resolve_data_config(model.pretrained_cfg, model=model))
    return Family(folder, lambda data: transform(upright(data).convert("RGB")), partial(one, model))


# Layout 3: models of transformers'

SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}
SQUARE = {"image_size": 32, "patch_size": 8}


def from_transformers(model_class: type, config: PreTrainedConfig, processor: object, folder: Path) -> Family:
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {name: number for number, name in enumerate(LABELS)}
    config.problem_type = "multi_label_classification"
    randomized(model_class(config)).save_pretrained(folder)
    processor.save_pretrained(folder)
    model = model_class.from_pretrained(folder).eval()
    processor = type(processor).from_pretrained(folder)

    def pixels(data: bytes) -> torch.Tensor:
        image = upright(data).convert("RGB")
        # Pillow leaves here which colour of a palette was transparent, and BiT's processor would paint it white
        image.info.pop("transparency", None)
        return processor(image, return_tensors="pt")["pixel_values"][0]

    def logits(pixels: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return model(pixels.unsqueeze(0)).logits[0]

    return Family(folder, pixels, logits)


def vit(folder: Path) -> Family:
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    config = ViTConfig(**SMALL, **SQUARE)
    return from_transformers(ViTForImageClassification, config, processor, folder)


def deit(folder: Path) -> Family:
    processor = DeiTImageProcessorPil(size={"height": 37, "width": 37}, crop_size={"height": 32, "width": 32})
    config = DeiTConfig(**SMALL, **SQUARE, qkv_bias=False)
    return from_transformers(DeiTForImageClassification, config, processor, folder)


def deit_with_teacher(folder: Path) -> Family:
    processor = DeiTImageProcessorPil(
        size={"height": 32, "width": 32}, do_center_crop=False, resample=1, do_normalize=False
    )
    config = DeiTConfig(**SMALL, **SQUARE)
    return from_transformers(DeiTForImageClassificationWithTeacher, config, processor, folder)


def beit(folder: Path) -> Family:
    processor = BeitImageProcessorPil(size={"height": 32, "width": 32}, rescale_factor=1 / 127.5)
    config = BeitConfig(**SMALL, **SQUARE, use_relative_position_bias=True)
    return from_transformers(BeitForImageClassification, config, processor, folder)


def beit_by_class_token(folder: Path) -> Family:
    processor = BeitImageProcessorPil(size={"height": 32, "width": 32})
    config = BeitConfig(
        **SMALL,
        **SQUARE,
        use_shared_relative_position_bias=True,
        use_absolute_position_embeddings=True,
        use_mean_pooling=False,
        layer_scale_init_value=0.0,
    )
    return from_transformers(BeitForImageClassification, config, processor, folder)


def swin(folder: Path) -> Family:
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32}, resample=3)
    config = SwinConfig(
        image_size=32, patch_size=4, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4, layer_norm_eps=1e-4
    )
    return from_transformers(SwinForImageClassification, config, processor, folder)


def dinov2(folder: Path, gated: bool = False) -> Family:
    """The images are smaller than what the positions were made for, as in the published ones."""
    processor = BitImageProcessorPil(size={"shortest_edge": 47}, crop_size={"height": 42, "width": 42})
    config = Dinov2Config(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        mlp_ratio=2,
        image_size=70,
        patch_size=14,
        use_swiglu_ffn=gated,
    )
    return from_transformers(Dinov2ForImageClassification, config, processor, folder)


FAMILIES: dict[str, Callable[[Path], Family]] = {
    "animetimm": animetimm,
    "WD v3": wd,
    "ViT": vit,
    "DeiT": deit,
    "DeiT with teacher": deit_with_teacher,
    "BEiT": beit,
    "BEiT by class token": beit_by_class_token,
    "Swin": swin,
    "DINOv2": dinov2,
    "DINOv2 gated": partial(dinov2, gated=True),
    "timm": plain_timm,
    "timm, bare": partial(plain_timm, names=None),
}
