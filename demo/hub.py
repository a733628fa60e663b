"""Files of a Hub repo, at one pinned commit, through huggingface_hub and its cache; each fault its own message.

Respects HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE as huggingface_hub does, and reads none of them. What
is cached loads without the Hub. Faults show within seconds: huggingface_hub asks again for half a minute where it
has no file, so each file is asked for once before it is fetched. A transfer that stalls, which is not one that
fails, is given up by huggingface_hub's own HF_HUB_DOWNLOAD_TIMEOUT and retries.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of the HTTP client that huggingface_hub uses, which differs by version
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import tqdm, validate_repo_id

from demo.errors import BadInput, HubError

ONLY_SAFETENSORS = "Weights are read from model.safetensors only: a pickle can run code when it is opened."
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@(?!/|.*\.\.)[^@\s]+)?", re.ASCII)
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
OPTIONAL = (
    "README.md",
    "selected_tags.csv",
    "metrics.json",
    "preprocess.json",
    "categories.json",
    "thresholds.csv",
    "preprocessor_config.json",
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ANSWER_TIMEOUT_SECONDS = 6
constants.DOWNLOAD_CHUNK_SIZE = 256 * 1024  # or progress is told, and a cancelled download ends, every 10 MB only
_FAULTS = (HTTPError, OSError, HFValidationError, UnicodeEncodeError)
_STATUS = {
    401: ("it does not know the token", "Set HF_TOKEN to a token that may read it."),
    403: ("not allowed", "Set HF_TOKEN to a token that may read it."),
    404: ("there is nothing of that name", "Check the spelling, and HF_ENDPOINT where it is set."),
    429: ("too many requests", "Wait a minute, then try again."),
}
_REFUSED = (401, 403, 404)


def is_repo(ref: str) -> bool:
    """True for `owner/name` and `owner/name@revision`."""
    return _REPO.fullmatch(ref) is not None


Report = Callable[[Path, int, int], None]
"""Is told the folder of what has arrived, the bytes of the weights that have, and how many there are in all."""


def require_repo_name(repo: str, kind: str) -> None:
    """Raise BadInput for what is not `owner/name`; kind: what it should be, in a word or two."""
    try:
        if "/" not in repo:
            raise HFValidationError("There is no owner in it")
        validate_repo_id(repo)
    except HFValidationError as error:
        raise BadInput(f"{repo!r} is no {kind}.", f"{str(error).rstrip('.')}.", "Write owner/name.") from None


def fetch(ref: str, report: Report | None = None, as_anybody: bool = False) -> tuple[Path, str]:
    """Fetch a checkpoint's files (cached ones are not fetched again): their folder and the commit's full hash.

    Every file is of the commit that the first one resolved to, and the weights come last. A whole commit that is
    cached is used without asking the Hub; where the Hub gives no answer, or none to us, a cached checkpoint is.
    What `report` raises ends the download and is passed on. as_anybody: what the Hub gives without a token, and
    nothing that was cached with one. Raises HubError.
    """
    repo, _, revision = ref.partition("@")
    token = False if as_anybody else None
    if not as_anybody and (folder := _whole(repo, revision)) is not None:
        return folder, revision
    try:
        _ask(repo, _CONFIG, revision or constants.DEFAULT_REVISION, token)
    except _FAULTS as error:
        is_final = isinstance(error, HFValidationError | RemoteEntryNotFoundError)
        is_refused = as_anybody and isinstance(error, HfHubHTTPError) and error.response.status_code in _REFUSED
        cached = None if is_final or is_refused else _cached(repo, revision)
        if cached is None:
            raise _explain(error, _CONFIG, ref) from error
        return cached, cached.name
    try:
        folder = Path(_download(repo, _CONFIG, revision or constants.DEFAULT_REVISION, token=token)).parent
    except _FAULTS as error:
        raise _explain(error, _CONFIG, ref) from error
    for name in (*OPTIONAL, _WEIGHTS):
        try:
            if try_to_load_from_cache(repo, name, revision=folder.name) is None:  # not cached, not known to be absent
                with suppress(RemoteEntryNotFoundError):  # the download says so too, and the cache remembers it
                    _ask(repo, name, folder.name, token)
                to_tell = partial(report, folder) if report and name == _WEIGHTS else None
                _download(repo, name, folder.name, to_tell, token)
        except RemoteEntryNotFoundError as error:
            if name == _WEIGHTS:
                raise _explain(error, name, ref, has_config=True) from error
        except _FAULTS as error:
            raise _explain(error, name, ref, has_config=True) from error
    return folder, folder.name


class _Progress(tqdm):
    """huggingface_hub's progress bar, which also reports to whom it may concern.

    Ends a download that was cut and can only start over, time and again.
    """

    report: Callable[[int, int], None] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arrived = int(kwargs.get("initial") or 0)  # tqdm does not count where it shows nothing
        self._tell()

    def update(self, n: float | None = 1) -> bool | None:
        if n is not None and n < 0:
            raise ConnectionResetError("The connection was cut and the file cannot be continued")
        self._arrived += int(n or 0)
        self._tell()
        return super().update(n)

    def update_transfer(self, n: float) -> None:
        """What crossed the network, which Xet counts apart from what has arrived."""

    def _tell(self) -> None:
        if self.report is not None:
            self.report(self._arrived, int(self.total or 0))


def _ask(repo: str, name: str, revision: str, token: bool | None = None) -> None:
    """Raise whatever keeps huggingface_hub from fetching a file, after one try. token: False for none, as below."""
    get_hf_file_metadata(hf_hub_url(repo, name, revision=revision), token=token, timeout=_ANSWER_TIMEOUT_SECONDS)


def _download(
    repo: str,
    name: str,
    revision: str,
    report: Callable[[int, int], None] | None = None,
    token: bool | None = None,
) -> str:
    bar = type("_Reporting", (_Progress,), {"report": report and staticmethod(report)})
    return hf_hub_download(
        repo, name, revision=revision, token=token, etag_timeout=_ANSWER_TIMEOUT_SECONDS, tqdm_class=bar
    )


def _cached(repo: str, revision: str) -> Path | None:
    """The folder of a repo's cached files, if its config and its weights are among them."""
    paths = [try_to_load_from_cache(repo, name, revision=revision or None) for name in (_CONFIG, _WEIGHTS)]
    return Path(str(paths[0])).parent if all(isinstance(path, str) for path in paths) else None


