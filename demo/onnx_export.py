"""A checkpoint as one ONNX file, which needs neither this project nor PyTorch: `demo.export --model REF`.

Input `pixels`: float32 (N, 3, H, W), RGB, N free, images prepared as the file says. Output `scores`: float32 (N, L)
in [0, 1], one sigmoid a label, or a softmax for a model that chooses one label an image. Every value of the file's
`metadata_props` is JSON:

- labels: L names, in the order of the scores. categories: L names, or empty. exclusive: categories (a rating) of
  whose labels only the best one counts
- threshold: the recommended one. thresholds: L numbers, null for a label without one, or empty
- activation: sigmoid or softmax
- preprocessing: `transparency` (white: painted onto white; dropped), `steps`, and what they come to: `size` (height,
  width), `mean`, `std`, `interpolation`, `crop_mode`, `crop_pct`. An image is turned as its EXIF says first
- model: owner/name@commit, or local:NAME@<first 12 of the weights' sha256>. architecture. license, license_name and
  license_link, as far as its card states them

A step is an object with a `type`: `resize` (to `size`, [height, width]; one number is the shorter side, and
`max_size` bounds the longer one), `resize_to_fit` and `resize_to_cover` (in proportion, into or over `size`),
`center_crop` (`rounding` down: half a pixel goes to the left and up), `pad_or_crop`, `pad_to_square`, `pad_to_size`
(width, height), `to_tensor` (0 to 255 becomes 0 to 1) and `normalize`. docs/onnx_tag.py does all of them in Pillow
and numpy. Writes no model of 2 GB and more, which would take more than one file.
"""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from demo import card
from demo.checkpoint import Checkpoint
from demo.errors import BadInput, CheckpointError
from demo.images import decode
from demo.preprocessing import TIMM, Preprocess
from demo.settings import EXAMPLES

INPUT, OUTPUT = "pixels", "scores"
LARGEST_DIFFERENCE = 1e-4
MAX_BYTES = 2**31 - 2**24
"""What one file of protocol buffers holds, with room for the graph and the labels."""
RUNTIME = "pip install onnxruntime"


class _Scorer(torch.nn.Module):
    """Pixels (N, 3, H, W) to scores (N, L)."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.model, self.single_label = checkpoint.model, checkpoint.single_label

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits = self.model(pixels)
        return logits.softmax(-1) if self.single_label else logits.sigmoid()


def require_packages() -> None:
    """Raises BadInput where what writes ONNX files is not installed."""
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        what = f"An ONNX file is written by {' and '.join(missing)}, not installed here."
        raise BadInput(what, next_step="pip install onnx onnxscript onnxruntime")


def write(checkpoint: Checkpoint, path: Path) -> float | None:
    """Write `path`, and score random pixels and a photo with it and with PyTorch: the largest difference.

    None where ONNX Runtime is not installed. Changes how the checkpoint's model computes attention, not what.
    Raises CheckpointError for a model that cannot be written, or scores otherwise once it is, and OSError.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in checkpoint.model.state_dict().values())
    if size > MAX_BYTES:
        raise CheckpointError(f"{checkpoint.ref} has {size / 1e9:.1f} GB of weights.", "One ONNX file holds 2 GB.")
    scorer, photo = _Scorer(checkpoint).eval(), min(EXAMPLES.glob("*.jpg"))
    random = torch.randn(3, *checkpoint.data["input_size"], generator=torch.Generator().manual_seed(0))
    batches = {"random pixels": random, photo.name: checkpoint.preprocess(decode(photo.read_bytes())).unsqueeze(0)}
    with torch.inference_mode():
        expected = {name: scorer(batch).numpy() for name, batch in batches.items()}
    model = _traced(scorer, random, checkpoint)
    for key, value in metadata(checkpoint).items():
        model.metadata_props.add(key=key, value=json.dumps(value))  # ASCII, whatever a label is called
    path.write_bytes(model.SerializeToString())
    return _difference(path, batches, expected) if find_spec("onnxruntime") else None


def metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the file says of itself."""
    data, labels, stated = checkpoint.data, checkpoint.labels, card.front_matter(checkpoint.card)
    return {
        "labels": labels.names,
        "categories": labels.categories,
        "exclusive": sorted(labels.exclusive),
        "threshold": checkpoint.threshold,
        "thresholds": labels.thresholds,
        "activation": "softmax" if checkpoint.single_label else "sigmoid",
        "preprocessing": {
            "transparency": "white" if checkpoint.preprocess.white else "dropped",
            "steps": list(_steps(checkpoint.preprocess)),
            "size": data["input_size"][1:],
            **{key: data[key] for key in ("mean", "std", "interpolation", "crop_mode", "crop_pct") if key in data},
        },
        "model": checkpoint.identity,
        "architecture": checkpoint.config["architecture"],
        **{key: stated[key] for key in card.LICENCE if isinstance(stated.get(key), str | list)},
    }


def _steps(preprocess: Preprocess) -> Iterator[Mapping[str, Any]]:
    """The steps with timm's own spelled out, as `timm.data.transforms_factory.transforms_imagenet_eval` has them."""
    data = preprocess.data
    for step in preprocess.steps:
        if step != TIMM:
            yield {"type": step["type"].removeprefix("maybe_")} | {k: v for k, v in step.items() if k != "type"}
            continue
        size, mode, share = data["input_size"][1:], data.get("crop_mode"), data.get("crop_pct") or 0.875
        scaled = [math.floor(side / share) for side in size]
        kind = {"squash": "resize", "border": "resize_to_fit"}.get(mode, "resize_to_cover")
        if kind == "resize_to_cover" and scaled[0] == scaled[1]:
            kind, scaled = "resize", scaled[:1]
        yield {"type": kind, "size": scaled, "interpolation": data["interpolation"]}
        fill = [round(255 * value) for value in data["mean"]]
        yield (
            {"type": "pad_or_crop", "size": size, "fill": fill}
            if mode == "border"
            else {
                "type": "center_crop",
                "size": size,
            }
        )
        yield {"type": "to_tensor"}
        yield {"type": "normalize", "mean": data["mean"], "std": data["std"]}


def _traced(scorer: _Scorer, pixels: torch.Tensor, checkpoint: Checkpoint) -> Any:
    """The graph as an `onnx.ModelProto`."""
    for module in scorer.modules():
        if getattr(module, "fused_attn", False):  # one operator, which the exporter cannot take apart in every model
            module.fused_attn = False
    logging.disable(logging.CRITICAL)  # whole graphs are logged and printed; what matters raises
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            program = torch.onnx.export(
                scorer,
                (pixels,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes={INPUT: {0: torch.export.Dim("N")}},
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        why = f"{type(error.__cause__ or error).__name__}: {str(error.__cause__ or error).splitlines()[0]}."
        raise CheckpointError(f"{checkpoint.config['architecture']} cannot be written as ONNX.", why) from error
    finally:
        logging.disable(logging.NOTSET)
    model = program.model_proto
    graph = model.graph
    for part in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("metadata_props")  # where in whose folders the code stands
    return model


def _difference(path: Path, batches: Mapping[str, torch.Tensor], expected: Mapping[str, np.ndarray]) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        scores = {name: session.run([OUTPUT], {INPUT: batch.numpy()})[0] for name, batch in batches.items()}
    except Exception as error:  # it has a dozen of its own, which are nobody else's children
        why = f"{type(error).__name__}: {error}."
        raise CheckpointError("ONNX Runtime cannot use the file.", why, "pip install --upgrade onnxruntime") from error
    differences = {name: float(np.abs(scores[name] - expected[name]).max()) for name in batches}
    name = max(differences, key=differences.__getitem__)
    if not differences[name] <= LARGEST_DIFFERENCE:
        why = f"On {name} a score differs by {differences[name]:.1e}."
        raise CheckpointError("The ONNX file does not score as the checkpoint does.", why, "It was not kept.")
    return differences[name]
