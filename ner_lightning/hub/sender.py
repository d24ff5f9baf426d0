"""Send what waits in the outbox of a run to the Hugging Face Hub.

During training this is a process of its own: a hanging Hub, a signal or the end of the run does not tear a push, and a
push does not slow or end the run. The token is the one that the Hub client finds (`HF_TOKEN`, `hf auth login`).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, TypeVar

from ner_lightning.errors import InputError
from ner_lightning.hub.outbox import Destination, Outbox, Staged

if TYPE_CHECKING:
    from httpx2 import Client, Request, Response
    from huggingface_hub import HfApi

T = TypeVar("T")

_CONNECT, _READ = 10, 60  # seconds
_ATTEMPTS = 5
_LONGEST_WAIT = 60  # seconds between two attempts, whatever the Hub asks for
_PASSING = {408, 412, 429, 500, 502, 503, 504}  # answers that are worth another attempt
# left over from another model, these would be loaded with this one
_STALE = re.compile(r"(model[^/]*\.safetensors|pytorch_model[^/]*\.bin)(\.index\.json)?")


def send(
    run_dir: str | Path,
    *,
    check: Destination | None = None,
    stage: Callable[[], None] | None = None,
) -> bool:
    """Send the newest model that waits in the outbox of a run, and those that are staged meanwhile.

    Passing failures (no connection, time-outs, a branch that has just been changed, 408, 429, 5xx) are tried again with
    growing pauses. A push that did arrive, whatever the answer was, makes no second commit. What cannot be pushed stays
    for the next call.

    Args:
        run_dir: Folder of the run.
        check: First make this repository and prove that it can be written to.
        stage: First put a model in, while no other process pushes.

    Returns:
        Whether nothing waits any more.

    Raises:
        InputError: The folder is not one of a run that pushes, or another process pushes from it.
    """
    _limit_waiting()
    outbox = Outbox(run_dir)
    if check is None and stage is None:
        _refuse_other_folder(outbox)
    with outbox.sender():
        if check is not None and not _check(outbox, check):
            return False
        if stage is not None:
            stage()
        tried = None
        # what failed is not tried again at once, but something newer is
        while (waiting := outbox.waiting()) and waiting[-1].name != tried and (staged := outbox.take()) is not None:
            tried = staged.name
            _push(outbox, staged)
    if tried is None and check is None:
        pushed = [record["url"] for record in outbox.records() if record["event"] == "pushed"]
        _say(f"nothing to send: {f'the last push was {pushed[-1]}' if pushed else 'nothing waits'}")
    return not outbox.waiting()


def forget(run_dir: str | Path) -> None:
    """Drop what waits in the outbox of a run; its checkpoints stay.

    Raises:
        InputError: The folder is not one of a run that pushes, or another process pushes from it.
    """
    outbox = Outbox(run_dir)
    _refuse_other_folder(outbox)
    with outbox.sender():
        waiting = outbox.waiting()
        for staged in waiting:
            outbox.forget(staged)
            _say(f"dropped {staged.name} ({staged.message}), which waited for {staged.destination.repo_id}")
    if not waiting:
        _say("nothing waits")


def runs_in(folder: str | Path) -> str | None:
    """The sentence about a folder that holds runs and is none; None where it holds none."""
    files = [path for name in ("checkpoints/*.ckpt", "hub/pushes.jsonl") for path in Path(folder).glob(f"*/**/{name}")]
    files.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    runs = list(dict.fromkeys(str(path.parent.parent) for path in files))
    if not runs:
        return None
    more = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
    return f"{folder} is not a run, but holds runs: give one of them ({', '.join(runs[:3])}{more})"


def validate(repo_id: str) -> None:
    """Refuse an id that no repository can have.

    Raises:
        InputError: It is none, and why.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined] # a name that it gives lazily

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        reason = str(error).removesuffix(" Use `repo_type` argument if needed.")
        raise InputError(f"repo_id={repo_id!r} is no id of a repository: {reason}") from error


