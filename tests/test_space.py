"""The app as a Space starts it: from a checkout that it cannot write to, on a disk that goes, with the Hub's login."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from itsdangerous import TimestampSigner
from PIL import Image

from demo.settings import Settings
from demo.ui import strangers
from demo.ui.strangers import is_stranger
from tests.faults.table import demand, planted
from tests.hub_commits import OWNER, HubCommits, serve_commits
from tests.hub_login import SECRET, HubLogin, serve_login
from tests.space import DATASET, HEEDING_MODES, Browser, Space, checkout, hosts_package, make_writable
from tests.test_app import free_port
from tests.waiting import until

BLIND = """
import sys
sys.path.insert(0, ".")
from demo.hub_rows import HubRows
read = HubRows.read
def blind(self, make=False):
    is_new = read(self, make)
    self._tables, self._folder_of, self._pictures, self._own = {}, {}, {}, "data/all"
    return is_new
HubRows.read = blind
"""
"""A careless one: every process pushes to one folder and does not look at what it holds."""

NOT_LOGGED_IN = "Only some people may save here. Log in and save again: what you decided stays."
NOT_NAMED = "Only some people may save here, and eve is not among them."


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = checkout(tmp_path_factory.mktemp("space") / "app")
    yield folder
    make_writable(folder)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hosts_package(tmp_path_factory.mktemp("hosts"))


@pytest.fixture(scope="module")
def hub() -> Iterator[HubCommits]:
    with serve_commits() as running:
        yield running


@pytest.fixture(scope="module")
def login() -> Iterator[HubLogin]:
    with serve_login() as running:
        yield running


@pytest.fixture(scope="module")
def space(
    code: Path, hosts: Path, hub: HubCommits, login: HubLogin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Space]:
    """On the embedded checkpoint, with `hf_oauth`; ann and bob may save."""
    disk = tmp_path_factory.mktemp("disk")
    space = Space(code, disk, hub, hosts, TAGLOOP_SAVERS="ann, bob", **login.environment)
    space.disk = disk
    yield space
    assert space.stop() == 0
    assert "Traceback" not in space.log.read_text()


@pytest.fixture
def come(space: Space, login: HubLogin) -> Iterator[Callable[..., Browser]]:
    """A function that lets somebody in, with a name on the Hub or without."""
    came = []

    def come(name: str = "") -> Browser:
        came.append(Browser(space.url))
        if name:
            login.user = name
            assert came[-1].log_in().status_code == 200
        return came[-1]

    yield come
    for browser in came:
        browser.client.close()


def there(hub: HubCommits) -> list[dict[str, str]]:
    """The rows of the dataset, each with its picture."""
    rows, files = [], hub.repo(DATASET, "dataset").head.files if ("dataset", DATASET) in hub.repos else {}
    for path, content in files.items():
        if path.endswith("metadata.csv"):
            for row in csv.DictReader(io.StringIO(content.decode(), newline="")):
                assert f"{path.rpartition('/')[0]}/{row['file_name']}" in files
                rows.append(row)
    return rows


def test_a_child_of_these_tests_cannot_write_to_the_checkout(code: Path) -> None:
    writes = "import pathlib; pathlib.Path('x').write_text('')"
    done = subprocess.run([*HEEDING_MODES, "-c", writes], cwd=code, capture_output=True)
    assert b"PermissionError" in done.stderr
    assert not (code / ".git").exists()


def test_it_starts_and_tags_and_gradio_finds_the_page_where_it_looks_for_it(
    space: Space, come: Callable[..., Browser], code: Path
) -> None:
    assert "not found in __main__" not in "".join(space.said)
    visitor = come()
    tagged = visitor.call("tag", visitor.upload((code / "assets/examples/astronaut.jpg").read_bytes()), None)
    assert tagged["model"].startswith("local:checkpoint@")
    assert tagged["labels"]


def test_what_is_saved_lies_where_writing_is_allowed_and_goes_to_the_dataset(
    space: Space, come: Callable[..., Browser], hub: HubCommits, make_image: Callable[..., bytes]
) -> None:
    row = come("ann").save(make_image(1), "cat")
    assert (row["annotator"], row["labels"]) == ("ann", ["cat"])
    corrections = space.disk / "home" / ".local" / "share" / "tagloop" / "corrections"
    assert (corrections / row["file_name"]).read_bytes() == make_image(1)
    until(lambda: any(one["saved_at"] == row["saved_at"] for one in there(hub)), 120)


def test_the_page_says_who_one_is_and_who_may_fine_tune_finds_the_tab(come: Callable[..., Browser]) -> None:
    def told(browser: Browser) -> tuple[str, str, bool]:
        value, tab = browser.event("account", "look", [], {})["data"]
        return value["name"], value["refusal"] and value["refusal"]["said"], tab["visible"]

    assert told(come()) == ("", NOT_LOGGED_IN, False)
    assert told(come("ann")) == ("ann", "", False)
    assert told(come("eve")) == ("eve", NOT_NAMED, False)
    assert told(come(OWNER)) == (OWNER, NOT_NAMED.replace("eve", OWNER), True)


def test_only_who_is_named_saves_by_the_endpoint_and_only_the_owner_fine_tunes(
    come: Callable[..., Browser], make_image: Callable[..., bytes]
) -> None:
    assert come("bob").save(make_image(2), "dog")["annotator"] == "bob"
    assert come().save(make_image(2), "dog") == f"Not saved. {NOT_LOGGED_IN}"
    assert come("eve").save(make_image(2), "dog") == f"Not saved. {NOT_NAMED}"
    for name, may in (("ann", False), ("", False), (OWNER, True)):
        shown = come(name).event("retrain", "start", [None], {})["data"][0]
        refused = "Only some people may fine-tune" in shown["error"]
        assert (refused, bool(shown["server"])) == (not may, may), name
        shown = come(name).event("retrain", "use_for_all", [None], {"name": "runs/x"})["data"][0]
        assert ("Only some people may fine-tune" in shown["error"]) == (not may), name


def test_who_leaves_is_nobody_again_and_nobody_makes_themselves_somebody(
    come: Callable[..., Browser], make_image: Callable[..., bytes]
) -> None:
    ann = come("ann")
    stolen, before = come(), ann.cookies["session"]
    for made_up in (before[:-2] + "xx", "ann", before.partition(".")[0] + ".x.y"):
        stolen.cookies["session"] = made_up
        assert stolen.save(make_image(3), "cat") == f"Not saved. {NOT_LOGGED_IN}"
    ann.request("GET", "/logout")
    assert ann.save(make_image(3), "cat") == f"Not saved. {NOT_LOGGED_IN}"


def test_what_another_sites_page_asks_for_in_somebodys_browser_nobody_asks_for(
    come: Callable[..., Browser], make_image: Callable[..., bytes]
) -> None:
    owner = come(OWNER)
    for site, refused in (("same-origin", False), ("none", False), ("cross-site", True), ("same-site", True)):
        owner.site = site
        shown = owner.event("retrain", "use_for_all", [None], {"name": "runs/x"})["data"][0]
        assert ("Only some people may fine-tune" in shown["error"]) == refused, site
    ann = come("ann")
    ann.site = "cross-site"
    assert ann.save(make_image(4), "cat") == f"Not saved. {NOT_LOGGED_IN}"
    ann.site = "same-origin"
    assert ann.save(make_image(4), "cat")["annotator"] == "ann"


def test_who_loads_the_page_stays_logged_in_for_two_weeks_more(come: Callable[..., Browser]) -> None:
    ann = come("ann")
    assert "session=" in ann.request("GET", "/").headers["set-cookie"]
    assert "session=" not in come().request("GET", "/").headers["set-cookie"]


def test_a_cookie_is_somebodys_only_with_the_secret_of_the_space(
    come: Callable[..., Browser], make_image: Callable[..., bytes]
) -> None:
    """As gradio signs them; where it only plays a login the secret is known, so that one is never offered."""

    def cookie(secret: str) -> str:
        told = base64.b64encode(json.dumps({"oauth_info": {"userinfo": {"preferred_username": "ann"}}}).encode())
        return TimestampSigner(hashlib.sha256(f"{secret}-v4".encode()).hexdigest()).sign(told).decode()

    forger = come()
    forger.cookies["session"] = cookie("")
    assert forger.save(make_image(3), "cat") == f"Not saved. {NOT_LOGGED_IN}"
    forger.cookies["session"] = cookie(SECRET)
    assert forger.save(make_image(3), "cat")["annotator"] == "ann"


def test_the_grid_saves_nothing_of_who_may_not_and_names_what_stays_undecided(come: Callable[..., Browser]) -> None:
    eve = come("eve")
    seen = eve.event("grid", "look", [None], {"ask": 1, "label": ""})["data"][0]
    part = {name: seen[name] for name in ("album", "label", "places", "digests")}
    part |= {"slider": 0.5, "marks": base64.b64encode(b"\1" * (len(base64.b64decode(seen["places"])) // 4)).decode()}
    told = eve.event("grid", "save", [None], {"ask": 2, "parts": [part]})["data"][0]
    assert (told["kind"], told["state"], told["tried"]) == ("saved", "error", {seen["album"]: []})
    assert told["text"]["said"] == f"Nothing was saved. {NOT_NAMED}"


def test_nobodys_name_on_the_hub_is_that_of_a_browser_here() -> None:
    def named(name: str) -> str:
        return strangers.hub_name({"session": {"oauth_info": {"userinfo": {"preferred_username": name}}}})

    browsers = strangers.name_of("0" * 32)
    assert (named("ann"), named(browsers), is_stranger(browsers)) == ("ann", "", True)
    assert strangers.hub_name({}) == strangers.hub_name({"session": {}}) == ""


@pytest.mark.parametrize("missing", ["SYSTEM", "OAUTH_CLIENT_SECRET", "SPACE_ID"])
def test_without_all_that_makes_a_login_safe_there_is_none(missing: str, login: HubLogin) -> None:
    whole = {"SYSTEM": "spaces", "SPACE_ID": "owner/space", **login.environment}
    assert Settings.from_flags([], whole).hub_login
    assert Settings.from_flags([], whole).rights.retrainers == ("owner",)
    without = Settings.from_flags([], {name: value for name, value in whole.items() if name != missing})
    assert not without.hub_login
    assert without.rights.retrainers in (None, ()) if missing == "SPACE_ID" else without.rights.retrainers == ()


@pytest.mark.slow
def test_who_imports_it_finds_a_page_that_launches_with_all_that_stands_around_it(code: Path, tmp_path: Path) -> None:
    asks = """
