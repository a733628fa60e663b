"""Where things lie, who may come, and every limit of the app with its reason: read once into frozen values.

A limit is a constant with its unit in its name; what differs by where the app runs is a field of `Settings`. Limits of
what a checkpoint's files may ask for stand with the readers of these files.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from demo.accounts import Rights, read_accounts
from demo.errors import BadInput
from demo.flags import parse_flags

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED_CHECKPOINT = ROOT / "assets" / "checkpoint"
EXAMPLES = ROOT / "assets" / "examples"

# One image

MAX_IMAGE_BYTES = 32 * 2**20
"""One image file, wherever it comes from. Phones write 48 megapixels into 10 to 25 MB."""

MAX_PIXELS = 25_000_000
"""What is decoded at once: 75 MB as RGB, in each of the threads that decode. Cameras mostly give 12 to 24 million."""

MAX_JPEG_PIXELS = 125_000_000
"""A JPEG arrives at a half, a quarter or an eighth of its size at little cost; phones give 48 and 108 million."""

MAX_SIDE_RATIO = 100
"""Of the longer side to the shorter. A resize to a given short side would blow a thin strip up to any size."""

MAX_FRAMES = 500
"""Of an animation, of which the first frame is used. Opening WebP and AVIF takes time for each."""

MAX_JPEG_SCANS_TIMES_PIXELS = 600_000_000
"""Each scan of a progressive JPEG goes over every pixel; a few kilobytes can hold thousands. About a second's work."""

MAX_TIFF_ENTRIES = 4096
"""In the directories of a TIFF or of EXIF; real ones have under a hundred, and each is a step of ours."""

# One request

MAX_FORM_BYTES = 2**20
"""What a request may hold beside an image: multipart headers, and the JSON around it."""

MAX_ZIP_LIST_BYTES = 8 * 2**20
"""Of a zip's list of its files, all of which is read before the first photo: 60,000 files with names of usual length,
180,000 with none, which take 60 MB. How many photos may be in it is `max_album_photos`."""

MAX_GRID_DECISIONS = 200_000
"""In one save of the grid: ten labels on each of 20,000 photos."""

MAX_LABEL_CHARACTERS = 20_000
"""Of a label that the grid names. The longest of a published vocabulary has under 200; a checkpoint may hold any."""

MAX_NEW_LABEL_CHARACTERS = 200
"""Of a label that a person types in the editor, and of a search."""

MAX_REF_CHARACTERS = 500
"""Of a model's name or path that a person types; longer paths are for the command line."""

# The page

MAX_CHIPS = 300
"""Labels shown by the editor at once: more than anybody reads, and a browser draws them in one frame. The others are
found by typing."""

TAGGING_AT_ONCE = 8
"""Events of one kind that tag at the same time: while some images are in the model others are decoded, and one that
waits for its model to be loaded does not stop the others. With 4, two cores are not busy."""

HEATMAPS_AT_ONCE = 2
"""Maps of *Why?* in the making: each takes some forward passes, and images that are opened come first."""

UPLOAD_SECONDS = 24 * 3600
"""How long gradio keeps what was uploaded one by one; who comes back the next day opens the image again."""

# What is kept in memory

MAX_OPEN_BYTES = 256 * 2**20
"""Of the images that are open, of all visitors together: eight of the largest, some hundred of the usual size."""

MAX_DRAFTS = 500
"""Images with decisions that one visitor has not saved, a few kilobytes each; the oldest goes."""

MAX_SESSIONS = 1000
"""Browser tabs whose way through the photos is remembered, some 100 kB each, unsaved decisions not counted; of the one
that was not heard of for longest it is forgotten. Gradio would keep 10,000."""

MAX_HEATMAPS = 500
"""Finished maps of *Why?*, some 10 kB each."""

MAX_THUMBNAIL_BYTES = 64 * 2**20
"""Of one album: some 8,000 thumbnails of 8 kB. The others are made again when they are looked at."""

MAX_PREVIEW_BYTES = 32 * 2**20
"""Of one server: some 100 JPEGs of what browsers cannot show. The others are made again when they are looked at."""

MAX_SHEETS = 2
"""Models whose scores of one album are kept, in files: the one in use and the one to go back to."""

