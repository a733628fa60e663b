"""Tag a photo through a TagLoop server that was started with --mcp.

    python docs/mcp_tag.py http://127.0.0.1:7860 photo.jpg

Needs mcp and httpx. Does what a language model's client does by itself: the photo is uploaded, and the tool gets its
address.
"""

import asyncio
import sys
from pathlib import Path

import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client


def upload(server: str, photo: Path) -> str:
    answer = httpx.post(f"{server}/gradio_api/upload", files={"files": (photo.name, photo.read_bytes())})
    answer.raise_for_status()
    return f"{server}/gradio_api/file={answer.json()[0]}"


async def tag(server: str, photo: Path) -> str:
    async with (
        streamablehttp_client(f"{server}/gradio_api/mcp/") as (reading, writing, _),
        ClientSession(reading, writing) as session,
    ):
        await session.initialize()
        answer = await session.call_tool("tag", {"image": upload(server, photo)})
    text = answer.content[0].text
    if answer.isError:
        sys.exit(text)
    return text


if __name__ == "__main__":
    print(asyncio.run(tag(sys.argv[1].rstrip("/"), Path(sys.argv[2]))))
