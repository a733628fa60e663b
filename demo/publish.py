"""Push a fine-tuned checkpoint to the Hub: `python -m demo.publish runs/NAME owner/name [--private]`.

Shows what it will push, asks, and pushes the checkpoint's own files and its card, and nothing else of the folder, in
one commit on top of the one that it showed: all of them arrive, or none. stdout gets one line, the REF of that commit.
huggingface_hub does the talking, so HF_TOKEN and HF_ENDPOINT mean what they always do.

Makes no branch, tag or pull request, and leaves a repo as private or public as it is. Where the repo has other files,
only those go that would be read as part of this checkpoint.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from tqdm import tqdm

from demo import card, hub
from demo.checkpoint import Checkpoint, load_checkpoint
from demo.errors import EXIT_DONE, BadInput, CheckpointError, HubError, Interrupted, command
from demo.evaluate import show
from demo.flags import parse_flags
from demo.layouts import CARD, CONFIG, METRICS, TAGS, WEIGHTS

_PUBLISHED_METRICS = (
    *("model", "csv", "split", "images", "known_cells", "trained_images", "threshold", "curve", "verdict", "summary"),
    *("metrics", "old_model", "predict_nothing", "labels", "comparison"),
)
_ANSWER_TIMEOUT_SECONDS = 10
_FAULTS = (HTTPError, OSError, ValueError, RuntimeError)  # the last two: a card or an upload that the Hub refuses
_STATUS = {
    401: ("it does not know the token", "Set HF_TOKEN to a token that may write to {owner}."),
    403: ("the token may not write there", "Set HF_TOKEN to a token that may write to {owner}."),
    404: ("there is nothing of that name", "Check the spelling of {owner}, and HF_ENDPOINT where it is set."),
    409: ("somebody made or changed it at the same moment", "Run it again: it shows anew what is there."),
    412: ("somebody pushed to it after it was shown", "Run it again: it shows anew what is there."),
    413: ("that is too much for it", "Store the weights in fp16: demo.finetune --half."),
    429: ("too many requests", "Wait some minutes, then run it again."),
}


@dataclass(frozen=True)
class Target:
    """A repo of the Hub as it was found. head: its last commit; None where there is no such repo yet."""

    name: str
    private: bool
    head: str | None = None
    files: tuple[str, ...] = ()

    def stale(self, pushed: Collection[str]) -> list[str]:
        """What an older push left here that would be read as part of this one, which lacks it."""
        return [name for name in self.files if name in hub.OPTIONAL and name not in pushed]


@command
def main(arguments: Sequence[str] | None = None) -> int:
    flags = parse_flags(
        "publish",
        arguments,
        description="Push a fine-tuned checkpoint, with its card, to the Hub.",
        positionals=(("FOLDER", "the checkpoint: what demo.finetune wrote"), ("REPO", "where to: owner/name")),
    )
    hub.require_repo_name(flags.repo, "repo name")
    if get_token() is None:
        why = "The Hub takes files only from people it knows."
        raise BadInput("There is no token.", why, "Set HF_TOKEN to one that may write, or log in with `hf auth login`.")
    checkpoint, files = contents(Path(flags.folder), flags.repo)
    target = find(flags.repo, flags.private)
    print(plan(checkpoint, files, target), file=sys.stderr)
    require_consent(flags.yes, checkpoint.metrics.get("verdict"))
    print(push(checkpoint, files, target))
    return EXIT_DONE


def contents(folder: Path, repo: str) -> tuple[Checkpoint, dict[str, Path | bytes]]:
    """A folder's checkpoint, and what is pushed of it, by name: a path, or the bytes where these are not the file's.

    The card names the repo. Of the metrics only figures go: no file names of photos, no folders of the CSV. Raises
    BadInput where it is no whole checkpoint with a card.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder.", next_step="Name the --out folder of a fine-tune.")
    try:
        checkpoint = load_checkpoint(folder)
    except CheckpointError as error:
        raise BadInput(f"{folder} is no whole checkpoint.", str(error), "Finish it, or name another one.") from error
    if not checkpoint.card.strip():
        raise BadInput(f"{folder} has no {CARD}.", "That is its card on the Hub.", "Write one, then publish.")
    files: dict[str, Path | bytes] = {
        name: folder / name for name in (CONFIG, WEIGHTS, TAGS, METRICS, CARD) if (folder / name).exists()
    }
    files[CARD] = checkpoint.card.replace(card.REPO, repo).encode()
    if METRICS in files:
        told = {key: checkpoint.metrics[key] for key in _PUBLISHED_METRICS if key in checkpoint.metrics}
        told |= {"csv": Path(told["csv"]).name} if isinstance(told.get("csv"), str) else {}
        files[METRICS] = (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode()
    return checkpoint, files


def find(repo: str, private: bool) -> Target:
    """The repo as it is, or as it will be made. Raises BadInput where it is public and was to be private."""
    try:
        info = HfApi(token=True).model_info(repo, timeout=_ANSWER_TIMEOUT_SECONDS)
    except RepositoryNotFoundError:  # where the token is to blame, making the repo says so
        return Target(repo, private)
    except _FAULTS as error:
        raise _explain(error, repo) from error
    if private and not info.private:
        why = "--private is for a repo that publishing makes."
        raise BadInput(
            f"{repo} is there already, and public.", why, "Make it private on the Hub, or take another name."
        )
    return Target(repo, bool(info.private), info.sha, tuple(file.rfilename for file in info.siblings or ()))


def plan(checkpoint: Checkpoint, files: dict[str, Path | bytes], target: Target) -> str:
    """What a person is shown before they are asked."""
    stale = target.stale(files)
    visibility = "private" if target.private else "public: everybody can read it"
    state = "new" if target.head is None else f"there already, at {target.head[:8]}"
    lines = [f"{checkpoint.ref} → {HfApi().endpoint}/{target.name} ({state}; {visibility})", ""]
    lines += [f"  {name:<20} {_size(content):>8}" for name, content in files.items()]
    lines += [f"  {name:<20} is removed: this checkpoint has none" for name in stale]
    kept = [name for name in target.files if name not in {*files, *stale, ".gitattributes"}]
    lines += [f"  {len(kept)} other files of the repo stay: {', '.join(kept[:5])}"] if kept else []
    licence = card.front_matter(checkpoint.card).get("license") or "none stated; it is yours to add to the card"
    metrics = checkpoint.metrics
    lines += ["", f"licence: {licence}", f"verdict: {metrics.get('verdict', 'unmeasured')}"]
    lines[-1] += f". {metrics['summary']}" if metrics.get("summary") else ""
    if metrics.get("metrics"):
        rows = {"this model": "metrics", "its start": "old_model", "predict nothing": "predict_nothing"}
        lines += [f"on {metrics.get('images')} {metrics.get('split')} images, at {checkpoint.threshold:.2f}:"]
        lines += [show({title: metrics[key] for title, key in rows.items() if key in metrics})]
    return "\n".join([*lines, ""])


def require_consent(yes: bool, verdict: str | None) -> None:
    """Return if a person said yes; a model that came out worse is not covered by a yes said beforehand."""
    worse = verdict == "worse"
    if worse:
        print("warning: it came out worse than the model it started from.", file=sys.stderr)
    if yes and not worse:
        return
    if not sys.stdin.isatty():
        if worse:
            why = "--yes does not cover a model that came out worse."
            raise BadInput("Nothing was published.", why, "Run it on a terminal, which asks.")
        raise BadInput("Nothing was published.", "There is no terminal to ask on.", "Say --yes.")
    print("Publish it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Interrupted("Nothing was published.")


def push(checkpoint: Checkpoint, files: dict[str, Path | bytes], target: Target) -> str:
    """Make the repo where there is none, and the commit; its REF. Raises HubError."""
    api, made = HfApi(token=True), False
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    operations += [CommitOperationDelete(name) for name in target.stale(files)]
    message = f"Publish {checkpoint.identity.removeprefix('local:')}"
    try:
        if target.head is None:
            api.create_repo(target.name, private=target.private)
            made = True
        commit = api.create_commit(target.name, operations, commit_message=message, parent_commit=target.head)
    except _FAULTS as error:
        raise _explain(error, target.name, made) from error
    if commit.oid == target.head:
        print(f"{target.name} holds exactly this already: no new commit.", file=sys.stderr)
    return f"{target.name}@{commit.oid}"


def _explain(error: Exception, repo: str, made: bool = False) -> HubError:
    """What happened, why and what next; never the address of an upload, which is signed."""
    while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why an upload failed, rather than that it did
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if "/commit/" in _address(error) and (status is None or status >= 500):
        what = f"It is not known whether {repo} was published."
        again = "Run it again: it tells, and adds nothing twice."
    else:
        what = f"{repo} was not published." + (" The repo exists now, and is empty." if made else "")
        again = "Run it again later: what has arrived is not sent twice."
    if isinstance(error, HfHubHTTPError):
        said = " ".join((error.server_message or "").split()).rstrip(".")
        why, next_step = _STATUS.get(status, ("a fault of its own", again))
        why = f"The Hub answered {status}: {why}." + (f" It says: {said}." if said else "")
        return HubError(what, why, next_step.format(owner=repo.partition("/")[0]))
    if isinstance(error, OfflineModeIsEnabled):
        return HubError(what, "HF_HUB_OFFLINE is set.", "Unset it.")
    if isinstance(error, HTTPError):
        return HubError(what, f"The connection to {HfApi().endpoint} failed: {hub.reason(error)}.", again)
    if isinstance(error, json.JSONDecodeError):
        return HubError(what, f"{HfApi().endpoint} answered something that no Hub answers.", "Check HF_ENDPOINT.")
    return HubError(what, f"{hub.reason(error)}.", "Mend that, then run it again.")


def _address(error: Exception) -> str:
    """Where a request that failed went; empty for other errors."""
    try:
        return str((error.response if isinstance(error, HfHubHTTPError) else error).request.url)
    except (AttributeError, RuntimeError):
        return ""


def _size(content: Path | bytes) -> str:
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    return tqdm.format_sizeof(size) + "B"


if __name__ == "__main__":
    sys.exit(main())