MAX_VOCABULARIES = 100
"""Models whose label names are remembered, so that decisions made with them can still be saved; up to 1 MB each."""

MAX_CURVE_IMAGES = 500
"""One's own images in full that the own curve is drawn of, the latest; more would not move it visibly."""

MAX_CURVE_BYTES = 64 * 2**20
"""Of the scores that own curves are drawn of, of all models together."""

MAX_COUNTED_ADDRESSES = 10_000
"""Addresses whose saves of the last hour are counted, some 200 bytes each; of more, those that saved longest ago are
forgotten."""

# Work that waits

MAX_WAITING_RUNS = 3
"""Fine-tunes whose turn comes after the one that runs; each may take minutes to hours."""

# The disk

MIN_FREE_BYTES = 256 * 2**20
"""Under this `/healthz` calls the disk full: room for eight of the largest images, while somebody makes more."""


@dataclass(frozen=True)
class Settings:
    """What the app runs with. The last group are limits that are tighter on a public host (`PUBLIC_LIMITS`).

    allow_models: the owners and repos that visitors may load from the Hub; None for any. accounts: names and passwords
    of those who may come; none for whoever reaches the port. on_space: it runs as a Hugging Face Space. hub_login:
    people may log in there with their account of the Hub. savers, retrainers: as in `Rights`. retraining: whether
    the page offers fine-tuning, to anybody at all. log: whether events go to stderr as lines of JSON. sync: the dataset
    repo that the corrections are kept in; None for none. sync_minutes: that a saved row may wait for that; the Hub
    takes 128 commits an hour, five minutes make at most 24.

    max_models: how many models are in memory, the server's own among them; a ViT-L takes 1.2 GB. max_upload_bytes: one
    image. max_queue_length: events that wait for their turn, of all kinds; at a tenth of a second each the last one is
    seen to within seconds, and who comes later is told so at once.

    max_album_photos, max_album_bytes: of what one visitor uploads to work through, on the server's disk, the photos in
    a zip each counting. On one's own machine a folder of any camera; of strangers an evening's work. max_albums:
    visitors' uploads that are kept, so times max_album_bytes is what they may take of the disk: 8 GB of strangers.
    max_saves_per_hour: rows that one address may save; None for any number. One in 3.6 seconds is more than a person
    reviews, and is twice the whole grid of max_album_photos.
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
    accounts: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    on_space: bool = False
    hub_login: bool = False
    savers: tuple[str, ...] | None = None
    retrainers: tuple[str, ...] | None = None
    retraining: bool = True
    log: bool = False
    sync: str | None = None
    sync_minutes: float = 5
    max_models: int = 3
    max_upload_bytes: int = MAX_IMAGE_BYTES
    max_queue_length: int = 64

    max_albums: int = 8
    max_album_photos: int = 20_000
    max_album_bytes: int = 32 * 2**30
    max_saves_per_hour: int | None = None

    @property
    def is_public(self) -> bool:
        """Whether people on other machines may reach the page."""
        if self.on_space:
            return True
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"

    @property
    def has_strangers(self) -> bool:
        """Whether people on other machines come whom no login tells apart."""
        return self.is_public and not self.accounts

    @property
    def is_open(self) -> bool:
        """Whether these may do everything, and it is not a Space, where that is what its owner made it for."""
        return self.has_strangers and not self.on_space

    @property
    def rights(self) -> Rights:
        """Where others reach the page nobody fine-tunes who is not named."""
        unnamed = () if self.is_public else None
        return Rights(self.savers, unnamed if self.retrainers is None else self.retrainers)

    @classmethod
    def from_flags(
        cls, arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
    ) -> Settings:
        """Read `python app.py`'s flags; GRADIO_SERVER_NAME and _PORT stand in for --host and --port.

        Raises BadInput, also for a host that others reach without a word on who may come.
        """
        environment = os.environ if environment is None else environment
        flags = parse_flags(
            "app", arguments, environment, description="Tag images, fix the tags, fine-tune on the fixes."
        )
        images = Path(flags.images) if flags.images else None
        if images is not None and not images.is_dir():
            raise BadInput(f"--images {images} is not a folder.", next_step="Name a folder that holds images.")
        settings = cls(
            model=flags.model,
            corrections=Path(flags.corrections or _writable("corrections")),
            images=images,
            runs=_writable("runs"),
            device=flags.device,
            host=flags.host or environment.get("GRADIO_SERVER_NAME") or "127.0.0.1",
            port=_port(flags.port, environment.get("GRADIO_SERVER_PORT")),
            mcp=flags.mcp,
            allow_models=flags.allow_models,
            accounts=() if flags.auth in (None, NO_LOGIN) else read_accounts(Path(flags.auth)),
            on_space=bool(environment.get("SPACE_ID")),
            hub_login=flags.auth in (None, NO_LOGIN) and _has_hub_login(environment),
            savers=flags.savers,
            retrainers=flags.retrainers,
            sync=flags.sync,
            sync_minutes=flags.sync_minutes,
        )
        if settings.is_open and flags.auth != NO_LOGIN:
            raise BadInput(
                f"--host {settings.host} lets other machines in, and nothing asks who is there.",
                "Whoever reaches the port could tag, save and read all corrections, and fill the disk.",
                "Name a file of NAME:PASSWORD lines with --auth FILE; or, where something in front of it asks already, "
                "say --auth none; or leave --host out.",
            )
        if settings.mcp and settings.accounts:
            raise BadInput("--mcp and --auth exclude each other.", "MCP clients have no way to log in.", "Drop one.")
        if settings.mcp and find_spec("mcp") is None:
            raise BadInput("--mcp needs a package that is not here.", "", 'Run: pip install "gradio[mcp]"')
        if (flags.savers or flags.retrainers) and not (settings.accounts or settings.hub_login):
            raise BadInput(
                "--savers and --retrainers name people, and nobody logs in here.",
                next_step="Give them accounts with --auth FILE; on a Space, put hf_oauth: true into its README.",
            )
        has_no_account = {*(flags.savers or ()), *(flags.retrainers or ())} - {name for name, _ in settings.accounts}
        if settings.accounts and has_no_account:
            raise BadInput(
                f"--savers and --retrainers name {', '.join(sorted(has_no_account))}, and {flags.auth} does not.",
                next_step="Name people as they log in, capitals too.",
            )
        if settings.is_public:
            owner = environment.get("SPACE_ID", "").partition("/")[0]
            known = (*(flags.retrainers or ()), *([owner] if settings.hub_login else []))
            # minutes of all cores are for whom the owner names, and not at the click of a stranger
            settings = replace(settings, **PUBLIC_LIMITS, retrainers=known, retraining=bool(known))
        if settings.accounts or settings.savers:
            settings = replace(settings, max_saves_per_hour=None)  # they are known by name
        return replace(settings, log=settings.is_public if flags.log is None else flags.log)


NO_LOGIN = "none"
"""What `--auth` says where no login is wanted."""

PUBLIC_LIMITS = {
    "max_albums": 32,
    "max_album_photos": 500,
    "max_album_bytes": 256 * 2**20,
    "max_saves_per_hour": 1000,
}


def _writable(name: str) -> Path:
    """A folder of that name here; where none is and nothing can be written here, in the person's own data folder.

    A host may check the code out for reading alone. One that is here stays it, also where it cannot be written to: what
    is saved must not be in two places. https://specifications.freedesktop.org/basedir-spec/latest/
    """
    here = Path(name)
    if here.exists() or os.access(Path.cwd(), os.W_OK):
        return here
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "tagloop" / name


def _has_hub_login(environment: Mapping[str, str]) -> bool:
    """Whether it runs as a Space with `hf_oauth`, as gradio sees it: elsewhere it would let everybody in as one person.

    The secret signs who is logged in.
    """
    needed = ("SPACE_ID", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")
    return environment.get("SYSTEM") == "spaces" and all(environment.get(name) for name in needed)


def _port(flag: int | None, gradios: str | None) -> int | None:
    """--port, else GRADIO_SERVER_PORT. Raises BadInput."""
    try:
        port = int(gradios) if flag is None and gradios else flag
    except ValueError:
        raise BadInput(f"GRADIO_SERVER_PORT is {gradios!r}.", next_step="Use a port number.") from None
    if port is not None and not 0 < port < 65536:
        raise BadInput(f"The port is {port}.", next_step="Use a number from 1 to 65535.")
    return port
