"""The fault matrix of the push: whatever the Hub does, nothing is lost, doubled or torn, and the journal is true.

The client is the real one and talks to `fake_hub.py`, in its three modes: files over LFS, all files as regular ones,
and files over Xet. The models are small fakes that carry their step in every file.
"""

import contextlib
import errno
import io
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_hub import LFS_EXT, READ, FakeHub

import ner_lightning.hub.sender as sender_module
from ner_lightning.__main__ import main
from ner_lightning.errors import InputError
from ner_lightning.hub.outbox import Destination, Outbox
from ner_lightning.hub.sender import full_id, send

ROOT = Path(__file__).parents[2]
TO = Destination("user/ner")
REPO = ("model", "user/ner")
FILES = ("README.md", "config.json", "model.safetensors", "tokenizer.json")
ALWAYS = 10**6
XET = pytest.param("xet", marks=pytest.mark.slow)  # the binary format of hf_xet: see `fake_xet.py`

# of the client's own
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")

# What the Hub does, how it is told to, and whether it may be better in a moment.
REFUSALS = {
    "400": {"status": 400},
    "401": {"status": 401},
    "403": {"status": 403},
    "404": {"status": 404},
    "409": {"status": 409},
    "413": {"status": 413},
}
FAILURES = {
    "408": {"status": 408},
    "412": {"status": 412},
    "429": {"status": 429, "headers": {"Retry-After": "7"}},
    "500": {"status": 500},
    "502": {"status": 502, "headers": {"Content-Type": "text/html"}, "body": "<html>\n<h1>Bad Gateway</h1>\n</html>"},
    "503": {"status": 503},
    "504": {"status": 504},
}
BREAKS = {
    "reset": {"status": None},
    "reset in the request": {"status": -1},
    "reset in the answer": {"status": 200, "headers": {"Content-Length": "999"}, "body": '{"half": '},
    "hung": {"status": None, "delay": 60},
}
FAULTS = REFUSALS | FAILURES | BREAKS
# Where it does it.
INFO = ("GET", "/api/models/user/ner(/revision/[a-z]+)?$")
CREATE = ("POST", "/api/repos/create")
BRANCH = ("POST", "/branch/")
YAML = ("POST", "/api/validate-yaml")
PREUPLOAD = ("POST", "/preupload/")
COMMIT = ("POST", "/commit/")
UPLOADS = {
    "lfs": [("POST", "/objects/batch"), ("PUT", "/_lfs/")],
    "regular": [],
    "xet": [("GET", "/xet-write-token/"), ("POST", "/_cas/v1/xorbs/"), ("POST", "/_cas/v./shards")],
}


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The pauses that would have been made, ours and the client's."""
    from huggingface_hub.utils import _http

    told = SimpleNamespace(ours=[], client=[])
    monkeypatch.setattr(sender_module, "time", SimpleNamespace(sleep=told.ours.append))
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=told.client.append))
    # no TLS is spoken here, and to read the certificates takes longer than a push
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *args: None, raising=False)
    # the Xet client reads these when it is first used
    monkeypatch.setenv("HF_XET_CLIENT_RETRY_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("HF_XET_CLIENT_RETRY_BASE_DELAY", "1ms")
    monkeypatch.setenv("HF_XET_CLIENT_READ_TIMEOUT", "500ms")
    yield told
    _http.set_client_factory(_http.default_client_factory)


def use(mode, hub, monkeypatch):
    from huggingface_hub import constants

    hub.xet = mode == "xet"
    hub.lfs_ext = () if mode == "regular" else LFS_EXT
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", mode == "lfs")


@pytest.fixture(params=["lfs", "regular", XET])
def mode(request, hub, monkeypatch):
    use(request.param, hub, monkeypatch)
    return request.param


class Run:
    """A run that stages fakes, and remembers what was in them."""

    def __init__(self, folder):
        self.outbox = Outbox(folder)
        self.models = {}
        self.said = []

    def stage(self, step, *, to=TO, files=FILES):
        data = {name: f"---\nstep: {step}\n---\n{name}\n".encode() + os.urandom(3000) for name in files}
        data |= {name: f"---\nstep: {step}\n---\n{name}\n".encode() for name in files if name == "README.md"}

        def write(folder):
            for name, content in data.items():
                (folder / name).write_bytes(content)

        name = self.outbox.stage(write, step=step, destination=to, message=f"step {step}: val_f1 0.{step}")
        self.models[f"step {step}: val_f1 0.{step}"] = data
        return name

    def push(self, **options):
        with contextlib.redirect_stdout(io.StringIO()) as told:
            try:
                return send(self.outbox.run_dir, **options)
            finally:
                self.said += told.getvalue().splitlines()

    def events(self, event):
        return [record for record in self.outbox.records() if record["event"] == event]

    def waiting(self):
        """The messages of what waits, which is byte for byte what was staged."""
        for staged in self.outbox.waiting():
            found = {path.name: path.read_bytes() for path in staged.model.iterdir()}
            assert found == self.models[staged.message]
        return [staged.message for staged in self.outbox.waiting()]

    def pushed(self, hub, repo=REPO, ref="main"):
        """The messages of the commits, oldest first: each is one whole model, once, and what the journal tells of."""
        if repo not in hub.repos:
            return []
        log = [commit for commit in hub.repo(*repo).log(ref) if commit.title not in ("initial commit", "seed")][::-1]
        for commit in log:
            model = self.models[commit.title]
            assert {name: blob.data for name, blob in commit.tree.items() if name in model} == model
            assert not [name for name in commit.tree if name.endswith(".safetensors") and name not in model]
        titles = [commit.title for commit in log]
        assert len(titles) == len(set(titles))
        told = {record["commit"]: record["message"] for record in self.events("pushed")}
        assert told == {commit.oid: commit.title for commit in log}
        return titles


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


ONE, TWO = "step 1: val_f1 0.1", "step 2: val_f1 0.2"


def requests(hub, method, path):
    return len([call for call in hub.calls(path) if call[0] == method])


# All faults at the commit; before it those that other code of the client handles, which is the same in all modes; while
# files are sent, what each mode has.
MATRIX = [
    *((mode, COMMIT, fault) for mode in UPLOADS for fault in FAULTS),
    *(("lfs", PREUPLOAD, fault) for fault in ("401", "403", "404", "413", "429", "500", "502", "503", *BREAKS)),
    *(("lfs", INFO, fault) for fault in ("401", "403", "429", "502", "reset", "hung")),
    *(("lfs", YAML, fault) for fault in ("429", "500", "502", "reset", "reset in the answer", "hung")),
    *(
        (mode, where, fault)
        for mode, places in UPLOADS.items()
        for where in places
        for fault in ("401", "403", "413", "429", "500", "503", "reset", "reset in the request", "hung")
        if (mode, fault) != ("xet", "hung")  # see the watchdog: shards are sent without a limit
    ),
]


def readable(value):
    return value if isinstance(value, str) else value[1].strip("/").rpartition("/")[2].partition("(")[0]


@pytest.mark.parametrize(
    ("mode", "where", "fault"),
    [pytest.param(*case, marks=pytest.mark.long if case[0] == "xet" else ()) for case in MATRIX],
    ids=readable,
)
def test_a_push_that_fails_loses_tears_and_doubles_nothing(run, hub, waits, monkeypatch, mode, where, fault):
    use(mode, hub, monkeypatch)
    hub.add_repo(*REPO)
    run.stage(1)
    hub.fail(*where, times=ALWAYS, **FAULTS[fault])
    refused(run, hub, waits, monkeypatch, where, fault)
    hub.faults.clear()
    assert run.push()
    assert run.pushed(hub) == [ONE]
    assert run.waiting() == []


@pytest.mark.parametrize("fault", ["400", "401", "403", "429", "500", "502", "reset", "hung"])
@pytest.mark.parametrize("where", [CREATE, BRANCH], ids=["create", "branch"])
def test_a_repository_that_cannot_be_made_loses_nothing(run, hub, waits, monkeypatch, where, fault):
    if where == BRANCH:
        hub.add_repo(*REPO)
    to = Destination("user/ner", revision="trained" if where == BRANCH else None)
    run.stage(1, to=to)
    hub.fail(*where, times=ALWAYS, **FAULTS[fault])
    refused(run, hub, waits, monkeypatch, where, fault)
    hub.faults.clear()
    assert run.push()
    assert run.pushed(hub, ref=to.revision or "main") == [ONE]
    assert run.waiting() == []


def refused(run, hub, waits, monkeypatch, where, fault):
    """A push that fails: what waited still waits, and it was tried again where that makes sense alone."""
    retries = 0 if fault in REFUSALS else sender_module._ATTEMPTS - 1
    with monkeypatch.context() as patch:
        if fault == "hung":
            patch.setattr(sender_module, "_READ", 0.05)
        assert not run.push()
    assert run.waiting() == [ONE]
    assert run.pushed(hub) == []
    assert len(run.events("retry")) == len(waits.ours) == retries
    assert [record["event"] for record in run.outbox.records()][-1] == "failed"
    count = requests(hub, *where)
    if fault in BREAKS or where in UPLOADS["xet"]:
        assert count >= 1 + retries  # connections that break are tried again by the client, too
    else:
        assert count == 1 + retries
        assert waits.client == []
    if fault in REFUSALS | FAILURES:
        assert run.events("failed")[-1]["error"].startswith(f"{fault}: ")
    assert max([*waits.ours, *waits.client], default=0) <= 60
    assert (
        waits.ours == ([7.0] * 4 if fault == "429" and where not in UPLOADS["xet"] else [2.0, 4.0, 8.0, 16.0])[:retries]
    )


@pytest.mark.parametrize("fault", [*FAILURES, *BREAKS])
def test_a_passing_failure_is_passed_over(run, hub, mode, waits, monkeypatch, fault):
    run.stage(1)
    if fault == "hung":
        monkeypatch.setattr(sender_module, "_READ", 0.5)
    hub.fail(*COMMIT, **FAULTS[fault])
    assert run.push()
    assert run.pushed(hub) == [ONE]
    assert len(run.events("retry")) == len(waits.ours) == 1
    assert run.said[-1].startswith("pushed 000001-step-1 (step 1: val_f1 0.1): http")


@pytest.mark.parametrize("fault", ["412", "500", "502", "503", "reset", "reset in the answer", "hung"])
def test_a_commit_whose_answer_is_lost_is_made_once(run, hub, mode, waits, monkeypatch, fault):
    run.stage(1)
    if fault == "hung":
        monkeypatch.setattr(sender_module, "_READ", 0.5)
    hub.fail(*COMMIT, after=True, times=ALWAYS, **FAULTS[fault])
    assert run.push()
    assert run.pushed(hub) == [ONE]
    assert requests(hub, *COMMIT) == len(waits.ours) == 1
    assert run.waiting() == []


def test_a_commit_whose_answer_is_lost_before_the_hub_fails_again_is_made_once(run, hub, mode, waits):
    hub.add_repo(*REPO)
    run.stage(1)
    hub.fail(*COMMIT, None, after=True)
    hub.fail(*INFO, 0)  # the first one, before the commit, is answered
    hub.fail(*INFO, 503)
    assert run.push()
    assert run.pushed(hub) == [ONE]
    assert requests(hub, *COMMIT) == 1
    assert len(waits.ours) == 2


@pytest.mark.parametrize("delay", [0.51, 0.53, 0.55, 0.6])
def test_a_commit_that_arrives_late_is_made_once(run, hub, mode, monkeypatch, delay):
    """It is applied while the next attempt is under way: before, between or after any of its requests."""
    monkeypatch.setattr(sender_module, "time", SimpleNamespace(sleep=lambda wait: None))
    monkeypatch.setattr(sender_module, "_READ", 0.5)
    run.stage(1)
    hub.fail(*COMMIT, 0, delay=delay)
    assert run.push()
    while 0 in [status for _, _, status in hub.calls("/commit/")]:
        time.sleep(0.01)
    assert run.pushed(hub) == [ONE]


def test_a_hub_that_is_not_there_is_waited_for_a_moment(run, hub, waits, monkeypatch):
    from huggingface_hub import constants

    run.stage(1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with monkeypatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", address)
        assert not run.push()
    assert run.waiting() == [ONE]
    assert waits.ours == [2, 4, 8, 16]
    assert "refused" in run.events("failed")[-1]["error"]
    assert run.push()
    assert run.pushed(hub) == [ONE]


def test_a_hub_that_goes_away_in_the_middle_leaves_no_request_without_a_limit(run, hub, waits, monkeypatch):
    """After a refused connection the client makes a new session, of which nobody has set the time limits."""
    from huggingface_hub import close_session
    from huggingface_hub.utils import _http

    run.stage(1)
    told = waits.client.append

    def sleep(seconds):
        told(seconds)
        close_session()

    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(sender_module, "_READ", 0.5)
    hub.fail(*PREUPLOAD, None)
    hub.fail(*PREUPLOAD, 0, delay=60)
    began = time.monotonic()
    assert run.push()
    assert time.monotonic() - began < 30
    assert len(waits.client) == 2


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "3"}, 3),
        ({"Retry-After": "86400"}, 60),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 2),
        ({"Retry-After": "²"}, 2),
        ({"RateLimit": '"api";r=0;t=55', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}, 55),
        ({"RateLimit": '"api";r=0;t=299'}, 60),
        ({"RateLimit": '"api";r=499;t=299'}, 2),
        ({}, 2),
    ],
)
@pytest.mark.parametrize("where", [PREUPLOAD, COMMIT], ids=["preupload", "commit"])
def test_the_pause_is_as_the_hub_asks_but_never_long(run, hub, waits, where, headers, wait):
    run.stage(1)
    hub.fail(*where, 429, headers=headers)
    assert run.push()
    assert (waits.ours, waits.client) == ([wait], [])


