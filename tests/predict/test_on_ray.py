"""`predict --engine=ray`: what one process writes, whoever dies meanwhile."""

import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from ner_lightning.__main__ import main
from ner_lightning.errors import InputError
from ner_lightning.predict import predict

TEXT = "Mira left Arvenholm, at last.\n\n The  Ostric\x0cCup\u2028of all Velm\n" * 40


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path


def rows(folder):
    """The rows of part files in the order of their ids, and the ids."""
    lines = [json.loads(line) for path in Path(folder).glob("*.jsonl") for line in path.read_text().split("\n")[:-1]]
    lines.sort(key=lambda row: row["row_id"])
    return lines, [row.pop("row_id") for row in lines]


def assert_as_one_process(folder, one):
    found, ids = rows(folder)
    expected = [json.loads(line) for line in Path(one).read_text().split("\n")[:-1]]
    assert len(ids) == len(set(ids)) == len(expected)
    # the last of the six digits of a score depends on what is in a batch together
    for row in (*found, *expected):
        for entity in row["entities"]:
            entity["score"] = pytest.approx(entity["score"], abs=2e-6)
    assert found == expected


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["in.txt", "--engine=ray"], "--engine=ray reads and writes no streams: give files, and a folder or URL"),
        (["in.txt", "--engine=ray", "--output=out", "--limit=3"], "--engine=ray labels all rows in the order of their"),
        (
            ["in.txt", "--engine=ray", "--output=out", "--format=conll"],
            "--engine=ray makes JSON lines of text and JSON",
        ),
        (["in.txt", "--engine=ray", "--output=out", "--actors=0"], "--actors=0: give a number from 1"),
    ],
)
def test_what_does_not_go_together_is_told(args, told, capsys):
    assert main(["predict", *args]) == 2
    assert told in capsys.readouterr().err


def test_without_ray_it_is_told_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "ner_lightning.predict.on_ray", raising=False)
    monkeypatch.delattr("ner_lightning.predict.on_ray", raising=False)
    assert main(["predict", "in.txt", "--engine=ray", "--output=out"]) == 1
    assert capsys.readouterr().err == 'error: --engine=ray: install what it needs: pip install "ner-lightning[ray]"\n'


@pytest.fixture
def on_ray():
    pytest.importorskip("ray")
    from ner_lightning.predict import on_ray

    return on_ray


@pytest.mark.parametrize("inputs", [["folder"], ["a.txt", "b.jsonl"]])
def test_files_of_no_one_format_are_refused(inputs, on_ray):
    with pytest.raises(InputError, match="one of them at a time: give --input_format=text, json or parquet for"):
        predict(inputs, output="out", engine="ray")


def test_an_output_with_other_files_is_refused(here, on_ray):
    (here / "out").mkdir()
    (here / "out/part.jsonl").touch()
    with pytest.raises(InputError, match="out holds other files, or was predicted with other options"):
        predict(["in.txt"], output="out", engine="ray")


def test_a_model_that_reads_neighbours_is_refused(here, on_ray, monkeypatch, tagger):
    with_context = tagger()
    with_context.encoder.context = "document"
    monkeypatch.setattr(on_ray.Tagger, "load", lambda **_: with_context)
    with pytest.raises(InputError, match="this model reads sentences among their neighbours"):
        predict(["in.txt"], output="out", engine="ray")


