"""People whom no login tells apart, by their browsers: their own rows, and nobody else's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from demo.corrections import Corrections
from demo.ui.strangers import COOKIE, HEADER, Strangers, name_of
from tests.test_app import Server, file, started

ID = "0123456789abcdef" * 2


@pytest.fixture
def client() -> TestClient:
    """An app that says who it takes a request to be from."""

    def who(request: Request) -> PlainTextResponse:
        return PlainTextResponse(",".join(request.headers.getlist(HEADER)))

    return TestClient(Starlette(routes=[Route("/", who)], middleware=[Middleware(Strangers)]))


def test_a_browser_keeps_its_name_and_another_has_another(client: TestClient) -> None:
    first = client.get("/").text
    assert client.get("/").text == first == name_of(client.cookies[COOKIE])
    client.cookies.clear()
    assert client.get("/").text != first


def test_nobody_names_themselves(client: TestClient) -> None:
    client.cookies[COOKIE] = ID
    assert client.get("/", headers={HEADER: "visitor-somebody"}).text == name_of(ID)
    assert ID[:12] not in name_of(ID)


@pytest.mark.parametrize("made_up", ["", "x", ID.upper(), ID + "0", "visitor-" + "0" * 24])
def test_a_cookie_that_is_none_of_ours_is_replaced(client: TestClient, made_up: str) -> None:
    answer = client.get("/", headers={"cookie": f"{COOKIE}={made_up}"})
    assert answer.text == name_of(answer.cookies[COOKIE]) != name_of(made_up)


def test_the_cookie_is_kept_in_anothers_page_where_the_way_is_encrypted_and_no_script_reads_it(
    client: TestClient,
) -> None:
    plain = client.get("/").headers["set-cookie"]
    client.cookies.clear()
    behind = client.get("/", headers={"x-forwarded-proto": "https"}).headers["set-cookie"]
    assert "HttpOnly" in plain
    assert plain.endswith("SameSite=Lax")
    assert behind.endswith("HttpOnly; SameSite=None; Secure; Partitioned")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Iterator[Server]:
    """As on a Space."""
    with started(tmp_path_factory.mktemp("space"), tiny_checkpoint, SPACE_ID="owner/name") as server:
        yield server


def test_each_visitor_has_their_own_row_and_the_name_says_nothing_of_the_cookie(
    server: Server, make_image: Callable[..., bytes]
) -> None:
    def come() -> str:
        with httpx.Client(base_url=server.url) as browser:
            browser.get("/")
            return browser.cookies[COOKIE]

    def save(visitor_id: str, labels: list[str]) -> None:
        server.client.cookies.set(COOKIE, visitor_id)
        said = server.call("save_correction", file(server.upload(make_image(3))), labels, [], "listed").text
        assert json.loads(said.split("data: ", 1)[1])[0]["annotator"] == name_of(visitor_id)

    ann, bob = come(), come()
    save(ann, ["cat"])
    save(bob, ["dog"])
    save(ann, ["cat", "sky"])
    rows = Corrections(server.folder / "corrections").rows()
    assert [(row.annotator, row.labels) for row in rows] == [(name_of(ann), ("cat", "sky")), (name_of(bob), ("dog",))]
    csv = httpx.get(f"{server.url}/corrections/corrections.csv").text
    assert name_of(ann) in csv
    assert ann not in csv