def test_a_repository_that_is_just_being_made_elsewhere_is_not_asked_for_without_a_pause(run, hub):
    run.stage(1)
    body = json.dumps({"error": "Cannot create repo: another conflicting operation is in progress"})
    hub.fail(*CREATE, 409, times=ALWAYS, body=body, headers={"Content-Type": "application/json"})
    assert not run.push()
    assert requests(hub, *CREATE) == 1


def test_a_card_that_the_hub_refuses_is_told_with_its_reason(run, hub, mode):
    run.stage(1)
    body = json.dumps({"errors": [{"message": '"license" must be a string'}], "warnings": []})
    hub.fail(*YAML, 400, times=ALWAYS, body=body, headers={"Content-Type": "application/json"})
    assert not run.push()
    assert requests(hub, *YAML) == 1
    assert '"license" must be a string' in run.events("failed")[-1]["error"]
    assert run.waiting() == [ONE]


def test_a_newer_model_ends_the_pause(run, hub, monkeypatch):
    run.stage(1)
    hub.fail(*COMMIT, 503)
    monkeypatch.setattr(sender_module, "time", SimpleNamespace(sleep=lambda wait: run.stage(2)))
    assert run.push()
    assert run.pushed(hub) == [TWO]
    assert [record["name"] for record in run.events("replaced")] == ["000001-step-1"]
    assert run.waiting() == []


