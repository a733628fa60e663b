"""A stand-in for the part of the Hub that pushing needs: repos, their commits and their files, on a loopback port.

It answers what huggingface_hub 2.x asks in `create_repo`, `repo_info`, `create_commit` (which `upload_file`,
`upload_folder` and `CommitScheduler` end in) and `hf_hub_download`, for models, datasets and Spaces: the create
and info calls, the check of a card, preupload, the LFS batch with its PUT and verify, the commit as NDJSON, and files
by revision. Tokens have the owners that they may write for, history is kept, and faults come on demand.

It is not the Hub. It has no Xet (set HF_HUB_DISABLE_XET=1), no branch but main, no tags, pull requests, copies,
gated repos, .gitignore rules, quotas, multipart uploads, Range requests or redirects to a CDN, and it finds every
card's metadata good. Statuses and error headers are those that huggingface_hub's source and tests expect.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http, close_session

from tests.standing_in import standing_in

TOKEN = "hf_canaryCanaryCanary"
OWNER = "owner"
LFS_FROM_BYTES = 10 * 2**20
_LFS_PATTERNS = ("*.safetensors", "*.bin", "*.npz", "*.parquet", "*.zip", "*.jpg", "*.jpeg", "*.png", "*.webp")
_ATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in _LFS_PATTERNS).encode()


@dataclass(frozen=True)
class Commit:
    """files: the whole tree after it, bytes by path."""

    oid: str
    parent: str | None
    message: str
    files: dict[str, bytes]


@dataclass
class Repo:
    """One repo, with its commits on main from the first, which holds `.gitattributes` alone, to the last."""

    private: bool
    commits: list[Commit] = field(default_factory=list)

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def at(self, revision: str) -> Commit:
        for commit in self.commits:
            if commit.oid == revision:
                return commit
        if revision != "main":
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.head

    def add(self, message: str, files: dict[str, bytes]) -> Commit:
        """A commit whose whole tree is `files`."""
        parent = self.commits[-1].oid if self.commits else None
        tree = [(path, _git_oid(content)) for path, content in sorted(files.items())]
        oid = hashlib.sha1(json.dumps([len(self.commits), parent, message, tree]).encode()).hexdigest()
        self.commits.append(Commit(oid, parent, message, files))
        return self.head


@dataclass
class Fault:
    """What happens to the requests from number `first` to `last` whose `METHOD /path` matches.

    status: answered instead; None cuts the connection. carried_out: the request does its work before that.
    """

    request: str
    status: int | None
    first: int
    last: float
    message: str
    carried_out: bool
    seen: int = 0

    def hits(self, request: str) -> bool:
        if not re.search(self.request, request):
            return False
        self.seen += 1
        return self.first <= self.seen <= self.last


class Refused(Exception):
    """An answer that is an error: its status, message, the Hub's error code, and what else its body tells."""

    def __init__(self, status: int, message: str, code: str = "", **told: str) -> None:
        self.status, self.message, self.code, self.told = status, message, code, told