import sys, app, httpx
assert "gradio" not in sys.modules
assert not hasattr(app, "nothing")
_, url, _ = app.demo.launch(prevent_thread_lock=True)
assert app.demo is app.demo
print(httpx.get(url + "healthz").json()["status"])
app.demo.close()
"""
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GRADIO_SERVER_PORT": str(free_port())}
    done = subprocess.run(
        [*HEEDING_MODES, "-c", asks], cwd=code, env=given, capture_output=True, text=True, timeout=200
    )
    assert "ok" in done.stdout.splitlines(), done.stdout + done.stderr


@dataclass
class Told:
    """What one visitor tried to save and what was acknowledged, by the label, each a number."""

    tried: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)


def photo(number: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (8, 6), (number % 256, number // 256, 7)).save(target, "PNG")
    return target.getvalue()


def saves(space: Space, cookies: dict[str, str], told: Told, first: int, enough: threading.Event) -> None:
    """Save one photo after the other until told, or until nobody answers any more."""
    browser, number = Browser(space.url), first
    browser.cookies = dict(cookies)
    with browser.client:
        while not enough.is_set():
            told.tried.add(number)
            try:
                row = browser.save(photo(number), str(number))
            except Exception:  # it was killed in the middle of an answer
                return
            assert isinstance(row, dict), row
            told.done.add(number)
            number += 1


def run_kills(code: Path, hosts: Path, disk: Path, model: Path, kills: int, seed: int) -> dict[str, object]:
    """Kill it again and again while somebody saves; what is wrong with the dataset in the end.

    What the dataset had when the process was killed is synced, and has to be there in the end; and so has what was
    acknowledged on a disk that stayed.
    """
    rng, wrong, synced, here, told = random.Random(seed), [], set(), set(), Told()
    with serve_commits() as hub:

        def held() -> Counter:
            return Counter(int(json.loads(row["labels"])[0]) for row in there(hub))

        for kill in range(kills + 1):
            space = Space(code, disk, hub, hosts, TAGLOOP_MODEL=str(model), TAGLOOP_DEVICE="cpu")
            enough, done_before = threading.Event(), len(told.done)
            arguments = (space, {strangers.COOKIE: "0" * 32}, told, 1000 * kill, enough)
            visitor = threading.Thread(target=saves, args=arguments)
            visitor.start()
            until(lambda before=done_before: len(told.done) > before, 120)
            threading.Event().wait(rng.uniform(0, 4) if kill < kills else 1)
            if kill < kills:
                space.kill()
            else:
                enough.set()
            visitor.join()
            here |= {number for number in told.done if number >= 1000 * kill}
            if kill == kills:
                wrong += [f"it ended with {ended}"] if (ended := space.stop()) else []
                break
            synced |= {*held()}
            if rng.random() < 0.5:
                shutil.rmtree(disk)
                here = set()
        found = held()
        wrong += [f"lost: {number}" for number in (synced | here) - {*found}]
        wrong += [f"twice: {number}" for number, times in found.items() if times > 1]
        wrong += [f"from nowhere: {number}" for number in {*found} - told.tried]
        return {"wrong": wrong, "saved": len(told.done), "synced": len(synced), "rows": len(found)}


@pytest.mark.parametrize(
    ("kills", "seed", "least"),
    [
        pytest.param(2, 1, 0, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
        pytest.param(20, 0, 20, marks=[demand("sync, kill -9"), pytest.mark.faults, pytest.mark.timeout(3600)]),
    ],
)
def test_what_was_synced_is_there_once_however_often_it_is_killed(
    code: Path,
    hosts: Path,
    tmp_path: Path,
    tiny_checkpoint: Path,
    record_property: Callable[[str, object], None],
    kills: int,
    seed: int,
    least: int,
) -> None:
    came_to = run_kills(code, hosts, tmp_path / "disk", tiny_checkpoint, kills, seed)
    told = f"{came_to['saved']} saves, {came_to['synced']} of them seen synced: {len(came_to['wrong'])} wrong"
    record_property("figure", f"a Space, {kills} kills, {told}")
    assert came_to["wrong"] == [], came_to
    assert came_to["synced"] > least


@planted("sync, kill -9")
@pytest.mark.faults
@pytest.mark.timeout(900)
def test_the_check_catches_one_that_does_not_look_at_what_is_there(
    code: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    hosts = hosts_package(tmp_path / "hosts")
    (hosts / "sitecustomize.py").write_text(BLIND)
    assert run_kills(code, hosts, tmp_path / "disk", tiny_checkpoint, 3, seed=1)["wrong"] != []