def test_a_newer_model_is_pushed_after_one_that_failed(run, hub, monkeypatch):
    run.stage(1)
    hub.fail(*COMMIT, 403)
    real = Outbox.put_back

    def put_back(outbox, staged):
        real(outbox, staged)
        run.stage(2)

    monkeypatch.setattr(Outbox, "put_back", put_back)
    assert run.push()
    assert run.pushed(hub) == [TWO]


def test_models_that_are_staged_during_a_push_are_pushed_by_it(run, hub, mode, monkeypatch):
    run.stage(1)
    real = sender_module._upload

    def upload(api, staged):
        if len(run.models) < 3:
            run.stage(len(run.models) + 1)
        return real(api, staged)

    monkeypatch.setattr(sender_module, "_upload", upload)
    assert run.push()
    assert run.pushed(hub) == [ONE, TWO, "step 3: val_f1 0.3"]


def test_a_model_that_is_on_the_hub_already_makes_no_second_commit(run, hub, mode):
    """As after a kill between the commit and the line in the journal."""
    run.stage(1)
    real = run.outbox.take()
    copy = {path.name: path.read_bytes() for path in real.model.iterdir()}
    hub.add_repo(*REPO)
    assert run.push()
    head = hub.repo(*REPO).log()[0].oid
    again = Run(run.outbox.run_dir)

    def write(folder):
        for name, content in copy.items():
            (folder / name).write_bytes(content)

    again.outbox.stage(write, step=1, destination=TO, message=ONE)
    assert again.push()
    assert [record["commit"] for record in again.events("pushed")] == [head, head]
    assert run.pushed(hub) == [ONE]