@dataclass(frozen=True)
class Answer:
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class HubCommits:
    """The server's state. endpoint: what HF_ENDPOINT is set to. requests: `METHOD /path` in the order they came."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.tokens = {TOKEN: (OWNER,)}
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()

    def repo(self, name: str, kind: str = "model") -> Repo:
        return self.repos[kind, name]

    def create(self, name: str, kind: str = "model", private: bool = False, **files: bytes) -> Repo:
        """A repo that is there already, its second commit with `files` where some are given."""
        repo = self.repos[kind, name] = Repo(private)
        repo.add("initial commit", {".gitattributes": _ATTRIBUTES})
        if files:
            repo.add("Files", repo.head.files | files)
        return repo

    def fail(
        self,
        request: str,
        status: int | None = None,
        *,
        first: int = 1,
        times: float = float("inf"),
        message: str = "",
        carried_out: bool = False,
    ) -> None:
        """Answer `status`, or cut the connection, for `times` requests that match, from number `first` on."""
        self.faults.append(Fault(request, status, first, first + times - 1, message, carried_out))

    # What a request does. Each takes the request and the parts of its path that the pattern caught.

    def _create(self, call: Call) -> Answer:
        told = call.json()
        owner, kind = told.get("organization") or call.owners()[0], told.get("type", "model")
        name = f"{owner}/{told['name']}"
        call.require_writer(owner)
        url = f"{self.endpoint}/{_prefix(kind)}{name}"
        if (kind, name) in self.repos:
            raise Refused(409, f"You already created this {kind} repo", url=url)
        self.create(name, kind, told.get("visibility") == "private")
        return _json({"url": url, "id": name})

    def _info(self, call: Call, kinds: str, name: str, revision: str | None) -> Answer:
        repo = call.repo(kinds[:-1], name)
        commit = repo.at(revision or "main")
        files = [{"rfilename": path} for path in sorted(commit.files)]
        return _json({"id": name, "sha": commit.oid, "private": repo.private, "siblings": files, "tags": []})

    def _validate(self, call: Call) -> Answer:
        return _json({"errors": [], "warnings": []})

    def _preupload(self, call: Call, kinds: str, name: str, revision: str) -> Answer:
        commit = call.repo(kinds[:-1], name, write=True).at(revision)
        files = []
        for file in call.json()["files"]:
            lfs = _is_lfs(file["path"], file["size"], base64.b64decode(file["sample"]))
            there = commit.files.get(file["path"])
            oid = None if there is None else hashlib.sha256(there).hexdigest() if lfs else _git_oid(there)
            mode = "lfs" if lfs else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return _json({"files": files})

    def _batch(self, call: Call, prefix: str, name: str) -> Answer:
        kind = prefix.rstrip("s/") or "model"
        call.repo(kind, name, write=True)
        objects = []
        for told in call.json()["objects"]:
            actions = {}
            if told["oid"] not in self.blobs:
                upload, verify = f"{self.endpoint}/lfs/{told['oid']}", f"{self.endpoint}/{prefix}{name}.git/verify"
                actions = {"actions": {"upload": {"href": upload}, "verify": {"href": verify}}}
            objects.append({"oid": told["oid"], "size": told["size"]} | actions)
        return _json({"transfer": "basic", "objects": objects})

    def _put(self, call: Call, oid: str) -> Answer:
        if hashlib.sha256(call.body).hexdigest() != oid:
            raise Refused(400, "The content is not of that hash")
        self.blobs[oid] = call.body
        return Answer(headers={"ETag": f'"{oid}"'})

    def _verify(self, call: Call, prefix: str, name: str) -> Answer:
        told = call.json()
        if len(self.blobs.get(told["oid"], b"")) != told["size"]:
            raise Refused(404, "No such object")
        return _json({})

    def _commit(self, call: Call, kinds: str, name: str, revision: str) -> Answer:
        repo = call.repo(kinds[:-1], name, write=True)
        lines = [json.loads(line) for line in call.body.splitlines()]
        header, operations = lines[0]["value"], lines[1:]
        if not repo.at(revision).oid.startswith(header.get("parentCommit", "")) or repo.at(revision) != repo.head:
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repo.head.files)
        for operation in operations:
            value, path = operation["value"], operation["value"]["path"]
            match operation["key"]:
                case "file":
                    files[path] = base64.b64decode(value["content"])
                case "lfsFile" if value["oid"] in self.blobs:
                    files[path] = self.blobs[value["oid"]]
                case "lfsFile":
                    raise Refused(400, f"{path} was not uploaded")
                case "deletedFile" if path in files:
                    del files[path]
                case "deletedFolder" if any(other.startswith(f"{path}/") for other in files):
                    files = {other: content for other, content in files.items() if not other.startswith(f"{path}/")}
                case _:
                    raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
        oid = repo.add(header["summary"], files).oid
        url = f"{self.endpoint}/{_prefix(kinds[:-1])}{name}/commit/{oid}"
        return _json({"success": True, "commitUrl": url, "commitOid": oid, "hookOutput": ""})

    def _file(self, call: Call, prefix: str, name: str, revision: str, path: str) -> Answer:
        commit = call.repo(prefix.rstrip("s/") or "model", name).at(revision)
        if path not in commit.files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        content = commit.files[path]
        lfs = _is_lfs(path, len(content), content[:512])
        etag = hashlib.sha256(content).hexdigest() if lfs else _git_oid(content)
        return Answer(content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit.oid})


_KIND, _PREFIX, _NAME = "(models|datasets|spaces)", "((?:datasets/|spaces/)?)", "([^/]+/[^/]+)"
_ROUTES: list[tuple[str, Callable[..., Answer]]] = [
    (r"POST /api/repos/create", HubCommits._create),
    (r"POST /api/validate-yaml", HubCommits._validate),
    (rf"GET /api/{_KIND}/{_NAME}(?:/revision/([^/]+))?", HubCommits._info),
    (rf"POST /api/{_KIND}/{_NAME}/preupload/([^/]+)", HubCommits._preupload),
    (rf"POST /api/{_KIND}/{_NAME}/commit/([^/]+)", HubCommits._commit),
    (rf"POST /{_PREFIX}{_NAME}\.git/info/lfs/objects/batch", HubCommits._batch),
    (rf"POST /{_PREFIX}{_NAME}\.git/verify", HubCommits._verify),
    (r"PUT /lfs/([0-9a-f]{64})", HubCommits._put),
    (rf"(?:GET|HEAD) /{_PREFIX}{_NAME}/resolve/([^/]+)/(.+)", HubCommits._file),
]


@dataclass(frozen=True)
class Call:
    """One request: who asks, and with what."""

    hub: HubCommits
    token: str | None
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def owners(self) -> tuple[str, ...]:
        """The owners that the token may read and write for. Raises Refused where it is unknown."""
        if self.token is not None and self.token not in self.hub.tokens:
            raise Refused(401, "Invalid credentials in Authorization header")
        return self.hub.tokens.get(self.token, ())

    def require_writer(self, owner: str) -> None:
        if self.token is None:
            raise Refused(401, "Invalid username or password.")
        if owner not in self.owners():
            raise Refused(403, f"You don't have the rights to write under the namespace {owner}")

    def repo(self, kind: str, name: str, write: bool = False) -> Repo:
        """A repo that the caller may see, or also write to."""
        owners, owner, repo = self.owners(), name.partition("/")[0], self.hub.repos.get((kind, name))
        if repo is None or (repo.private and owner not in owners):
            raise Refused(404 if self.token else 401, "Repository not found", "RepoNotFound")
        if write:
            self.require_writer(owner)
        return repo


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def _serve(self) -> None:
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        request = f"{self.command} {path}"
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        with hub.lock:
            hub.requests.append(request)
            fault = next((fault for fault in list(hub.faults) if fault.hits(request)), None)
            try:
                if fault is None or fault.carried_out:
                    answer = self._route(request, Call(hub, token, body))
                if fault is not None and fault.status is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                if fault is not None:
                    raise Refused(fault.status, fault.message)
            except Refused as refused:
                self._send(refused.status, *_error(refused))
                return
        self._send(200, answer.body, answer.headers)

    do_GET = do_HEAD = do_POST = do_PUT = _serve  # noqa: N815

    def _route(self, request: str, call: Call) -> Answer:
        for pattern, action in _ROUTES:
            if match := re.fullmatch(pattern, request):
                return action(call.hub, call, *match.groups())
        raise Refused(404, f"{request} is not part of this stand-in")

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


class _Server(ThreadingHTTPServer):
    hub: HubCommits

    def handle_error(self, *_: object) -> None:
        """A client that went away is no matter of the test."""


@contextmanager
def serve_commits() -> Iterator[HubCommits]:
    """Run the stand-in, empty, until the block ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.hub = HubCommits(f"http://127.0.0.1:{server.server_port}")
    with standing_in(server):
        yield server.hub


@contextmanager
def talking(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubCommits]:
    """The stand-in with this process talking to it, with a good token and no waiting between tries."""
    with serve_commits() as running:
        point_to(running.endpoint, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        close_session()
        yield running
        close_session()


def point_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


def _json(value: object) -> Answer:
    return Answer(json.dumps(value).encode(), {"Content-Type": "application/json"})


def _error(refused: Refused) -> tuple[bytes, dict[str, str]]:
    headers = {"Content-Type": "application/json", "X-Error-Message": refused.message}
    told = {"error": refused.message, "errors": [{"message": refused.message}]} | refused.told
    return json.dumps(told).encode(), headers | ({"X-Error-Code": refused.code} if refused.code else {})


def _prefix(kind: str) -> str:
    return "" if kind == "model" else f"{kind}s/"


def _is_lfs(path: str, size: int, sample: bytes) -> bool:
    return size >= LFS_FROM_BYTES or b"\0" in sample or any(fnmatch(path, pattern) for pattern in _LFS_PATTERNS)


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
