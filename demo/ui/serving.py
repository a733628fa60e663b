"""What stands around the page: its gate, the corrections as downloads, reports of fine-tunes.

The routes serve the corrections and their thumbnails to whoever can reach the page, and where that is the people of
this machine alone, reports too: they hold copies of photos, also of those deleted since. Nothing else of the disk.
"""

from __future__ import annotations

import mimetypes
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

import gradio as gr
from gradio.route_utils import API_PREFIX
from gradio.utils import get_upload_folder, is_in_or_equal
from gradio_client.utils import is_http_url_like
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from demo import exports
from demo.albums import Albums
from demo.corrections import Corrections
from demo.errors import DemoError
from demo.images import thumbnail
from demo.report import REPORT
from demo.rows import HEADER, OWN_IMAGE
from demo.settings import MAX_FORM_BYTES, TAGGING_AT_ONCE
from demo.strip_metadata import as_it_is, bare
from demo.tables import merge_rows, read_table
from demo.ui.album_routes import album_routes
from demo.ui.early import Early
from demo.ui.foreign import Foreign
from demo.ui.gate import Gate
from demo.ui.health import Health
from demo.ui.login import Login
from demo.ui.strangers import Strangers
from demo.ui.streams import Streams
from demo.ui.watching import Watch

THUMBNAIL_PIXELS = 128
PIECE_BYTES = 2**18
EXPORTS = {
    "imagefolder.zip": lambda images, folder, read: exports.zipped(exports.imagefolder(images, folder, read)),
    "txt.zip": lambda images, folder, read: exports.zipped(exports.captions(images, folder, read)),
    "fastai.csv": lambda images, folder, _: exports.fastai_csv(images, folder, attrgetter("file_name")),
    "corrections.json": lambda images, folder, _: exports.to_json(images, folder, attrgetter("file_name")),
}
"""Downloads by file name; the two files name images as the corrections do, so they belong beside their CSV."""
CSV_HEADERS = {"content-disposition": 'attachment; filename="corrections.csv"'}
REPORT_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
    "x-content-type-options": "nosniff",
    "cache-control": "private, no-cache",
}


def app_kwargs(
    corrections: Corrections,
    albums: Albums,
    *,
    max_upload_bytes: int,
    max_queue_length: int,
    runs: Path | None = None,
    health: Health | None = None,
    has_strangers: bool = False,
) -> dict:
    """Arguments for the FastAPI app under the page. runs: the folder whose runs' reports are served.

    has_strangers: people come whom no login tells apart; what they download of each other's photos is the picture.
    """
    read = bare if has_strangers else as_it_is
    gate = Middleware(
        Gate,
        max_bytes=max_upload_bytes + MAX_FORM_BYTES,
        max_at_once=max_queue_length,
        max_working=TAGGING_AT_ONCE,
        own_limits=("/albums/",),
    )

    def csv(_: Request) -> Response:
        try:
            file = corrections.csv_path.open("rb")
        except FileNotFoundError:
            return Response(HEADER, media_type="text/csv", headers=CSV_HEADERS)
        size = os.fstat(file.fileno()).st_size  # what is saved from now on comes after it, or into another file
        headers = CSV_HEADERS | {"content-length": str(size)}
        pieces = _start_of(file, size)
        return StreamingResponse(pieces, media_type="text/csv", headers=headers, background=BackgroundTask(file.close))

    def archive(_: Request) -> Response:
        with tempfile.NamedTemporaryFile(suffix=".zip", delete=False) as file:
            try:
                corrections.write_zip(file, read)
            except DemoError as error:
                Path(file.name).unlink()
                raise HTTPException(500, str(error)) from error
        return FileResponse(
            file.name,
            media_type="application/zip",
            filename="corrections.zip",
            background=BackgroundTask(Path(file.name).unlink),
        )

    def export(request: Request) -> Response:
        """In another tool's format, sent while it is made. Rows that cannot be used are left out."""
        name = request.path_params["name"]
        if name not in EXPORTS:
            raise HTTPException(404)
        try:
            images = merge_rows(read_table(corrections.csv_path).rows)
        except DemoError as error:
            raise HTTPException(409, str(error)) from error
        return StreamingResponse(
            exports.gathered(EXPORTS[name](images, corrections.folder, read)),
            media_type=mimetypes.guess_type(name)[0],
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )

    def picture(request: Request) -> Response:
        name = f"images/{request.path_params['name']}"
        try:
            data = (corrections.folder / name).read_bytes() if OWN_IMAGE.fullmatch(name) else b""
            small = thumbnail(data, THUMBNAIL_PIXELS)
        except (OSError, DemoError) as error:
            raise HTTPException(404) from error
        return Response(small, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400"})

    def report(request: Request) -> Response:
        name = request.path_params["name"]
        try:
            path = runs.resolve() / name / REPORT if runs is not None else None
            is_report = path is not None and path.parent.name == name and path == path.resolve() and path.is_file()
        except (OSError, ValueError) as error:
            raise HTTPException(404) from error
        if not is_report:
            raise HTTPException(404)
        return FileResponse(path, media_type="text/html; charset=utf-8", headers=REPORT_HEADERS)

    return {
        "middleware": [
            Middleware(Watch),
            Middleware(Foreign),
            Middleware(Login),
            Middleware(Streams),
            Middleware(Early),
            gate,
            *[Middleware(Strangers)] * has_strangers,
        ],
        "routes": [
            Route("/corrections/corrections.csv", csv),
            Route("/corrections/corrections.zip", archive),
            Route("/corrections/export/{name}", export),
            Route("/corrections/thumbnails/{name}", picture),
            Route(f"/runs/{{name}}/{REPORT}", report),
            *album_routes(albums),
            *([health.route()] if health else []),
        ],
    }


def refuse_addresses(page: gr.Blocks) -> None:
    """Let no component fetch an address that a visitor names; gradio would, and keep what it got.

    One that names an upload, as MCP's clients name theirs, is that file, whatever host it has: nothing is fetched.
    """

    def refusing(move: Callable[..., Awaitable[str | None]]) -> Callable[..., Awaitable[str | None]]:
        async def files_only(path: str | Path | None) -> str | None:
            if path is not None and is_http_url_like(str(path)):
                path = unquote(str(path).partition(f"{API_PREFIX}/file=")[2])
                if not path or not is_in_or_equal(path, get_upload_folder()):
                    raise gr.Error("Addresses are not fetched here. Upload the file.", print_exception=False)
            return await move(path)

        return files_only

    for block in page.blocks.values():
        block.async_move_resource_to_block_cache = refusing(block.async_move_resource_to_block_cache)


def _start_of(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size and (piece := file.read(min(size, PIECE_BYTES))):
        yield piece
        size -= len(piece)
