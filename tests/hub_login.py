"""A stand-in for the Hub's login, an OpenID provider on a loopback port. Whoever comes is `user`; nobody is asked."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.standing_in import standing_in

CLIENT, SECRET = "tagloop-test", "a-secret-of-the-space"


class HubLogin:
    """user: the Hub name of whoever logs in next. environment: what a Space with `hf_oauth` is started with."""

    def __init__(self, url: str) -> None:
        self.url, self.user = url, "ann"
        self.key = RSAKey.generate_key(2048, {"kid": "test"})
        self.nonces: dict[str, tuple[str, str]] = {}
        self.environment = {
            "OAUTH_CLIENT_ID": CLIENT,
            "OAUTH_CLIENT_SECRET": SECRET,
            "OAUTH_SCOPES": "openid profile",
            "OPENID_PROVIDER_URL": url,
        }

    def configuration(self) -> dict[str, object]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser goes on."""
        code = f"code-{len(self.nonces)}"
        self.nonces[code] = (asked["nonce"], self.user)
        return f"{asked['redirect_uri']}&{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, asked: dict[str, str], authorization: str) -> dict[str, object]:
        assert base64.b64decode(authorization.removeprefix("Basic ")).decode() == f"{CLIENT}:{SECRET}"
        nonce, user = self.nonces.pop(asked["code"])
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "sub": user, "nonce": nonce, "iat": now, "exp": now + 3600}
        told = {"name": user.title(), "preferred_username": user, "profile": f"{self.url}/{user}", "picture": ""}
        signed = jwt.encode({"alg": "RS256", "kid": "test"}, claims | told, self.key)
        return {"access_token": "hf_oauth_token", "token_type": "bearer", "expires_in": 3600, "id_token": signed}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        there, query = self.server.there, {name: values[0] for name, values in parse_qs(self._url.query).items()}
        match self._url.path:
            case "/.well-known/openid-configuration":
                self._send(there.configuration())
            case "/keys":
                self._send({"keys": [there.key.as_dict(private=False)]})
            case "/authorize":
                self.send_response(302)
                self.send_header("Location", there.authorize(query))
                self.send_header("Content-Length", "0")
                self.end_headers()
            case _:
                self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked = {name: values[0] for name, values in parse_qs(body).items()}
        self._send(self.server.there.token(asked, self.headers["Authorization"]))

    @property
    def _url(self) -> object:
        return urlsplit(self.path)

    def _send(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@contextmanager
def serve_login() -> Iterator[HubLogin]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.there = HubLogin(f"http://127.0.0.1:{server.server_port}")
    with standing_in(server):
        yield server.there