def test_many_files_are_one_commit(run, hub, mode):
    run.stage(1, files=[*FILES, *(f"extra_{number}.txt" for number in range(300))])
    assert run.push()
    assert run.pushed(hub) == [ONE]


def test_weights_that_another_model_left_are_removed_and_nothing_else(run, hub, mode):
    stale = ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin"]
    kept = ["notes.txt", "fp16/model.safetensors", "training_args.bin"]
    hub.add_repo(*REPO, {name: os.urandom(500) for name in [*stale, *kept, "model.safetensors"]})
    run.stage(1)
    assert run.push()
    assert set(hub.repo(*REPO).head()) == {".gitattributes", *FILES, *kept}
    assert len(hub.repo(*REPO).log()) == 3


def test_what_somebody_else_commits_in_between_is_not_lost(run, hub, mode, monkeypatch):
    hub.add_repo(*REPO, {"notes.txt": b"a"})
    run.stage(1)
    real, calls = sender_module._head, []

    def head(api, destination):
        known = real(api, destination)
        if not calls:
            hub.add_repo(*REPO, {"notes.txt": b"b"})
        calls.append(known)
        return known

    monkeypatch.setattr(sender_module, "_head", head)
    assert run.push()
    assert [record["error"][:3] for record in run.events("retry")] == ["412"]
    assert requests(hub, *COMMIT) == len(calls) == 2
    assert run.pushed(hub) == [ONE]
    assert hub.repo(*REPO).head()["notes.txt"].data == b"b"