def full_id(repo_id: str) -> str:
    """An id with its namespace, by default that of the account.

    Raises:
        InputError: The Hub does not tell whose account it is.
    """
    from huggingface_hub import HfApi

    _limit_waiting()
    try:
        return _with_namespace(HfApi(), repo_id)
    except Exception as error:
        reason = _reason(error)
        raise InputError(f"--repo_id={repo_id}: give it with its namespace (you/{repo_id}): {reason}") from error


def _refuse_other_folder(outbox: Outbox) -> None:
    if outbox.journal.is_file() or outbox.waiting():
        return
    if any(outbox.run_dir.glob("checkpoints/*.ckpt")):
        raise InputError(f"{outbox.run_dir}: nothing waits here; --repo_id=NAME sends the best model of the run")
    none = f"{outbox.run_dir}: no pushes in this folder (no hub/pushes.jsonl); give the folder of a run"
    raise InputError(runs_in(outbox.run_dir) or none)


def _check(outbox: Outbox, destination: Destination) -> bool:
    from huggingface_hub import CommitOperationAdd, HfApi

    def prove() -> str:
        api = HfApi()
        repo_id, _ = _head(api, destination)
        # asks how a file would be sent, which takes the right to write, and sends none
        sample = CommitOperationAdd(path_in_repo="README.md", path_or_fileobj=b"-")
        api.preupload_lfs_files(repo_id, [sample], revision=destination.revision)
        return repo_id

    try:
        repo_id = _persist(prove, outbox, None)
    except Exception as error:
        outbox.record("failed", None, error=_reason(error))
        _say(f"{destination.repo_id} cannot be written to: {_reason(error)}")
        return False
    outbox.record("checked", None, repo_id=repo_id)
    return True


def _push(outbox: Outbox, staged: Staged) -> None:
    from huggingface_hub import HfApi

    outbox.record("started", staged.name)
    try:
        commit, url = _persist(lambda: _upload(HfApi(), staged), outbox, staged)
    except _Newer:
        outbox.put_back(staged)  # where the newer one replaces it
    except Exception as error:
        outbox.put_back(staged)
        outbox.record("failed", staged.name, error=_reason(error))
        _say(f"{staged.name} ({staged.message}) could not be pushed to {staged.destination.repo_id}: {_reason(error)}")
    else:
        outbox.finish(staged, commit=commit, url=url)
        _say(f"pushed {staged.name} ({staged.message}): {url}")


def _say(sentence: str) -> None:
    print(sentence, flush=True)  # at once: a process that is killed keeps none for later


class _Newer(Exception):
    """A newer model waits: this one is not needed any more."""


def _persist(action: Callable[[], T], outbox: Outbox, staged: Staged | None) -> T:
    """Call it, and again after passing failures."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return action()
        except Exception as error:
            if attempt == _ATTEMPTS or not _passes(error):
                raise
            wait = _wait(error, attempt)
            outbox.record("retry", staged.name if staged else None, error=_reason(error), wait=wait)
            _say(f"{_reason(error)}; trying again in {wait:.0f} s")
            time.sleep(wait)
            if staged is not None and outbox.waiting()[-1].name > staged.name:
                raise _Newer from error
    raise AssertionError


def _upload(api: HfApi, staged: Staged) -> tuple[str, str]:
    """Commit the folder; gives the commit and its address."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    revision = staged.destination.revision
    repo_id, head = _head(api, staged.destination)
    files = {path.relative_to(staged.model).as_posix(): path for path in staged.model.rglob("*") if path.is_file()}
    try:
        # not `upload_folder`, which makes several commits of many files, or after a long wait, and repeats them itself
        stale = [path for path in api.list_repo_files(repo_id, revision=head) if _STALE.fullmatch(path)]
        done = api.create_commit(
            repo_id,
            [
                *(CommitOperationDelete(path) for path in stale if path not in files),
                *(CommitOperationAdd(name, path) for name, path in sorted(files.items())),
            ],
            commit_message=staged.message,
            revision=revision,
            # a request that arrives late or twice makes one commit; where the answer to one that arrived is lost, the
            # next attempt has nothing to change, and the client makes none
            parent_commit=head,
        )
    except RuntimeError as error:
        if type(error) is RuntimeError and isinstance(error.__cause__, Exception):
            raise error.__cause__ from None  # the client wraps LFS upload errors in RuntimeError
        raise
    return done.oid, done.commit_url