def _whole(repo: str, revision: str) -> Path | None:
    """The cached folder of a commit, if it is known which files it has and all of them are there."""
    if _COMMIT.fullmatch(revision) is None:
        return None
    known = all(try_to_load_from_cache(repo, name, revision=revision) is not None for name in OPTIONAL)
    return _cached(repo, revision) if known else None


def _explain(error: Exception, name: str, ref: str, has_config: bool = False) -> HubError:
    """What happened, why and what next."""
    repo, _, revision = ref.partition("@")
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why it was not fetched, rather than that it is not here
    status = f"It answered {error.response.status_code}" if isinstance(error, HfHubHTTPError) else ""
    if isinstance(error, GatedRepoError):
        why = "Its owner asks visitors to accept terms."
        return HubError(f"{repo} is gated.", why, "Accept them on the Hub, then set HF_TOKEN.")
    if isinstance(error, RevisionNotFoundError):
        return HubError(f"{repo} has no revision {revision!r}.", next_step="Name a branch, tag or commit of it.")
    if isinstance(error, RemoteEntryNotFoundError):
        why = ONLY_SAFETENSORS if name == _WEIGHTS else "Without it a repo is no checkpoint."
        return HubError(f"{ref} has no {name}.", why, "Choose a repo that has it.")
    if isinstance(error, RepositoryNotFoundError):
        why = f"{status}: it does not exist, or it is private."
        return HubError(f"The Hub shows no model {ref}.", why, "Check the spelling; for a private one set HF_TOKEN.")
    if isinstance(error, HFValidationError):
        return HubError(f"{repo!r} is no repo name.", f"{error}.", "Write owner/name.")
    if isinstance(error, HfHubHTTPError):
        fault = ("a fault of its own", "Try again later, or use a model that is cached.")
        why, next_step = _STATUS.get(error.response.status_code, fault)
        return HubError(f"The Hub did not give {name} of {ref}.", f"{status}: {why}.", next_step)
    if isinstance(error, OfflineModeIsEnabled):
        why = "HF_HUB_OFFLINE is set."
        return HubError(f"{ref} is not in the local cache.", why, "Unset it, or name a folder or a cached model.")
    if has_config:
        next_step = "Check the connection and the disk, then try again: what has arrived is kept."
        return HubError(f"{name} of {ref} did not arrive.", f"{reason(error)}.", next_step)
    return HubError(
        f"{ref} is not in the local cache and {constants.ENDPOINT} cannot be asked for it.",
        f"{reason(error)}.",
        "Check the connection, or name a folder or a cached model.",
    )


def reason(error: Exception) -> str:
    """The error in words, unless these could hold the token."""
    if isinstance(error, UnicodeEncodeError) or "illegal header" in str(error).lower():
        return "HF_TOKEN holds a character that no token has"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
