"""The loop of the guide: a corpus, a model, pre-annotations, what people make of them, the next model."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from ner_lightning.__main__ import main
from ner_lightning.readers import ReadOptions, read

GUIDE = (Path(__file__).parents[2] / "docs/guides/annotate.md").read_text(encoding="utf-8")
LABELLED = [
    "Mira Toll left Tarnby .|PER 0 9|LOC 15 21",
    "Edda Voss saw Keldra .|PER 0 9|LOC 14 20",
    "It rained .",
    "Jon Brask ran .|PER 0 9",
]
POOL = "Hal Minnow left Sorn.\nIt is “Pell”, naïve.\n\nMira Toll likes Velan.\nmira toll likes VELAN!\n"
CORRECT = {"Hal Minnow": "PER", "Sorn": "LOC", "Velan": "LOC", "VELAN": "LOC"}  # what people mark, and nothing else


@pytest.fixture
def loop(tmp_path, monkeypatch, tiny_model):
    """Run the commands of the guide; `annotate` makes an export of the tasks."""
    monkeypatch.chdir(tmp_path)
    for name in ("labelled", "dev"):
        with open(f"{name}.jsonl", "w", encoding="utf-8") as file:
            for line in LABELLED:
                text, *marked = line.split("|")
                entities = [dict(zip(("label", "start", "end"), one.split(), strict=True)) for one in marked]
                entities = [{**one, "start": int(one["start"]), "end": int(one["end"])} for one in entities]
                file.write(json.dumps({"text": text, "entities": entities}) + "\n")
    Path("pool.txt").write_text(POOL, encoding="utf-8")
    fit = [f"--model.model_name_or_path={tiny_model}", "--trainer.max_steps=2", "--trainer.accelerator=cpu"]
    fit += ["--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]

    def run(annotate):
        before, after, *_ = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
        for commands in (before, after):
            for command in commands.splitlines():
                args = shlex.split(command.removeprefix("python -m ner_lightning "))
                more = {"fit": fit, "inspect": fit[:1]}.get(args[0], [])
                assert main([*args, *more]) == 0, command
            if commands == before:
                tasks = json.loads(Path("tasks.json").read_text(encoding="utf-8"))
                Path("export.json").write_text(json.dumps(annotate(tasks)), encoding="utf-8")
        return tasks

    return run


def corrected(task):
    """Regions as Label Studio gives them back: those of the prediction, mended by a person."""
    text = task["data"]["text"]
    (prediction,) = task["predictions"]
    region = {"from_name": "label", "to_name": "text", "type": "labels", "origin": "prediction"}
    kept = [{**one, "origin": "prediction"} for one in prediction["result"] if one["value"]["text"] in CORRECT]
    known = {one["value"]["text"] for one in kept}
    for one in kept:
        one["value"] = {**one["value"], "labels": [CORRECT[one["value"]["text"]]]}
    for name, type_ in CORRECT.items():
        if name not in known and (start := text.find(name)) >= 0:
            value = {"start": start, "end": start + len(name), "text": name, "labels": [type_]}
            kept.append({**region, "id": f"new{start}", "origin": "manual", "value": value})
    return kept


def as_documented(tasks):
    """What Label Studio's documentation shows of an export as JSON; the last task was left."""
    exported = []
    for number, task in enumerate(tasks, start=1):
        annotation = {
            "id": 100 + number,
            "completed_by": 1,
            "result": corrected(task),
            "was_cancelled": False,
            "ground_truth": False,
            "created_at": "2026-01-01T00:00:00.000000Z",
            "updated_at": "2026-01-01T00:00:00.000000Z",
            "draft_created_at": None,
            "lead_time": 4.2,
            "prediction": {},
            "result_count": 1,
            "unique_id": "7f0e",
            "import_id": None,
            "last_action": None,
            "task": number,
            "project": 1,
            "updated_by": 1,
            "parent_prediction": None,
            "parent_annotation": None,
            "last_created_by": None,
        }
        more = {"file_upload": "1-tasks.json", "drafts": [], "predictions": [number], "meta": {}, "inner_id": number}
        annotations = [annotation] if number < len(tasks) else []
        exported.append({"id": number, "annotations": annotations, **more, "data": task["data"], "project": 1})
    return exported


def check_export(tasks, left):
    """The words that were marked are what is read, in the order of the tasks."""
    texts = [task["data"]["text"] for task in tasks]
    assert sorted(texts) == sorted(filter(None, POOL.splitlines()))
    assert texts[-1] in POOL.splitlines()[-2:]  # a near-duplicate
    rows = {row.text: row for row in read("export.json", options=ReadOptions())}
    for text in texts[: len(texts) - left]:
        found = {word: tag for word, tag in zip(rows[text].words, rows[text].tags, strict=True) if tag != "O"}
        expected = {}
        for name, type_ in CORRECT.items():
            if name in text:
                expected |= {word: f"{'I' if n else 'B'}-{type_}" for n, word in enumerate(name.split())}
        assert found == expected


@pytest.mark.slow
def test_the_loop_of_the_guide_with_the_export_that_label_studio_documents(loop, caplog):
    check_export(loop(as_documented), left=1)
    assert "1 of 8 rows have no annotation and are left out, the first is export.json:" in caplog.text
    assert Path("runs/version_1/checkpoints/best.ckpt").is_file()


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("label-studio") is None, reason="label-studio is not installed")
def test_the_loop_of_the_guide_with_label_studio_itself(loop, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    user = {"USERNAME": "mira@example.org", "PASSWORD": "velkonia-1", "USER_TOKEN": "0123456789" * 4}
    names = {**user, "BASE_DATA_DIR": str(tmp_path / "studio"), "ENABLE_LEGACY_API_TOKEN": "true"}
    settings = {f"LABEL_STUDIO_{name}": value for name, value in names.items()}
    quiet = {"COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": ""}
    command = ["label-studio", "start", "--no-browser", "--internal-host=127.0.0.1", f"--port={port}"]
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # it has its own environment
    opener = build_opener(ProxyHandler({}))

    def call(path, body=None):
        headers = {"Authorization": f"Token {user['USER_TOKEN']}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with opener.open(Request(f"http://127.0.0.1:{port}{path}", data, headers), timeout=60) as answer:
            return json.loads(answer.read())

    def annotate(tasks):
        (view,) = re.findall(r"```xml\n(.*?)```", GUIDE, re.DOTALL)
        project = call("/api/projects", {"title": "pool", "label_config": view})["id"]
        call(f"/api/projects/{project}/import", tasks)
        for task in call(f"/api/tasks?project={project}&fields=all")["tasks"]:
            call(f"/api/tasks/{task['id']}/annotations", {"result": corrected(task)})
        return call(f"/api/projects/{project}/export?exportType=JSON")

    with (tmp_path / "studio.log").open("w") as log:
        server = subprocess.Popen(command, env={**outside, **settings, **quiet}, stdout=log, stderr=log)
    try:
        for _ in range(600):
            try:
                opener.open(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (URLError, OSError):
                assert server.poll() is None, (tmp_path / "studio.log").read_text()
                time.sleep(1)
        check_export(loop(annotate), left=0)
    finally:
        server.terminate()
        server.wait(timeout=30)
