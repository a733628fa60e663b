"""Where things lie, and the app's limits: what `python app.py` runs with, read once into frozen values."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from demo.errors import BadInput
from demo.flags import parse_flags

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED_CHECKPOINT = ROOT / "assets" / "checkpoint"
EXAMPLES = ROOT / "assets" / "examples"


@dataclass(frozen=True)
class Settings:
    """What the app runs with. Limits carry their units in their names.

    allow_models: the owners and repos that visitors may load from the Hub; None for any. max_models: how many
    models are in memory, the server's own among them. on_space: it runs as a Hugging Face Space. retraining: whether
    the page offers fine-tuning; `from_flags` has it off on a public host. max_album_photos, max_album_bytes: of what
    one visitor uploads to work through; max_albums: visitors' uploads that are kept.
    """

    model: str | None = None
    corrections: Path = Path("corrections")
    images: Path | None = None
    runs: Path = Path("runs")
    device: str = "auto"
    host: str = "127.0.0.1"
    port: int | None = None
    mcp: bool = False
    allow_models: tuple[str, ...] | None = None
    on_space: bool = False
    retraining: bool = True
    max_models: int = 3
    max_upload_bytes: int = 32 * 1024 * 1024
    max_queue_length: int = 64
    max_albums: int = 8
    max_album_photos: int = 20_000
    max_album_bytes: int = 32 * 1024**3

    @property
    def is_public(self) -> bool:
        """Whether people on other machines may reach the page."""
        if self.on_space:
            return True
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"

    @classmethod
    def from_flags(
        cls, arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
    ) -> Settings:
        """Read `python app.py`'s flags; GRADIO_SERVER_NAME and _PORT stand in for --host and --port."""
        environment = os.environ if environment is None else environment
        flags = parse_flags(
            "app", arguments, environment, description="Tag images, fix the tags, fine-tune on the fixes."
        )
        port = flags.port
        if port is None and environment.get("GRADIO_SERVER_PORT"):
            try:
                port = int(environment["GRADIO_SERVER_PORT"])
            except ValueError:
                raise BadInput(
                    f"GRADIO_SERVER_PORT is {environment['GRADIO_SERVER_PORT']!r}.", next_step="Use a port number."
                ) from None
        if port is not None and not 0 < port < 65536:
            raise BadInput(f"The port is {port}.", next_step="Use a number from 1 to 65535.")
        images = Path(flags.images) if flags.images else None
        if images is not None and not images.is_dir():
            raise BadInput(f"--images {images} is not a folder.", next_step="Name a folder that holds images.")
        settings = cls(
            model=flags.model,
            corrections=Path(flags.corrections),
            images=images,
            device=flags.device,
            host=flags.host or environment.get("GRADIO_SERVER_NAME") or "127.0.0.1",
            port=port,
            mcp=flags.mcp,
            allow_models=flags.allow_models,
            on_space=bool(environment.get("SPACE_ID")),
        )
        if not settings.is_public:
            return settings
        return replace(settings, retraining=False, max_albums=32, max_album_photos=500, max_album_bytes=256 * 1024**2)
