"""Tag photos with an ONNX file that `python -m demo.export --model REF --out model.onnx` wrote.

    python onnx_tag.py model.onnx photo.jpg…

Needs onnxruntime, numpy and Pillow, and nothing of TagLoop: all that there is to know of a model stands in its file.
Pixels are those that TagLoop makes. Copy it, and leave out the steps that your model does not have.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageColor, ImageOps


def load(path):
    """The session, and what the file says of the model."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session, {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}


def prepare(image, preprocessing):
    """An upright Pillow image to float32 pixels (3, H, W)."""
    if preprocessing["transparency"] == "white" and image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    value = image.convert("RGB")
    for step in preprocessing["steps"]:
        value = STEPS[step["type"]](value, step)
    return value


def scores(session, metadata, image):
    """Scores by label of one upright image."""
    pixels = prepare(image, metadata["preprocessing"])[None]
    return dict(zip(metadata["labels"], session.run(["scores"], {"pixels": pixels})[0][0].tolist(), strict=True))


def _two(size):
    return (size * 2)[:2] if isinstance(size, list) else [size] * 2


def _resized(image, width, height, step):
    return image.resize((width, height), Image.Resampling[step.get("interpolation", "bilinear").upper()])


def _resize(image, step):
    size = step["size"] if isinstance(step["size"], list) else [step["size"]]
    if len(size) == 2:
        return _resized(image, size[1], size[0], step)
    shorter, longer = size[0], int(size[0] * max(image.size) / min(image.size))
    if step.get("max_size") and longer > step["max_size"]:
        shorter, longer = int(step["max_size"] * shorter / longer), step["max_size"]
    return _resized(image, *((shorter, longer) if image.width <= image.height else (longer, shorter)), step)


def _in_proportion(choose):
    def resize(image, step):
        height, width = step["size"]
        ratio = choose(image.height / height, image.width / width)
        return _resized(image, round(image.width / ratio), round(image.height / ratio), step)

    return resize


def _centre(image, step):
    """Cut to `size`; what is smaller gets a border of `fill`."""
    height, width = _two(step["size"])
    if step.get("rounding") == "down":
        left, top = (image.width - width) // 2, (image.height - height) // 2
    else:
        across, down = max(width - image.width, 0), max(height - image.height, 0)
        border = (across // 2, down // 2, (across + 1) // 2, (down + 1) // 2)
        image = ImageOps.expand(image, border, tuple(step.get("fill", (0, 0, 0))))
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _pad(image, width, height, colour):
    canvas = Image.new("RGB", (width, height), colour)
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return canvas


def _pad_to_size(image, step):
    width, height = _two(step["size"])
    ratio = min(width / image.width, height / image.height)
    inner = [max(round(side * ratio), 1) for side in image.size]
    colour = step.get("background_color", "white")
    colour = ImageColor.getrgb(colour)[:3] if isinstance(colour, str) else tuple(np.broadcast_to(colour, 3).tolist())
    return _pad(_resized(image, *inner, step), width, height, colour)


def _normalize(pixels, step):
    mean, std = (np.broadcast_to(np.float32(step[key]), 3)[:, None, None] for key in ("mean", "std"))
    return (pixels - mean) / std


STEPS = {
    "resize": _resize,
    "resize_to_fit": _in_proportion(max),
    "resize_to_cover": _in_proportion(min),
    "center_crop": _centre,
    "pad_or_crop": _centre,
    "pad_to_square": lambda image, step: _pad(image, max(image.size), max(image.size), "white"),
    "pad_to_size": _pad_to_size,
    "to_tensor": lambda image, step: np.asarray(image, np.float32).transpose(2, 0, 1) / 255,
    "normalize": _normalize,
}


if __name__ == "__main__":
    model, about = load(sys.argv[1])
    for name in sys.argv[2:]:
        found = scores(model, about, ImageOps.exif_transpose(Image.open(name)))
        active = [label for label in sorted(found, key=found.get, reverse=True) if found[label] >= about["threshold"]]
        print(name, ", ".join(f"{label} {found[label]:.2f}" for label in active), sep="\t")
