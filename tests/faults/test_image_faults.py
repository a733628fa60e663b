"""Mutated images and decompression bombs, each run in a child process whose time and memory are measured.

Every check is shown failing on a planted bad implementation: Pillow's own Image.open.
"""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.faults.table import demand, planted

Figure = Callable[[str], None]
ROOT = Path(__file__).resolve().parents[2]
MUTATIONS = 10_000
KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

# What the child runs: `decode` is the implementation under test, `rejected` the only error it may raise.
PRELUDE = """
import io, json, random, resource, sys, time, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from PIL import Image
if sys.argv[1] == "ours":
    from demo.errors import ImageRejected as rejected
    from demo.images import decode
else:
    class rejected(Exception):
        pass
    def decode(data):
        return Image.open(io.BytesIO(data)).convert("RGB")

def memory(name):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024

def tried(data):
    "The name of what came out, and the seconds it took."
    start = time.perf_counter()
    try:
        outcome = decode(data).mode
    except rejected:
        outcome = "rejected"
    except Exception as error:
        outcome = type(error).__name__
    return outcome, time.perf_counter() - start
"""

MUTATE = """
seeds = [Path(path).read_bytes() for path in sys.argv[4:]]
rng = random.Random(int(sys.argv[2]))
for seed in seeds:
    tried(seed)
def mutated():
    data = bytearray(rng.choice(seeds))
    how = rng.randrange(4)
    if how == 0:
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    elif how == 1:
        del data[rng.randrange(len(data)):]
    elif how == 2:
        at = rng.randrange(len(data))
        data[at:at + rng.randint(1, 40)] = rng.randbytes(rng.randint(0, 40))
    else:
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(min(64, len(data)))] = rng.randrange(256)
    return bytes(data)
before, outcomes, slowest = memory("VmHWM"), {}, 0.0
for number in range(int(sys.argv[3])):
    outcome, seconds = tried(mutated())
    outcomes[outcome] = outcomes.get(outcome, 0) + 1
    slowest = max(slowest, seconds)
print(json.dumps({"outcomes": outcomes, "slowest_s": slowest, "memory_mb": memory("VmHWM") - before}))
"""

BOMB = """
data = Path(sys.argv[2]).read_bytes()
warm = io.BytesIO()
Image.new("RGB", (64, 64)).save(warm, sys.argv[3])
tried(warm.getvalue())
Path("/proc/self/clear_refs").write_text("5")
limit = int((memory("VmSize") + 1500) * 2**20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
before = memory("VmHWM")
outcome, seconds = tried(data)
print(json.dumps({"outcome": outcome, "seconds": seconds, "memory_mb": memory("VmHWM") - before}))
"""


