"""The login: every route asks for it, a wrong password is refused, and rows carry the name of who saved them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from gradio.routes import App
from starlette.routing import Mount
from starlette.testclient import TestClient

from demo.albums import Albums
from demo.corrections import Corrections
from demo.models import Models
from demo.settings import Settings
from demo.ui.login import OPEN, OPEN_FOLDERS, Login
from demo.ui.page import build_page, launch_options
from tests import loops
from tests.test_app import APP, Server, environment, file, free_port, run

PASSWORDS = {"annabel": "correct horse: battery", "roberto": "staple"}
OURS = [
    "/corrections/corrections.csv",
    "/corrections/corrections.zip",
    "/corrections/export/fastai.csv",
    f"/corrections/thumbnails/{'0' * 64}.png",
    "/runs/first/report.html",
    "/albums/x/0/thumbnail",
]


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("accounts") / "accounts"
    path.write_text("".join(f"{name}:{password}\n" for name, password in PASSWORDS.items()))
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, accounts: Path) -> Iterator[Server]:
    """The app on all addresses, as who runs it in a container would start it."""
    folder, port = tmp_path_factory.mktemp("app"), free_port()
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [*APP, "--model", str(tiny_checkpoint), "--port", str(port), "--host", "0.0.0.0", "--device", "cpu"],
            cwd=folder,
            env=environment(TAGLOOP_AUTH=str(accounts), GRADIO_SHARE="True"),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    line = process.stdout.readline()
    assert f":{port}" in line, line + (folder / "log.txt").read_text()
    server = Server(f"http://127.0.0.1:{port}", process, folder)
    yield server
    server.client.close()
    process.send_signal(signal.SIGINT)
    process.wait(60)
    process.stdout.close()
    log = (folder / "log.txt").read_text()
    assert "Traceback" not in log
    assert json.loads(log.splitlines()[-1])["event"] == "stop"


def visitor(server: Server, name: str, password: str | None = None) -> Server:
    """A program that logs in, or tries to."""
    other = Server(server.url, server.process, server.folder)
    form = {"username": name, "password": PASSWORDS[name] if password is None else password}
    other.login = other.client.post("/login", data=form)
    return other


def test_without_a_login_nothing_of_ours_and_nothing_of_gradios_is_to_be_had(server: Server) -> None:
    for path in (*OURS, "/config", "/gradio_api/info", "/gradio_api/file=x", "/monitoring/x", "/nothing"):
        assert server.client.get(path).status_code == 401, path
    for path in ("/albums/x/photos", "/gradio_api/upload", "/gradio_api/call/tag", "/gradio_api/queue/join", "/mcp"):
        assert server.client.post(path, content=b"{}").status_code == 401, path
    page = server.client.get("/")
    assert page.status_code == 200
    assert '"auth_required":true' in page.text.replace(" ", "")
    assert '"components":[]' in page.text.replace(" ", "")


def test_the_health_needs_no_login(server: Server) -> None:
    answer = server.client.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


@pytest.mark.parametrize(
    ("name", "password"),
    [("annabel", "staple"), ("annabel", ""), ("annabel", "correct horse"), ("eve", "staple")],
)
def test_a_wrong_name_or_password_is_refused(server: Server, name: str, password: str) -> None:
    eve = visitor(server, name, password)
    assert eve.login.status_code in (400, 422)
    assert not eve.client.cookies
    assert eve.client.get("/corrections/corrections.csv").status_code == 401
    eve.client.close()


def test_who_logs_in_has_everything_until_they_log_out(server: Server) -> None:
    ann = visitor(server, "annabel")
    assert ann.login.status_code == 200
    assert ann.client.get("/corrections/corrections.csv").text.startswith("file_name,labels,")
    assert ann.client.get("/corrections/corrections.zip").content.startswith(b"PK")
    assert [ann.client.get(path).status_code for path in OURS[3:]] == [404] * 3
    cookies = dict(ann.client.cookies)
    assert ann.client.get("/logout").status_code in (200, 302, 307)
    ann.client.cookies.update(cookies)
    assert ann.client.get("/corrections/corrections.csv").status_code == 401
    ann.client.close()


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [("cross-site", "cors", 401), ("same-site", "no-cors", 401), ("same-origin", "cors", 200), ("none", "cors", 200),
     ("cross-site", "navigate", 200)],
)  # fmt: skip
def test_another_sites_page_reads_nothing_in_somebodys_browser_that_can_still_follow_a_link(
    server: Server, site: str, mode: str, status: int
) -> None:
    ann = visitor(server, "annabel")
    headers = {"sec-fetch-site": site, "sec-fetch-mode": mode, "origin": "https://elsewhere.example"}
    for path in ("/corrections/corrections.csv", "/corrections/corrections.zip", "/gradio_api/token", "/config"):
        answer = ann.client.get(path, headers=headers)
        is_told = answer.status_code == 200 and answer.text != '{"token":null}'
        assert is_told == (status == 200), (path, answer.text[:200])
    ann.client.close()


def test_a_made_up_cookie_lets_nobody_in(server: Server) -> None:
    ann = visitor(server, "annabel")
    for name, value in dict(ann.client.cookies).items():
        with httpx.Client(base_url=server.url, cookies={name: value[:-1] + "x"}) as eve:
            assert eve.get("/corrections/corrections.csv").status_code == 401
    with httpx.Client(base_url=server.url, cookies={"access-token-unsecure-": "None"}) as eve:
        assert eve.get("/corrections/corrections.csv").status_code == 401
    ann.client.close()


def test_there_is_a_row_for_each_of_two_who_save_the_same_image(
    server: Server, make_image: Callable[..., bytes]
) -> None:
    for name, labels in (("annabel", ["cat"]), ("roberto", ["dog"]), ("annabel", ["cat", "sky"])):
        person = visitor(server, name)
        saved = person.call("save_correction", file(person.upload(make_image(3))), labels, [], "listed").text
        assert json.loads(saved.split("data: ", 1)[1])[0]["annotator"] == name
        person.client.close()
    rows = Corrections(server.folder / "corrections").rows()
    assert [(row.annotator, row.labels) for row in rows] == [("annabel", ("cat", "sky")), ("roberto", ("dog",))]


def test_the_log_says_what_went_on_and_not_with_whom_or_what(server: Server, make_image: Callable[..., bytes]) -> None:
    ann = visitor(server, "annabel")
    ann.call("save_correction", file(ann.upload(make_image(3))), ["cat"], ["dog"], "listed")
    ann.client.close()
    log = (server.folder / "log.txt").read_text()
    names = {json.loads(line)["event"] for line in log.splitlines()}
    assert {"model_loaded", "start", "refused", "image_tagged", "correction_saved"} <= names
    secrets = (*PASSWORDS, *PASSWORDS.values(), "cat", "dog", "127.0.0.1", "images/", "image.png", str(server.folder))
    assert [secret for secret in secrets if secret in log] == []


@pytest.fixture
def app(tmp_path: Path, tiny_checkpoint: Path) -> Callable[..., TestClient]:
    """A function that makes the whole app in this process, its own login in front or gradio's alone."""

    def make(has_own_login: bool = True) -> TestClient:
        settings = Settings(model=str(tiny_checkpoint), corrections=tmp_path / "corrections", device="cpu")
        models, albums = Models(settings), Albums(1, 10, 1000)
        corrections = Corrections(settings.corrections)
        kwargs = launch_options(settings, corrections, albums, models)["app_kwargs"]
        kwargs["middleware"] = [one for one in kwargs["middleware"] if has_own_login or one.cls is not Login]

        async def made() -> App:  # where no loop runs gradio makes some and closes none
            page = build_page(settings, models, corrections, albums)
            page.auth = [("ann", "secret")]
            return App.create_app(page, app_kwargs=kwargs)

        return TestClient(loops.run(made()), raise_server_exceptions=False)

    return make


