"""Addresses of the photos that are worked through: their thumbnails and pictures, and where a visitor's own are sent.

An album's token is the key to it: who does not know it finds nothing here.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from demo.albums import Albums
from demo.errors import BadInput, ImageRejected
from demo.images import extension
from demo.ui.image_input import cached

NO_PICTURE = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\0\0\0!\xf9\4\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"


def album_routes(albums: Albums) -> list[Route]:
    async def upload(request: Request) -> Response:
        """One file, the body as it is, its name percent-encoded in x-name.

        Gives `photos`, how many it held, or `error`, why it was left out: what a person chose wrong is no error of
        the page's.
        """
        album = albums.get(request.path_params["token"])
        if album is None or album.folder is None:
            return _refusal("These photos were put away.", "Reload the page and bring them again.", 404)
        name, received, kept = unquote(request.headers.get("x-name", "photo")), 0, False
        with tempfile.NamedTemporaryFile(dir=album.folder, delete=False) as file:
            path = Path(file.name)
            try:
                async for chunk in request.stream():
                    received += len(chunk)
                    if not album.claim(len(chunk)):
                        limit = f"At most {album.max_bytes / 2**30:.3g} GB are taken at once."
                        return _refusal(f"{name} was left out.", limit, 413)
                    file.write(chunk)
                file.close()
                count = await run_in_threadpool(album.take, path, name)
                kept = True
            except ClientDisconnect:
                return Response(status_code=400)
            except BadInput as error:
                return JSONResponse({"error": str(error)})
            except OSError as error:
                return _refusal(f"{name} was left out.", f"The server cannot keep it: {error.strerror}.", 507)
            finally:
                if not kept:
                    path.unlink(missing_ok=True)
                    album.release(received)
        return JSONResponse({"photos": count})

    def thumbnail(request: Request) -> Response:
        album, place = albums.get(request.path_params["token"]), request.path_params["place"]
        if album is None or place >= len(album):
            return Response(status_code=404)
        try:
            small = album.thumbnail(place)
        except (ImageRejected, OSError):  # the filmstrip says why; a missing picture would be an error of the page's
            return Response(NO_PICTURE, media_type="image/gif", headers={"cache-control": "no-store"})
        return Response(small, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    def picture(request: Request) -> Response:
        """`path`: of the file that gradio shows when the photo is opened, there from now on, so that a page can fetch
        it ahead; not of a photo that cannot be shown, which opening it tells."""
        album, place = albums.get(request.path_params["token"]), request.path_params["place"]
        if album is None or place >= len(album):
            return JSONResponse({})  # put away meanwhile: no error of the page's
        try:
            data = album.read(place)
            shown, kind = albums.previews.of(data, extension(data))
        except (ImageRejected, OSError):
            return JSONResponse({})
        path = str(cached(shown, kind))
        request.app.get_blocks().upload_file_set.add(path)  # which gradio deletes when it is old
        return JSONResponse({"path": path})

    return [
        Route("/albums/{token}/photos", upload, methods=["POST"]),
        Route("/albums/{token}/{place:int}/picture", picture),
        Route("/albums/{token}/{place:int}/thumbnail", thumbnail),
    ]


def _refusal(what: str, why: str, code: int) -> Response:
    return JSONResponse({"error": f"{what} {why}".strip()}, code)
