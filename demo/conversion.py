"""transformers checkpoints become timm ones: the config, the preprocessing and, exactly, the weights.

ViT, DeiT, BEiT, Swin and DINOv2 with an image classification head, by the names that their files use on disk. Needs no
transformers and runs nothing of theirs. Two things that timm's own builders do not know are kept beside their
arguments: `layer_norm_eps`, and `pool`, for heads that read two tokens at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from demo.preprocessing import steps_of

MULTI_LABEL, SINGLE_LABEL = "multi_label_classification", "single_label_classification"
DEFAULT_SIZE = 224
MAX_TOKENS = 65_536
State = dict[str, torch.Tensor]


class NotConvertible(Exception):
    """Why a checkpoint cannot become a timm one."""


class JoinedTokens(nn.Module):
    """Tokens (B, N, D) → features (B, 2 D): the class token beside the mean of the patches, or beside the second token.

    The first is DINOv2's linear head, the second DeiT's with its distillation token.
    """

    def __init__(self, pool: str) -> None:
        super().__init__()
        if pool not in ("class+mean", "class+distillation"):
            raise ValueError(f"pool is {pool!r}")
        self.pool = pool

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        other = tokens[:, 1:].mean(1) if self.pool == "class+mean" else tokens[:, 1]
        return torch.cat([tokens[:, 0], other], 1)


def finish(model: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    """A timm model as built, with what `pool` and `layer_norm_eps` in the config say of it. Changes it in place."""
    if "layer_norm_eps" in config:
        if not 0 <= float(config["layer_norm_eps"]) < 1:
            raise ValueError(f"layer_norm_eps is {config['layer_norm_eps']}")
        for name, module in model.named_modules():
            # transformers leaves Swin's norms of patches at PyTorch's default
            if isinstance(module, nn.LayerNorm) and "patch_embed" not in name and "downsample" not in name:
                module.eps = float(config["layer_norm_eps"])
    if config.get("pool"):
        model.fc_norm = JoinedTokens(config["pool"])
        model.head = nn.Linear(2 * model.head.in_features, model.head.out_features)
    return model


def from_transformers(
    config: Mapping[str, Any], processor: Mapping[str, Any] | None, state: State
) -> tuple[list[str], dict[str, Any], State]:
    """Label names in logit order, a timm config and timm's weights. processor: `preprocessor_config.json`.

    Raises NotConvertible.
    """
    family = _FAMILIES.get(str(config.get("model_type")))
    heads = config.get("architectures")
    head = heads[0] if isinstance(heads, list) and heads else "nothing"
    if family is None or not isinstance(head, str) or head not in family.heads:
        works = ", ".join(head for family in _FAMILIES.values() for head in family.heads)
        raise NotConvertible(f"It is a {head} ({config.get('model_type')}). These work: {works}.")
    if config.get("hidden_act", "gelu") != "gelu" or config.get("num_channels", 3) != 3:
        raise NotConvertible("Its activation is not gelu, or it does not take three channels.")
    if processor is None:
        raise NotConvertible("It has no preprocessor_config.json, which says what its images look like.")
    try:
        steps, size = steps_of(processor, family.processor)
        renamed = _renamed(state, family)
        arguments = family.arguments(config, size, renamed)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError, ZeroDivisionError) as error:
        raise NotConvertible(f"Its config or its weights are not as they should be ({error!r}).") from error
    classifier = renamed.get("head.fc.weight", renamed.get("head.weight"))
    if classifier is None or classifier.ndim != 2:
        raise NotConvertible("It has no classifier.")
    outputs = len(classifier)
    told = config.get("id2label") or {str(index): f"LABEL_{index}" for index in range(outputs)}
    if not isinstance(told, dict) or sorted(told) != sorted(str(index) for index in range(len(told))):
        raise NotConvertible("Its id2label does not number its labels from 0.")
    many = config.get("problem_type") == MULTI_LABEL or len(told) == 1
    pool = {"pool": family.pools[head]} if head in family.pools else {}
    converted = {
        "architecture": "vit_giant_patch14_dinov2" if config.get("use_swiglu_ffn") else family.architecture,
        "model_args": arguments | ({"global_pool": ""} if pool else {}),
        "problem_type": MULTI_LABEL if many else SINGLE_LABEL,
        "layer_norm_eps": config.get("layer_norm_eps", family.eps),
        "preprocess": {"white": False, "steps": steps},
        **pool,
    }
    return [str(told[str(index)]) for index in range(len(told))], converted, renamed


class _Family(NamedTuple):
    """prefix: of the backbone's weights. pools: heads that read two tokens. processor, eps: where none is named."""

    architecture: str
    prefix: str
    heads: tuple[str, ...]
    arguments: Callable[[Mapping[str, Any], tuple[int, int], State], dict[str, Any]]
    pools: Mapping[str, str] = {}
    processor: str = "ViTImageProcessor"
    eps: float = 1e-12