def addresses(client: TestClient) -> Iterator[tuple[str, str]]:
    """Method and path of every route there is."""
    routers = [getattr(route, "original_router", None) for route in client.app.routes]
    below = [route for router in routers if router is not None for route in router.routes]
    for route in [*(route for route in client.app.routes if hasattr(route, "path")), *below]:
        if isinstance(route, Mount):
            yield "GET", f"{route.path}/x"
            continue
        path = re.sub(r"\{(\w+):int\}", "0", route.path)
        for method in sorted(getattr(route, "methods", None) or ["GET"]):
            yield method, re.sub(r"\{[^}]*\}", "x", path)


def test_every_route_asks_for_the_login_but_those_that_are_named(app: Callable[..., TestClient]) -> None:
    client = app()
    found = list(addresses(client))
    assert len(found) > 60
    asked = [path for method, path in found if client.request(method, path).status_code == 401]
    left = {path for _, path in found} - set(asked)
    assert {path for path in left if not path.startswith(OPEN_FOLDERS)} == {path for path in left if path in OPEN}
    assert "/healthz" in left
    assert {path.replace("fastai.csv", "x") for path in OURS[:3]} <= set(asked)


def test_with_gradios_login_alone_the_corrections_would_be_open(app: Callable[..., TestClient]) -> None:
    assert app(has_own_login=False).get("/corrections/corrections.csv").status_code == 200
    assert app().get("/corrections/corrections.csv").status_code == 401


def test_a_host_that_others_reach_is_not_opened_without_a_word_on_who_may_come(tmp_path: Path) -> None:
    done = run(tmp_path, "--host", "0.0.0.0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing asks who is there" in done.stderr
    assert "--auth FILE" in done.stderr
    bad = run(tmp_path, "--auth", "nowhere")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "--auth nowhere cannot be read. No such file or directory." in bad.stderr
