"""The server answers what the Tagger does, and whatever is wrong with a request in one sentence."""

import asyncio
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from ner_lightning.__main__ import main
from ner_lightning.errors import InputError
from ner_lightning.predict.serve import serve

MAX_CHARS = 400
TEXTS = ["Mira Toll left Quill Works.", "", "Lake Sorn froze", "a-b (the) Zephic!"]


@pytest.fixture(scope="module")
def make_app():
    pytest.importorskip("uvicorn", reason="needs the extra `serve`")
    pytest.importorskip("fastapi", reason="needs the extra `serve`")
    from ner_lightning.predict.app import make_app

    return make_app


@pytest.fixture
def client(make_app):
    """Make a client of an application."""
    from fastapi.testclient import TestClient

    clients = []

    def make(tagger, *, timeout=20.0):
        client = TestClient(make_app(tagger, max_chars=MAX_CHARS, timeout=timeout), raise_server_exceptions=False)
        clients.append(client)
        return client.__enter__()  # which starts it

    yield make
    for each in clients:
        each.__exit__(None, None, None)


def test_the_answer_is_that_of_the_tagger(client, tagger):
    own = tagger()
    http = client(own)
    assert http.post("/entities", json={"texts": TEXTS}).json() == {"entities": own(TEXTS)}
    sentences = [["Mira", "left"], [], ["Lake", "Sorn", "froze"]]
    assert http.post("/entities", json={"tokens": sentences}).json() == {"entities": own(sentences)}
    assert http.post("/entities", json={"texts": []}).json() == {"entities": []}
    assert sum(map(len, own(TEXTS))) > 2
    health = http.get("/health").json()
    assert (health["status"], health["types"]) == ("ok", ["LOC", "MISC", "ORG", "PER"])


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("{", 422, r"^body.1: JSON decode error"),
        ("", 422, "^body: Field required$"),
        ("[1]", 422, "^body: Input should be a valid dictionary or object"),
        ("null", 422, "^body: "),
        (b'{"texts": ["\xff"]}', 400, "error parsing the body"),
        ("[" * 20_000, 413, r"^the body has more than 6,400 bytes$"),
        ("[" * 6_000, 400, "error parsing the body"),
        ("9" * 5_000, 400, "error parsing the body"),
        ({}, 422, "^body: Value error, give texts or tokens, one of them$"),
        ({"texts": [], "tokens": []}, 422, "one of them"),
        ({"texts": "Mira"}, 422, "^body.texts: Input should be a valid list$"),
        ({"texts": [1, "a", None]}, 422, "^body.texts.0: Input should be a valid string; body.texts.2: "),
        ({"tokens": ["Mira"]}, 422, "^body.tokens.0: Input should be a valid list$"),
        ({"texts": ["a"], "model": "/etc/passwd"}, 422, "^body.model: Extra inputs are not permitted$"),
        ({"texts": ["a"], "documents": [1, 2]}, 422, "^documents: expected one for each of 1 inputs, found 2$"),
        ({"texts": ["a"], "documents": [1.5]}, 422, "^body.documents.0.int: "),
        ('{"texts": ["\\ud800"]}', 422, "half of a surrogate pair is no character$"),
        ('{"texts": ["a"], "\\ud800": 1}', 422, "^body: Input should be a valid string, unable"),
        ({"texts": ["a" * MAX_CHARS]}, 413, "^401 characters, ends of texts and words included: at most 400$"),
        ({"texts": [""] * 401}, 413, "^401 characters"),
        ({"tokens": [["a"] * 150, [""] * 150]}, 413, "^450 characters"),
    ],
)
def test_a_wrong_body_is_told_in_a_sentence(client, tagger, body, status, told):
    content = json.dumps(body) if isinstance(body, dict) else body
    answer = client(tagger()).post("/entities", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["detail"]
    assert re.search(told, answer.json()["detail"])


def test_other_methods_paths_and_kinds_of_content_are_refused(client, tagger):
    http = client(tagger())
    assert http.get("/entities").status_code == http.post("/health").status_code == 405
    assert http.get("/docs").status_code == http.get("/../etc/passwd").status_code == 404
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert http.post("/entities", content='{"texts": ["a"]}', headers={"content-type": kind}).status_code == 422


def test_any_character_is_labelled(client, tagger):
    text = "\x00\u200b\ufffe \U0010ffff e\u0301 \u202eMira\u2028Toll \ufeff"
    answer = client(tagger()).post("/entities", json={"texts": [text], "tokens": None})
    assert answer.status_code == 200
    assert all(each["text"] == text[each["start"] : each["end"]] for each in answer.json()["entities"][0])


@pytest.fixture
def held(tagger, monkeypatch):
    """A tagger that labels when it is let, and tells how many rows it was given at once; `bad` is none that it can."""
    own, free, calls = tagger(), threading.Event(), []
    label = own.label

    def slow(rows, *, of_one_file):
        calls.append(len(rows))
        assert free.wait(20)
        if any("bad" in row.words for row in rows):
            raise InputError("the word 'bad' has no sub-word")
        return label(rows, of_one_file=of_one_file)

    monkeypatch.setattr(own, "label", slow)
    yield own, free, calls
    free.set()


def test_what_waits_is_labelled_together_and_one_that_fails_fails_alone(client, held, tagger, monkeypatch):
    from ner_lightning.predict import app

    own, free, calls = held
    queued, label = [], app._Queue.label
    monkeypatch.setattr(app._Queue, "label", lambda queue, rows: queued.append(rows) or label(queue, rows))
    http = client(own)
    texts = ["first", *(f"Mira {number} Toll" for number in range(9)), "bad"]
    with ThreadPoolExecutor(len(texts)) as pool:
        waiting = [pool.submit(http.post, "/entities", json={"texts": [texts[0]]})]
        until(lambda: calls == [1])
        waiting += [pool.submit(http.post, "/entities", json={"texts": [text], "documents": [1]}) for text in texts[1:]]
        until(lambda: len(queued) == 11)
        free.set()
        answers = [each.result() for each in waiting]
    assert calls == [1, 10, *[1] * 10]
    expected = tagger()(texts[:-1])
    assert [answer.json() for answer in answers[:-1]] == [{"entities": [each]} for each in expected]
    assert (answers[-1].status_code, answers[-1].json()["detail"]) == (422, "the word 'bad' has no sub-word")


def test_who_waits_too_long_and_who_comes_too_late_are_told(client, held):
    own, _, calls = held
    http = client(own, timeout=2.0)
    with ThreadPoolExecutor(66) as pool:
        waiting = [pool.submit(http.post, "/entities", json={"texts": ["first"]})]
        until(lambda: calls == [1])
        waiting += [pool.submit(http.post, "/entities", json={"texts": ["next"]}) for _ in range(65)]
        answers = [each.result() for each in waiting]
    told = [(answer.status_code, answer.json()["detail"]) for answer in answers]
    assert told.count((503, "too many requests wait: try again later")) == 1
    assert told.count((504, "not done after 2 seconds: send less at once")) == 65


def test_a_body_that_does_not_come_is_not_waited_for(make_app, tagger):
    sent = []

    async def receive():
        await asyncio.sleep(30)

    async def send(message):
        sent.append(message)

    app = make_app(tagger(), max_chars=10, timeout=0.1)
    asyncio.run(app({"type": "http", "method": "POST", "path": "/entities", "headers": []}, receive, send))
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"]) == {"detail": "the body did not come within 0.1 seconds"}


def test_without_the_packages_a_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(InputError, match=r'^serve needs fastapi and uvicorn: pip install "ner-lightning\[serve\]"$'):
        serve()


@pytest.mark.usefixtures("make_app")
def test_what_cannot_be_served_is_told_before_a_model_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", f"--port={port}"]) == 1
        assert re.search(rf"^error: --host=127.0.0.1 --port={port} cannot be listened at: ", capsys.readouterr().err)
    with pytest.raises(InputError, match=r"^--host=no\.such\.host --port=8000 cannot be listened at: "):
        serve(host="no.such.host")
    with pytest.raises(InputError, match=r"^--port=99999: give a number from 0 to 65535$"):
        serve(port=99999)
    with pytest.raises(InputError, match=r"^--timeout=0: give a number above 0$"):
        serve(timeout=0)


@pytest.fixture
def server(make_app, checkpoint):
    """A running server of its own process, and its port."""
    command = [sys.executable, "-m", "ner_lightning", "serve", f"--model={checkpoint}", "--port=0", "--device=cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        line = next(line for line in process.stderr if line.startswith("serving "))
        yield process, int(re.search(r" at http://127\.0\.0\.1:(\d+)/entities", line)[1])
        process.kill()


@pytest.mark.slow
def test_the_command_serves_until_it_is_stopped(server):
    process, port = server
    with closing(HTTPConnection("127.0.0.1", port)) as connection:
        assert ask(connection, ["Mira left."])[0] == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    assert process.stderr.read() == ""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of its own dependencies
def test_schemathesis_finds_nothing(make_app, tagger):
    """But that inputs are refused whose fields do not go together, which the schema has no words for."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    app = make_app(tagger(), max_chars=MAX_CHARS, timeout=20)
    schema, found = schemathesis.openapi.from_asgi("/openapi.json", app), []
    often = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    for operation in schema.get_all_operations():

        @often
        @given(operation.ok().as_strategy())
        def check(case):
            found.append(case.call_and_validate(excluded_checks=[positive_data_acceptance]).status_code)

        check()
    assert {200} < set(found) <= {200, 413, 422}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_ten_minutes_of_load_leave_memory_as_it_is(server):
    """With SERVE_LOAD_SECONDS, so many seconds."""
    process, port = server
    ends = time.monotonic() + float(os.environ.get("SERVE_LOAD_SECONDS", "600"))
    sizes, statuses = [], []

    def load(seed):
        numbers = random.Random(seed)
        with closing(HTTPConnection("127.0.0.1", port)) as connection:
            while time.monotonic() < ends:
                count, length = numbers.randrange(1, 20), numbers.randrange(1, 60)
                texts = [" ".join(numbers.choices(["Mira", "Toll", "left", "."], k=length)) for _ in range(count)]
                statuses.append(ask(connection, texts if numbers.random() < 0.9 else [None])[0])

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(load, seed) for seed in range(8)]
        while time.monotonic() < ends:
            time.sleep(1)
            sizes.append(int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]))
        for each in done:
            each.result()
    thirds = [statistics.median(sizes[n * len(sizes) // 3 : (n + 1) * len(sizes) // 3]) / 1024 for n in range(3)]
    print(f"{len(statuses):,} requests; MB in thirds of the time: {thirds}; largest {max(sizes) / 1024:.0f}")
    assert set(statuses) == {200, 422}
    assert thirds[2] < 1.02 * thirds[1]


def ask(connection, texts):
    connection.request("POST", "/entities", json.dumps({"texts": texts}), {"content-type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def until(condition):
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)