@pytest.mark.filterwarnings("ignore")  # of Ray itself
def test_a_gpu_that_is_not_there_is_not_waited_for(here, on_ray, monkeypatch, tagger):
    monkeypatch.setattr(on_ray.Tagger, "load", lambda **_: tagger())
    monkeypatch.setattr(on_ray, "_start", lambda actors: None)
    monkeypatch.setattr(on_ray.ray, "cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(InputError, match="--device=cuda: Ray knows of no GPU here"):
        predict(["in.txt"], output="out", engine="ray", device="cuda")


def test_a_field_that_is_ours_is_refused(here, on_ray):
    import pyarrow as pa

    labeller = object.__new__(on_ray._Labeller)
    labeller._format = "json"
    block = pa.table({"row_id": ["notes.jsonl:0000000007"], "line": ['{"row_id": 1, "text": "Mira"}']})
    with pytest.raises(InputError, match=r"notes\.jsonl:7: there is a field row_id, which the prediction would have"):
        list(labeller._records(block))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray itself
def test_two_actors_write_what_one_process_does(here, on_ray, checkpoint):
    ray = pytest.importorskip("ray")
    (here / "in.txt").write_text(TEXT)
    predict(["in.txt"], model=str(checkpoint), output="one.jsonl")
    try:
        with FileLock("out/.lock"), pytest.raises(InputError, match="out: another process predicts there; wait for it"):
            predict(["in.txt"], model=str(checkpoint), output="out", engine="ray", actors=2)
        assert predict(["in.txt"], model=str(checkpoint), output="out", engine="ray", actors=2) == 120
    finally:
        ray.shutdown()
    assert_as_one_process("out", "one.jsonl")
    assert not list(Path("out").glob("_unfinished*"))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of Ray itself
def test_what_ray_reads(here, on_ray, checkpoint, capsys):
    """Folders, URLs, packed files, tables; and an error in a row is one sentence."""
    import pyarrow as pa
    import ray
    from pyarrow import parquet

    texts = TEXT.splitlines()
    (here / "folder").mkdir()
    for number in range(2):
        records = [{"n": n if n % 2 else "x", "text": text} for n, text in enumerate(texts)]
        (here / f"folder/{number}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    parquet.write_table(pa.table({"tokens": [text.split() for text in texts if text]}), "in.parquet")
    parquet.write_table(pa.table({"prediction": [1]}), "taken.parquet")
    (here / "packed.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    (here / "in.txt").write_text(TEXT)
    (here / "bad.jsonl").write_text('{"text": "a"}\n{"text": 3}\n')
    (here / "empty.txt").mkdir()
    (here / "bad.txt").write_bytes(b"a\n\xff\n")
    options = {"model": str(checkpoint), "engine": "ray", "actors": 1}
    try:
        for name in ("0.jsonl", "1.jsonl"):
            predict([f"folder/{name}"], model=str(checkpoint), output=name)
        Path("both.jsonl").write_text(Path("0.jsonl").read_text() + Path("1.jsonl").read_text())
        predict([f"file://{here}/folder"], output="url", input_format="json", **options)
        assert_as_one_process("url", "both.jsonl")
        predict(["packed.txt.gz"], output="packed", **options)
        predict(["in.txt"], model=str(checkpoint), output="one.jsonl")
        assert_as_one_process("packed", "one.jsonl")
        predict(["in.parquet"], output="table", **options)
        table = parquet.read_table("table").sort_by("row_id").drop_columns(["row_id"])
        predict(["in.parquet"], model=str(checkpoint), output="one.parquet")
        assert table.to_pylist() == parquet.read_table("one.parquet").to_pylist()
        for name, told in (
            ("bad.jsonl", "bad.jsonl:2: expected a list of words in text, found 3"),
            ("bad.txt", "bad.txt:2: expected UTF-8, found byte 0xff"),
            ("none.txt", "none.txt: no such file or folder"),
            ("empty.txt", "No files found under"),
            ("taken.parquet", "taken.parquet: there is a field prediction"),
        ):
            with pytest.raises(InputError, match=told):
                predict([name], output=f"of-{name}", **options)
    finally:
        ray.shutdown()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("killed", ["actor", "driver"])
def test_whoever_is_killed_no_row_is_lost_and_none_comes_twice(killed, here, on_ray, checkpoint):
    psutil = pytest.importorskip("psutil")
    (here / "in.txt").write_text(TEXT * 500)
    predict(["in.txt"], model=str(checkpoint), output="one.jsonl")
    options = [f"--model={checkpoint}", "--output=out", "--engine=ray", "--actors=2"]
    command = [sys.executable, "-m", "ner_lightning", "predict", "in.txt", *options]
    run = subprocess.Popen(command)
    while len(list(Path("out").glob("*.jsonl"))) < 2:
        assert run.poll() is None, "it ended before anybody was killed"
        time.sleep(0.1)
    if killed == "driver":
        run.kill()
        run.wait()
        time.sleep(10)  # its processes find out
        assert list(Path("out").glob("_unfinished*"))
        subprocess.run(command, check=True)
    else:
        of_actors = [
            each for each in psutil.Process(run.pid).children(recursive=True) if "_Labeller" in each.cmdline()[0]
        ]
        of_actors[0].kill()
        assert run.wait() == 0
    assert_as_one_process("out", "one.jsonl")
    assert not list(Path("out").glob("_unfinished*"))