_NAMES = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.distillation_token$", "reg_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"^encoder\.layers\.(\d+)\.", r"layers.\1."),
    (r"^encoder\.relative_position_bias\.", "rel_pos_bias."),
    (r"\.attention\.(?:attention|self)\.relative_position_bias\.", ".attn."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.attention\.(?:attention|self)\.", ".attn."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.lambda_([12])$", r".gamma_\1"),
    (r"^layernorm\.", "norm."),
    (r"^pooler\.layernorm\.", "fc_norm."),
)
_UNUSED = re.compile(r"embeddings\.mask_token$|pooler\.dense\.|relative_position_index$")


def _renamed(state: State, family: _Family) -> State:
    """The weights by timm's names; queries, keys and values joined."""
    renamed: State = {}
    for key, tensor in state.items():
        name = key.removeprefix(family.prefix)
        if _UNUSED.search(name):
            continue
        for pattern, timm_name in _NAMES if key.startswith(family.prefix) else ():
            name = re.sub(pattern, timm_name, name)
        renamed[name] = tensor
    for name in [name for name in renamed if name.endswith(".attn.query.weight")]:
        _join_qkv(renamed, name.removesuffix("query.weight"), separate=family.prefix == "beit.")
    for kind in ("weight", "bias"):
        if f"cls_classifier.{kind}" in renamed:
            halves = renamed.pop(f"cls_classifier.{kind}"), renamed.pop(f"distillation_classifier.{kind}")
            renamed[f"head.{kind}"] = (torch.cat(halves, 1) if kind == "weight" else sum(halves)) / 2
        elif f"classifier.{kind}" in renamed:
            name = "head.fc" if family.prefix == "swin." else "head"
            renamed[f"{name}.{kind}"] = renamed.pop(f"classifier.{kind}")
    if family.prefix == "swin.":  # timm merges patches before a stage, transformers after the one before
        renamed = {
            re.sub(r"^layers\.(\d+)\.downsample", lambda found: f"layers.{int(found[1]) + 1}.downsample", name): tensor
            for name, tensor in renamed.items()
        }
    return renamed


def _join_qkv(state: State, layer: str, separate: bool) -> None:
    """separate: biases of BEiT, which has none for keys, keep to themselves."""
    parts = ("query", "key", "value")
    state[f"{layer}qkv.weight"] = torch.cat([state.pop(f"{layer}{part}.weight") for part in parts])
    biases = {part: state.pop(f"{layer}{part}.bias") for part in parts if f"{layer}{part}.bias" in state}
    if separate:
        state |= {f"{layer}{part[0]}_bias": bias for part, bias in biases.items()}
    elif biases:
        state[f"{layer}qkv.bias"] = torch.cat([biases[part] for part in parts])


def _pair(value: Any) -> tuple[int, int]:
    height, width = value if isinstance(value, list | tuple) else (value, value)
    return int(height), int(width)


def _vit(config: Mapping[str, Any], size: tuple[int, int], state: State) -> dict[str, Any]:
    if size != _pair(config.get("image_size", DEFAULT_SIZE)):
        raise ValueError(f"images come at {size}, and the model takes {config.get('image_size', DEFAULT_SIZE)}")
    width = config.get("hidden_size", 768)
    ratio = config.get("intermediate_size", 3072) / width
    return {
        "img_size": list(size),
        "patch_size": list(_pair(config.get("patch_size", 16))),
        "embed_dim": width,
        "depth": config.get("num_hidden_layers", 12),
        "num_heads": config.get("num_attention_heads", 12),
        "mlp_ratio": ratio if int(width * ratio) == config.get("intermediate_size", 3072) else ratio + 0.5 / width,
        "qkv_bias": bool(config.get("qkv_bias", True)),
    }