@pytest.mark.parametrize(
    ("repo_id", "revision", "private"),
    [
        ("user/ner", None, None),
        ("ner", None, True),
        ("user/ner", "trained", False),
        ("ner", "runs/7", True),
    ],
)
def test_the_repository_and_the_branch_are_made(run, hub, repo_id, revision, private):
    run.stage(1, to=Destination(repo_id, revision, private))
    assert run.push()
    assert run.pushed(hub, ref=revision or "main") == [ONE]
    assert hub.repo(*REPO).private == bool(private)
    if revision is not None:
        assert [commit.title for commit in hub.repo(*REPO).log("main")] == ["initial commit"]


@pytest.mark.parametrize("revision", [None, "trained", "new"])
@pytest.mark.parametrize("check", [True, False])
def test_a_public_repository_gets_nothing_where_a_private_one_is_asked_for(run, hub, revision, check):
    repo = hub.add_repo(*REPO)
    repo.add_commit("trained", "seed", "", dict(repo.head()))
    to = Destination("user/ner", revision, private=True)
    run.stage(1, to=to)
    assert not run.push(check=to if check else None)
    told = "user/ner is there already and is public, and a private one was asked for: nothing is sent there"
    assert told in run.said[-1]
    assert told in run.events("failed")[-1]["error"]
    assert "new" not in repo.refs
    assert requests(hub, *COMMIT) == 0
    assert run.waiting() == [ONE]
    repo.private = True
    assert run.push(check=to if check else None)
    assert run.pushed(hub, ref=revision or "main") == [ONE]


def test_a_private_repository_that_is_there_is_gone_on_with(run, hub):
    hub.add_repo(*REPO, private=True)
    run.stage(1, to=Destination("user/ner", private=True))
    assert run.push()
    assert run.pushed(hub) == [ONE]


def test_a_branch_that_is_there_is_gone_on_with(run, hub, mode):
    repo = hub.add_repo(*REPO)
    repo.add_commit("trained", "seed", "", dict(repo.head()))
    for step in (1, 2):
        run.stage(step, to=Destination("user/ner", "trained"))
        assert run.push()
    assert run.pushed(hub, ref="trained") == [ONE, TWO]


def test_transformers_loads_each_commit_bit_by_bit(tmp_path, hub, mode, tiny_model):
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    weights, outbox = [], Outbox(tmp_path)
    for step in (1, 2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.rand_like(parameter))
        weights.append({name: tensor.clone() for name, tensor in model.state_dict().items()})

        def write(folder):
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)

        outbox.stage(write, step=step, destination=TO, message=f"step {step}")
        assert send(tmp_path)
    commits = [record["commit"] for record in outbox.records() if record["event"] == "pushed"]
    assert len(commits) == 2
    for commit, expected in zip(commits, weights, strict=True):
        loaded = AutoModel.from_pretrained("user/ner", revision=commit).state_dict()
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[name], expected[name]) for name in expected)
        assert len(AutoTokenizer.from_pretrained("user/ner", revision=commit)) == len(tokenizer)