def child(script: str, *arguments: object) -> dict:
    """What the script printed, run with the project to import from and two minutes to finish."""
    command = [sys.executable, "-c", PRELUDE + script, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def cost(result: dict) -> str:
    return f"{result['outcome']} in {result['seconds']:.2f} s, memory + {result['memory_mb']:.0f} MB"


def png_of(path: Path, width: int, height: int) -> Path:
    """A whole grey PNG of that size, written row by row."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer, row = zlib.compressobj(1), bytes(width + 1)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return path


def webp_of_a_thousand_frames() -> bytes:
    frames, target = [Image.new("L", (400, 400), number % 256) for number in range(1000)], io.BytesIO()
    frames[0].save(target, "WEBP", save_all=True, append_images=frames[1:], lossless=True, method=0)
    return target.getvalue()


def phone_jpeg() -> bytes:
    """A turned JPEG of 48 megapixels."""
    exif, target = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.effect_noise((2000, 1500), 40).convert("RGB").resize((8000, 6000)).save(target, "JPEG", exif=exif)
    return target.getvalue()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One small picture of each kind, and variants that reach other decoders."""
    folder = tmp_path_factory.mktemp("seeds")
    picture = Image.effect_noise((48, 32), 60).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    variants = [
        ("JPEG", "RGB", {"exif": exif}),
        ("JPEG", "CMYK", {"progressive": True}),
        ("PNG", "RGB", {}),
        ("PNG", "P", {"transparency": 0}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"save_all": True, "append_images": [picture] * 3}),
        ("GIF", "P", {}),
        ("BMP", "RGB", {}),
        ("BMP", "P", {}),
        ("TIFF", "RGB", {"exif": exif}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("AVIF", "RGB", {}),
    ]
    paths = []
    for number, (kind, mode, options) in enumerate(variants):
        paths.append(folder / f"{number}.{kind.lower()}")
        picture.convert(mode).save(paths[-1], kind, **options)
    return paths


@demand("malformed image")
@pytest.mark.faults
@pytest.mark.parametrize("seed", [1, 2])
def test_ten_thousand_mutations_are_decoded_or_rejected_fast_and_in_little_memory(
    seeds: list[Path], seed: int, figure: Figure
) -> None:
    result = child(MUTATE, "ours", seed, MUTATIONS, *seeds)
    figure(f"{MUTATIONS:,} mutations: slowest {result['slowest_s']:.2f} s, memory + {result['memory_mb']:.0f} MB")
    assert {"RGB", "rejected"} <= set(result["outcomes"]) <= {"RGB", "RGBA", "rejected"}, result
    assert result["slowest_s"] < 1, result
    assert result["memory_mb"] < 100, result


@planted("malformed image")
@pytest.mark.faults
def test_the_check_of_mutations_fails_a_bare_image_open(seeds: list[Path]) -> None:
    result = child(MUTATE, "bare", 1, 1000, *seeds)
    assert set(result["outcomes"]) - {"RGB", "rejected"}


@demand("decompression bomb")
@pytest.mark.parametrize("size", [(5200, 5000), (9400, 9400), (13350, 13350)], ids=["26MP", "88MP", "178MP"])
def test_a_png_bomb_is_refused_at_once_and_in_little_memory(
    tmp_path: Path, size: tuple[int, int], figure: Figure
) -> None:
    result = child(BOMB, "ours", png_of(tmp_path / "bomb.png", *size), "PNG")
    figure(f"PNG of {size[0] * size[1] / 1e6:.0f} MP: {cost(result)}")
    assert result["outcome"] == "rejected"
    assert result["seconds"] < 1
    assert result["memory_mb"] < 64


@demand("decompression bomb")
@pytest.mark.faults
def test_a_webp_of_a_thousand_frames_is_refused_at_once_and_in_little_memory(tmp_path: Path, figure: Figure) -> None:
    (tmp_path / "bomb.webp").write_bytes(webp_of_a_thousand_frames())
    result = child(BOMB, "ours", tmp_path / "bomb.webp", "WEBP")
    figure(f"WebP of 1,000 frames: {cost(result)}")
    assert result["outcome"] == "rejected"
    assert result["seconds"] < 1
    assert result["memory_mb"] < 64


@planted("decompression bomb")
@pytest.mark.faults
def test_the_check_of_bombs_fails_pillows_default_limit(tmp_path: Path) -> None:
    result = child(BOMB, "bare", png_of(tmp_path / "bomb.png", 9400, 9400), "PNG")
    assert result["outcome"] != "rejected"
    assert result["memory_mb"] > 64


@demand("decompression bomb")
@pytest.mark.parametrize("kind", ["JPEG", pytest.param("TIFF", marks=pytest.mark.faults)])
def test_a_directory_of_overlapping_values_does_not_take_gigabytes(tmp_path: Path, kind: str) -> None:
    """Every entry claims the same bytes; Pillow copies them once an entry."""
    length = 60_000 if kind == "JPEG" else 4_000_000
    count = 4000 if kind == "JPEG" else 1000
    entries = b"".join(struct.pack("<HHII", 40000 + number, 1, length, 0) for number in range(count))
    directory = b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4)
    path = tmp_path / "bomb"
    if kind == "JPEG":
        plain = io.BytesIO()
        Image.new("RGB", (64, 64)).save(plain, "JPEG")
        exif = b"Exif\0\0" + directory + bytes(max(0, 65_000 - len(directory)))
        app1 = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
        path.write_bytes(b"\xff\xd8" + app1 + plain.getvalue()[plain.getvalue().index(b"\xff\xdb") :])
    else:
        path.write_bytes(directory + bytes(length))
    result = child(BOMB, "ours", path, kind)
    assert result["outcome"] == ("RGB" if kind == "JPEG" else "rejected")
    assert result["memory_mb"] < 64
    planted = child(BOMB, "bare", path, kind)
    assert planted["memory_mb"] > 150 or planted["outcome"] == "MemoryError", planted


@demand("decompression bomb")
@pytest.mark.faults
def test_a_phone_jpeg_of_48_megapixels_is_accepted_in_little_memory(tmp_path: Path, figure: Figure) -> None:
    (tmp_path / "phone.jpg").write_bytes(phone_jpeg())
    result = child(BOMB, "ours", tmp_path / "phone.jpg", "JPEG")
    figure(f"JPEG of 48 MP: {cost(result)}")
    assert result["outcome"] == "RGB"
    assert result["memory_mb"] < 150