def _head(api: HfApi, destination: Destination) -> tuple[str, str]:
    """Full id of the repository and newest commit of the branch, both made where they are not there."""
    from huggingface_hub.errors import HfHubHTTPError

    repo_id, revision = _with_namespace(api, destination.repo_id), destination.revision

    def commit(revision: str | None) -> str:
        info = api.model_info(repo_id, revision=revision)
        if destination.private and not info.private:
            raise InputError(
                f"{repo_id} is there already and is public, and a private one was asked for: nothing is sent there; "
                "make it private in its settings on the Hub, or give another --repo_id"
            )
        return str(info.sha)

    try:
        return repo_id, commit(revision)
    except HfHubHTTPError as error:
        if error.response.status_code != 404:
            raise
    repo_id = api.create_repo(repo_id, private=destination.private, exist_ok=True).repo_id
    if revision is not None:
        commit(None)
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    return repo_id, commit(revision)


def _with_namespace(api: HfApi, repo_id: str) -> str:
    return repo_id if "/" in repo_id else f"{api.whoami()['name']}/{repo_id}"


def _limit_waiting() -> None:
    """Give all requests of the Hub client of this process a time limit: by default it has none."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory  # not public, as the client with its hooks is not

    def client() -> Client:
        client = default_client_factory()
        client.event_hooks["request"].append(_limit)
        client.event_hooks["response"].append(_refuse)
        return client

    set_client_factory(client)


def _limit(request: Request) -> None:
    # a limit of the session is not enough: `model_info` asks for none
    request.extensions["timeout"] = {"connect": _CONNECT, "read": _READ, "write": _READ, "pool": _READ}


def _refuse(response: Response) -> None:
    """Raise at once where the client would retry by itself, after pauses of any length that the Hub asks for."""
    from huggingface_hub import hf_raise_for_status

    busy = response.status_code == 409 and b"another conflicting operation is in progress" in response.read()
    if busy or response.status_code in _PASSING:
        hf_raise_for_status(response)


def _passes(error: Exception) -> bool:
    """Whether another attempt may succeed."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = _status(error)
    if status is not None:
        return status in _PASSING
    if isinstance(error, OfflineModeIsEnabled):
        return False
    # of the HTTP library (httpx or httpx2, as the client's release has it) what is left are failures of transport;
    # the Xet client raises ConnectionError and RuntimeError; a gateway's page of HTML is no JSON
    own = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    passing = (ConnectionError, TimeoutError, RuntimeError, json.JSONDecodeError)
    return bool(own & {"httpx", "httpx2", "httpcore", "httpcore2"}) or isinstance(error, passing)


def _status(error: Exception) -> int | None:
    """Status of the answer, if there was one."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code
    told = re.search(r"HTTP status \w+ error \((\d{3})", str(error))  # of the Xet client, whose errors have no status
    return int(told[1]) if told else None


def _wait(error: Exception, attempt: int) -> float:
    """Seconds until the next attempt: what the Hub asks for, or growing, up to a limit."""
    from huggingface_hub.errors import HfHubHTTPError

    headers = error.response.headers if isinstance(error, HfHubHTTPError) else {}
    # every answer has a RateLimit, mostly with requests left (r)
    limit = re.search(r"(?<=;r=0;t=)[0-9]+$", headers.get("RateLimit", ""))
    asked = re.match(r"[0-9]+$", headers.get("Retry-After", "")) or limit
    return min(float(asked[0]) if asked else 2.0**attempt, _LONGEST_WAIT)


def _reason(error: Exception) -> str:
    """One line: the status, then what it means here, or what the Hub or the client says."""
    from huggingface_hub.errors import HfHubHTTPError

    status = _status(error)
    advice = {
        401: "no valid token: `hf auth login`, or HF_TOKEN",
        403: "the token has no right to write there",
        404: "no such repository, or no right to see it",
    }
    told = (error.server_message or error.response.reason_phrase) if isinstance(error, HfHubHTTPError) else str(error)
    text = shorten(told, 300, placeholder=" ...") or type(error).__name__
    return text if status is None else f"{status}: {advice.get(status, text)}"