@pytest.mark.parametrize("revision", [None, "trained"])
def test_the_check_makes_the_repository_and_commits_nothing(run, hub, mode, revision):
    assert run.push(check=Destination("ner", revision))
    assert [commit.title for commit in hub.repo(*REPO).log(revision or "main")] == ["initial commit"]
    assert [record["repo_id"] for record in run.events("checked")] == ["user/ner"]
    assert run.said == []


def test_the_check_finds_a_token_that_may_only_read(run, hub, mode, monkeypatch, waits):
    hub.add_repo(*REPO)
    monkeypatch.setenv("HF_TOKEN", READ)
    assert not run.push(check=TO)
    told = "user/ner cannot be written to: 403: the token has no right to write there"
    assert run.said == [told]
    assert [(record["name"], record["error"]) for record in run.events("failed")] == [(None, told.partition(": ")[2])]
    assert waits.ours == []


@pytest.mark.parametrize("token", ["", "hf_unknown"])
def test_the_check_finds_that_there_is_no_valid_token(run, hub, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    assert not run.push(check=TO)
    assert run.said == ["user/ner cannot be written to: 401: no valid token: `hf auth login`, or HF_TOKEN"]


@pytest.mark.parametrize("where", [INFO, CREATE, PREUPLOAD], ids=["info", "create", "preupload"])
def test_the_check_passes_over_a_passing_failure(run, hub, waits, where):
    hub.fail(*where, 503)
    assert run.push(check=TO)
    assert waits.ours == [2]


def test_what_waits_is_sent_after_the_check(run, hub):
    run.stage(1)
    assert run.push(check=TO)
    assert run.pushed(hub) == [ONE]


def test_two_senders_at_once_are_one_too_many(run, hub):
    run.stage(1)
    with run.outbox.sender(), pytest.raises(InputError, match="another process pushes from this run"):
        run.push()
    assert run.waiting() == [ONE]


def test_a_folder_that_never_pushed_is_an_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match=rf"{re.escape(str(tmp_path))}: no pushes in this folder"):
        send(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_sent_though_its_line_never_reached_the_journal(run, hub):
    run.stage(1)
    run.outbox.journal.unlink()
    assert run.push()
    assert run.pushed(hub) == [ONE]


@pytest.mark.parametrize("options", [[], ["--forget"], ["--repo_id=user/ner"]])
def test_the_folder_of_runs_is_refused_and_the_runs_are_named(tmp_path, monkeypatch, capsys, options):
    monkeypatch.chdir(tmp_path)
    for number in range(5):
        path = tmp_path / f"runs/version_{number}/checkpoints/best.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (number, number))
    assert main(["push", "runs", *options]) == 1
    runs = "runs/version_4, runs/version_3, runs/version_2 and 2 more"
    assert capsys.readouterr().err == f"error: runs is not a run, but holds runs: give one of them ({runs})\n"
    assert not (tmp_path / "runs/hub").exists()


def test_a_run_that_never_pushed_is_told_how(tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/best.ckpt").touch()
    assert main(["push", str(tmp_path)]) == 1
    told = f"error: {tmp_path}: nothing waits here; --repo_id=NAME sends the best model of the run\n"
    assert capsys.readouterr().err == told


def test_what_waits_can_be_forgotten(run, hub, capsys):
    run.stage(1, to=Destination("user/typo"))
    run.stage(2)
    folder = str(run.outbox.run_dir)
    with run.outbox.sender():
        assert main(["push", folder, "--forget"]) == 1
    assert "another process pushes from this run" in capsys.readouterr().err
    assert main(["push", folder, "--forget"]) == 0
    assert capsys.readouterr().out == (
        f"dropped 000001-step-1 ({ONE}), which waited for user/typo\n"
        f"dropped 000002-step-2 ({TWO}), which waited for user/ner\n"
    )
    assert run.waiting() == []
    assert [record["name"] for record in run.events("forgotten")] == ["000001-step-1", "000002-step-2"]
    assert main(["push", folder, "--forget"]) == 0
    assert main(["push", folder]) == 0
    assert capsys.readouterr().out == "nothing waits\nnothing to send: nothing waits\n"
    assert hub.repos == {}


def test_to_forget_and_to_send_are_two_calls(tmp_path, capsys):
    assert main(["push", str(tmp_path), "--forget", "--repo_id=user/ner"]) == 2
    assert "--forget sends nothing: leave out --repo_id" in capsys.readouterr().err


@pytest.mark.parametrize("repo_id", ["typo/typo/typo", "user/na me", "user/", "-ner", "user/ner.git", ""])
def test_an_id_that_can_never_be_is_refused_before_anything_is_put_in(run, capsys, repo_id):
    run.stage(1)
    before = sorted(run.outbox.run_dir.rglob("*"))
    assert main(["push", str(run.outbox.run_dir), f"--repo_id={repo_id}"]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: repo_id={repo_id!r} is no id of a repository: ")
    assert told.count("\n") == 1
    assert sorted(run.outbox.run_dir.rglob("*")) == before
    assert run.waiting() == [ONE]


def test_an_account_that_is_not_known_is_an_error_that_names_the_id(hub, monkeypatch):
    assert full_id("ner") == "user/ner"
    monkeypatch.setenv("HF_TOKEN", "hf_unknown")
    assert full_id("other/ner") == "other/ner"
    with pytest.raises(InputError, match=r"--repo_id=ner: give it with its namespace \(you/ner\): 401: no valid token"):
        full_id("ner")


def test_the_command_says_what_it_did(run, hub, capsys):
    run.stage(1)
    hub.fail(*COMMIT, 403)
    assert main(["push", str(run.outbox.run_dir)]) == 1
    told = "could not be pushed to user/ner: 403: the token has no right to write there"
    assert capsys.readouterr().out == f"000001-step-1 (step 1: val_f1 0.1) {told}\n"
    assert main(["push", str(run.outbox.run_dir)]) == 0
    url = run.events("pushed")[-1]["url"]
    assert capsys.readouterr().out == f"pushed 000001-step-1 (step 1: val_f1 0.1): {url}\n"
    assert main(["push", str(run.outbox.run_dir)]) == 0
    assert capsys.readouterr().out == f"nothing to send: the last push was {url}\n"


def test_the_command_says_that_nothing_waits(run, hub, capsys):
    assert run.push(check=TO)
    assert main(["push", str(run.outbox.run_dir)]) == 0
    assert capsys.readouterr().out == "nothing to send: nothing waits\n"


@pytest.mark.parametrize("event", ["started", "retry", "failed", "pushed"])
def test_a_disk_that_is_full_loses_nothing(run, hub, monkeypatch, event):
    """The line cannot be written; what it would have told of is found out by the next push."""
    run.stage(1)
    real = Outbox.record

    def record(outbox, what, *args, **facts):
        if what == event:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(outbox, what, *args, **facts)

    if event in ("retry", "failed"):
        hub.fail(*COMMIT, 503 if event == "retry" else 403)
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "record", record)
        if event == "retry":
            assert not run.push()
        else:
            with pytest.raises(OSError, match="No space left"):
                run.push()
    assert run.waiting() == [ONE]
    assert run.push()
    assert run.pushed(hub) == [ONE]


def command(run, hub, home, mode, *options):
    """The process that pushes, with the limits that it has of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_XET_")}
    return subprocess.Popen(
        [sys.executable, "-m", "ner_lightning", "push", str(run.outbox.run_dir), *options],
        env={**environment, **hub.env(home, xet=mode != "lfs")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < 60
        time.sleep(0.01)


@pytest.mark.parametrize("mode", ["regular", pytest.param("lfs", marks=pytest.mark.slow), XET])
@pytest.mark.parametrize("moment", ["while files are sent", "before the commit is made", "before it is answered"])
def test_a_killed_push_is_finished_by_the_next_one(run, hub, monkeypatch, tmp_path, mode, moment):
    use(mode, hub, monkeypatch)
    repo = hub.add_repo(*REPO)
    run.stage(1)
    where = COMMIT if "commit" in moment or "answered" in moment else [PREUPLOAD, *UPLOADS[mode]][-1]
    hub.fail(*where, None, delay=60, after="answered" in moment)
    process = command(run, hub, tmp_path / "home", mode)
    until(lambda: requests(hub, *where) if "answered" not in moment else len(repo.log()) == 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert run.waiting() == [ONE]
    assert [record["event"] for record in run.outbox.records()] == ["staged", "started"]
    assert run.push()
    assert run.pushed(hub) == [ONE]
    assert run.waiting() == []


@pytest.mark.parametrize(
    ("mode", "where"),
    [("regular", INFO), pytest.param("xet", UPLOADS["xet"][-1], marks=pytest.mark.slow)],
    ids=["info", "shards"],
)
def test_a_push_that_hangs_is_given_up_in_time(run, hub, monkeypatch, tmp_path, mode, where):
    use(mode, hub, monkeypatch)
    hub.add_repo(*REPO)
    run.stage(1)
    hub.fail(*where, None, delay=600, times=ALWAYS)
    began = time.monotonic()
    process = command(run, hub, tmp_path / "home", mode, "--timeout=2")
    _, told = process.communicate(timeout=60)
    assert 2 < time.monotonic() - began < 60
    assert process.returncode == 1
    assert told == f"error: {run.outbox.run_dir}: not finished within --timeout=2 s\n"
    assert [record["event"] for record in run.outbox.records()] == ["staged", "started", "stopped"]
    hub.faults.clear()
    assert run.push()
    assert run.pushed(hub) == [ONE]


@pytest.mark.parametrize(
    ("mode", "broken"),
    [
        pytest.param("lfs", False, marks=pytest.mark.slow),
        pytest.param("xet", False, marks=pytest.mark.long),
        pytest.param("lfs", True, marks=pytest.mark.long),
    ],
)
def test_the_token_is_in_no_file_no_word_and_no_request_but_its_header(tmp_path, mode, broken):
    sentinel = "hf_" + "Sentinel" * 4
    options = {"lfs": {}, "xet": {"xet": True}}[mode]
    with FakeHub(log_bodies=True, **options) as hub:
        hub.tokens[sentinel] = "write"
        if broken:
            hub.fail("*", "/api/", 500, times=ALWAYS)
        environment = {**os.environ, **hub.env(tmp_path / "home", token=sentinel)}
        fit = subprocess.run(
            [
                *(sys.executable, "-m", "ner_lightning", "fit", "--config", str(ROOT / "configs/quickstart.yaml")),
                *("--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.accelerator=cpu"),
                *("--trainer.callbacks+=ner_lightning.PushToHub", "--trainer.callbacks.repo_id=user/ner"),
                *("--trainer.callbacks.when=every", "--trainer.callbacks.push_at_start=true"),
                f"--trainer.callbacks.drain_timeout={5 if broken else 60}",
            ],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
        )
        again = subprocess.run(
            [sys.executable, "-m", "ner_lightning", "push", "runs/version_0", "--debug"],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
        )
    assert (fit.returncode, again.returncode) == (0, int(broken)), fit.stderr.decode() + again.stderr.decode()
    sent = {request["headers"]["authorization"] for request in hub.requests if "/api/models" in request["path"]}
    assert sent == {f"Bearer {sentinel}"}
    secret = sentinel.encode()
    for output in (fit.stdout, fit.stderr, again.stdout, again.stderr):
        assert secret not in output
    if broken:
        assert b"not finished within 5 s" in fit.stderr
        assert b"could not be pushed to user/ner: 500: Internal Server Error" in again.stdout
    else:
        assert len(hub.repo(*REPO).log()) > 1
    for path in tmp_path.rglob("*"):
        assert sentinel not in path.name
        if path.is_file():
            assert secret not in path.read_bytes(), path
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as members:
                    assert not [name for name in members.namelist() if secret in members.read(name)], path
    assert list(tmp_path.rglob("*.ckpt"))
    for request in hub.requests:
        assert sentinel not in request["path"]
        assert secret not in request.get("body", b"")
        others = {name: value for name, value in request["headers"].items() if name.lower() != "authorization"}
        assert sentinel not in str(others)
    for repo in hub.repos.values():
        for commit in repo.commits.values():
            assert sentinel not in commit.title + commit.description
            assert not [name for name, blob in commit.tree.items() if secret in blob.data]
