"""A process of its own that asks a Hub with an HF_ENDPOINT, an HF_HOME and a token that it must not tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOKEN = "hf_canaryCanaryCanary"

FETCH = """
import json, subprocess, sys, time
from demo import hub
from demo.errors import HubError
results = []
for ref in sys.argv[1:]:
    started = time.perf_counter()
    try:
        folder, commit = hub.fetch(ref)
        result = {"commit": commit, "folder": str(folder)}
    except HubError as error:
        result = {"error": str(error)}
    results.append(result | {"seconds": time.perf_counter() - started})
print(json.dumps(results))
"""


def run_client(code: str, *arguments: object, endpoint: str, home: Path, **environment: str) -> object:
    """What `code` prints, as JSON, from a process with that HF_ENDPOINT and HF_HOME; it must not leak the token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=kept | settings | environment, capture_output=True, text=True, timeout=120
    )
    assert "canary" not in (done.stdout + done.stderr).lower(), "it told the token"
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@dataclass
class Client:
    """One HF_HOME, asking one endpoint after another. code: what asks; it prints what FETCH does."""

    home: Path
    code: str = FETCH

    def fetch(self, ref: str, endpoint: str, **environment: str) -> dict[str, object]:
        (result,) = run_client(self.code, ref, endpoint=endpoint, home=self.home, **environment)
        return result

    def refused(self, ref: str, endpoint: str, within_seconds: float = 10, **environment: str) -> str:
        """The message of a fetch that fails in time."""
        result = self.fetch(ref, endpoint, **environment)
        assert "error" in result, result
        assert result["seconds"] < within_seconds, result  # from the request on: imports are not counted
        return result["error"]