def _deit(config: Mapping[str, Any], size: tuple[int, int], state: State) -> dict[str, Any]:
    """Its distillation token is one more token with a place of its own: what timm calls a register."""
    return _vit(config, size, state) | {"reg_tokens": 1}


def _beit(config: Mapping[str, Any], size: tuple[int, int], state: State) -> dict[str, Any]:
    return _vit(config, size, state) | {
        "qkv_bias": True,
        "init_values": max(config.get("layer_scale_init_value", 0.1), 0.0),
        "use_abs_pos_emb": bool(config.get("use_absolute_position_embeddings", False)),
        "use_rel_pos_bias": bool(config.get("use_relative_position_bias", False)),
        "use_shared_rel_pos_bias": bool(config.get("use_shared_relative_position_bias", False)),
        "global_pool": "avg" if config.get("use_mean_pooling", True) else "token",
    }


def _swin(config: Mapping[str, Any], size: tuple[int, int], state: State) -> dict[str, Any]:
    if config.get("use_absolute_embeddings"):
        raise ValueError("timm's Swin has no absolute position embeddings")
    patch, window = config.get("patch_size", 4), config.get("window_size", 7)
    depths = config.get("depths", (2, 2, 6, 2))
    # where windows do not tile the image, transformers pads it and then shifts it, and timm the other way round
    if any(side % (patch * window * 2 ** (len(depths) - 1)) for side in size):
        raise ValueError(f"windows of {window} do not tile images of {size}")
    return {
        "img_size": list(size),
        "patch_size": patch,
        "embed_dim": config.get("embed_dim", 96),
        "depths": list(depths),
        "num_heads": list(config.get("num_heads", (3, 6, 12, 24))),
        "window_size": window,
        "mlp_ratio": config.get("mlp_ratio", 4.0),
        "qkv_bias": bool(config.get("qkv_bias", True)),
    }


def _dinov2(config: Mapping[str, Any], size: tuple[int, int], state: State) -> dict[str, Any]:
    """transformers resamples the positions for each image; here once, for the one size there is."""
    width = config.get("hidden_size", 768)
    patch = _pair(config.get("patch_size", 14))
    old = [side // by for side, by in zip(_pair(config.get("image_size", DEFAULT_SIZE)), patch, strict=True)]
    new = [side // by for side, by in zip(size, patch, strict=True)]
    if new[0] * new[1] > MAX_TOKENS:
        raise ValueError(f"images of {size} have {new[0] * new[1]} patches")
    if new != old:
        grid = state["pos_embed"][:, 1:].reshape(1, *old, width).permute(0, 3, 1, 2)
        grid = nn.functional.interpolate(grid, size=new, mode="bicubic", align_corners=False)
        grid = grid.permute(0, 2, 3, 1).reshape(1, -1, width)
        state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], grid], 1)
    told = {"image_size": size, "patch_size": patch, "intermediate_size": len(state["blocks.0.mlp.fc1.bias"])}
    return _vit(dict(config) | told, size, state) | {"init_values": 1.0}


_FAMILIES = {
    "vit": _Family("vit_base_patch16_224", "vit.", ("ViTForImageClassification",), _vit),
    "deit": _Family(
        "vit_base_patch16_224",
        "deit.",
        ("DeiTForImageClassification", "DeiTForImageClassificationWithTeacher"),
        _deit,
        {"DeiTForImageClassificationWithTeacher": "class+distillation"},
        "DeiTImageProcessor",
    ),
    "beit": _Family("beit_base_patch16_224", "beit.", ("BeitForImageClassification",), _beit, {}, "BeitImageProcessor"),
    "swin": _Family("swin_tiny_patch4_window7_224", "swin.", ("SwinForImageClassification",), _swin, eps=1e-5),
    "dinov2": _Family(
        "vit_base_patch14_dinov2",
        "dinov2.",
        ("Dinov2ForImageClassification",),
        _dinov2,
        {"Dinov2ForImageClassification": "class+mean"},
        "BitImageProcessor",
        eps=1e-6,
    ),
}
