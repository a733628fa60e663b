"""Files of a Hub repo, at one pinned commit, through huggingface_hub and its cache; each fault its own message.

Respects HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE as huggingface_hub does, and reads none of them.
"""

from __future__ import annotations

import re
from pathlib import Path

import httpx
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from demo.errors import HubError

ONLY_SAFETENSORS = "Weights are read from model.safetensors only: a pickle can run code when it is opened."
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[^@\s]+)?")
_REQUIRED = ("config.json", "model.safetensors")
_OPTIONAL = ("selected_tags.csv", "metrics.json", "README.md", "preprocess.json")
_ETAG_TIMEOUT_SECONDS = 8


def is_repo(ref: str) -> bool:
    """True for `owner/name` and `owner/name@revision`."""
    return _REPO.fullmatch(ref) is not None


def fetch(ref: str) -> tuple[Path, str]:
    """Fetch a checkpoint's files (cached ones are not fetched again): their folder and the commit's full hash.

    Every file is of the commit that the first one resolved to. Raises HubError.
    """
    repo, _, revision = ref.partition("@")
    config = _download(repo, "config.json", revision or None)
    folder, commit = config.parent, config.parent.name
    for name in _OPTIONAL:
        _download(repo, name, commit, optional=True)
    _download(repo, "model.safetensors", commit)
    return folder, commit


def _download(repo: str, name: str, revision: str | None, optional: bool = False) -> Path | None:
    where = f"{repo}@{revision}" if revision else repo
    try:
        return Path(hf_hub_download(repo, name, revision=revision, etag_timeout=_ETAG_TIMEOUT_SECONDS))
    except GatedRepoError as error:
        raise HubError(
            f"{repo} is gated.",
            "Its owner asks visitors to accept terms.",
            "Accept them on the Hub, then set HF_TOKEN.",
        ) from error
    except RevisionNotFoundError as error:
        raise HubError(
            f"{repo} has no revision {revision!r}.", next_step="Name a branch, tag or commit of it."
        ) from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"The Hub shows no model {repo}.",
            "It does not exist, or it is private.",
            "Check the spelling; for a private one set HF_TOKEN.",
        ) from error
    except LocalEntryNotFoundError as error:
        if optional:
            return None
        why = "HF_HUB_OFFLINE is set." if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} did not answer."
        raise HubError(
            f"{where} is not in the local cache and cannot be fetched.",
            why,
            "Connect, or name a folder or a cached model.",
        ) from error
    except EntryNotFoundError as error:
        if optional:
            return None
        why = ONLY_SAFETENSORS if name == "model.safetensors" else "Without it a repo is no checkpoint."
        raise HubError(f"{where} has no {name}.", why, "Choose a repo that has it.") from error
    except HFValidationError as error:
        raise HubError(f"{repo!r} is no repo name.", f"{error}.", "Write owner/name.") from error
    except HfHubHTTPError as error:
        raise HubError(f"The Hub did not give {name} of {where}.", *_status(error)) from error
    except (httpx.HTTPError, OSError) as error:
        raise HubError(
            f"{name} of {where} could not be fetched.",
            f"{type(error).__name__}: {error}.",
            "Check the connection and the disk, then try again: what has arrived is kept.",
        ) from error


def _status(error: HfHubHTTPError) -> tuple[str, str]:
    """Why and what next, by the answer's status."""
    status = error.response.status_code if error.response is not None else 0
    if status in (401, 403):
        return f"It answered {status}: not allowed.", "Set HF_TOKEN to a token that may read it."
    if status == 429:
        return "It answered 429: too many requests.", "Wait a minute, then try again."
    if status >= 500:
        return f"It answered {status}: a fault of its own.", "Try again later, or use a model that is cached."
    return f"It answered {status}.", "Check the name and try again."
