"""`predict` as a command and a function: any input, output in one piece or not at all, the scores that `test` gave."""

import io
import json
import os
import signal
import tracemalloc
from pathlib import Path
from threading import Thread

import pytest
from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score

from ner_lightning.__main__ import main
from ner_lightning.errors import InputError
from ner_lightning.predict import Tagger, files, predict
from ner_lightning.predict.entities import EntityReader
from ner_lightning.readers import ReadOptions, read
from ner_lightning.tags import to_iob2

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
TEXT = "Mira left Arvenholm, at last.\n\n The  Ostric Cup\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def label(here, checkpoint):
    """Write files and label them, from the folder of the test."""

    def label(contents, *, inputs=None, output=None, **options):
        for name, content in contents.items():
            Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return predict(inputs or list(contents), model=str(checkpoint), output=output, **options)

    return label


@pytest.fixture
def run(here, checkpoint, capsys):
    """Run the command; gives (code, out, err)."""

    def run(*args):
        code = main(["predict", f"--model={checkpoint}", *args])
        return code, *capsys.readouterr()

    return run


# what it is worth


def test_the_score_of_what_is_written_is_the_score_of_the_test(runs, checkpoint, conll_files, here):
    predict([str(conll_files / "test.conll")], model=str(runs), output="out.conll")
    predicted = [sentence.tags for sentence in read("out.conll")]
    gold = [sentence.tags for sentence in read("out.conll", options=ReadOptions(label_column_name=-2))]
    scores = json.loads(checkpoint.with_suffix(".test.json").read_text())["scores"]
    for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        assert score(gold, predicted, zero_division=0) == pytest.approx(scores[name], abs=1e-7)  # of float32
    assert accuracy_score(gold, predicted) == pytest.approx(scores["accuracy"], abs=1e-7)
    assert scores["accuracy"] > 0
    sentences = [sentence.words for sentence in read("out.conll")]
    tag = Tagger.load(runs, device="cpu")
    assert [[word.label for word in tagged] for tagged in tag.tags(sentences)] == predicted


@pytest.mark.parametrize("decoding", ["argmax", "constrained"])
def test_valid_tags_go_the_whole_way(decoding, conll_files, tiny_model, here, capsys):
    files = [f"--data.{split}_file={conll_files / f'{split}.conll'}" for split in ("train", "validation", "test")]
    options = [f"--model.model_name_or_path={tiny_model}", "--data.max_seq_length=9", *files, *QUIET]
    fit = [f"--model.decoding={decoding}", "--model.learning_rate=5e-2", "--trainer.max_epochs=1"]
    assert main(["fit", *options, *fit, "--trainer.log_every_n_steps=1"]) == 0
    assert main(["test", *options]) == 0
    assert main(["export", "--output=exported"]) == 0
    assert json.loads(Path("exported/config.json").read_text())["decoding"] == decoding
    labels = []
    for model, output in (("runs", "run.conll"), ("exported", "exported.conll")):
        predict([str(conll_files / "test.conll")], model=model, output=output)
        labels.append([sentence.tags for sentence in read(output)])
    predicted, gold = labels[0], [s.tags for s in read("run.conll", options=ReadOptions(label_column_name=-2))]
    assert labels[1] == predicted
    words = [sentence.words for sentence in read("run.conll")]
    assert [[word.label for word in tagged] for tagged in Tagger.load("exported").tags(words)] == predicted
    if decoding == "constrained":
        assert [to_iob2(tags, scheme="IOB2") for tags in predicted] == predicted
    scores = json.loads(Path("runs/version_0/checkpoints/best.test.json").read_text())["scores"]
    assert f1_score(gold, predicted, zero_division=0) == pytest.approx(scores["f1"], abs=1e-7)
    assert accuracy_score(gold, predicted) == pytest.approx(scores["accuracy"], abs=1e-7)


def test_entities_are_those_of_the_tagger(label, checkpoint):
    label({"in.txt": TEXT}, output="out.jsonl")
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == TEXT.splitlines()
    assert [row["entities"] for row in rows] == Tagger.load(checkpoint)(TEXT.splitlines())


# where to


def test_the_command_tells_the_file_on_standard_error(run, here):
    (here / "in.txt").write_text(TEXT)
    code, out, err = run("in.txt", "--output=out.jsonl")
    assert (code, out) == (0, "")
    assert err.startswith("10 words labelled, ")
    assert err.endswith(" words/s: out.jsonl\n")
    assert {path.name for path in here.iterdir()} == {"in.txt", "out.jsonl"}


def test_standard_output_has_the_same_as_a_file_and_nothing_else(run, here):
    (here / "in.txt").write_text(TEXT)
    run("in.txt", "--output=out.jsonl")
    for option in ([], ["--output=-"]):
        code, out, err = run("in.txt", *option)
        assert (code, out) == (0, (here / "out.jsonl").read_text())
        assert "words labelled" in err


def test_standard_input_is_text_and_its_copy_goes_with_it(run, stdin, here, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(here))
    stdin(TEXT)
    code, out, _ = run("-")
    assert code == 0
    assert [json.loads(line)["text"] for line in out.splitlines()] == TEXT.splitlines()
    assert not list(here.iterdir())


def test_standard_input_of_another_format(run, stdin):
    stdin("# x\nMira NNP\nleft VBD\n")
    code, out, _ = run("-", "--input_format=conll", "--comment_prefix=#")
    assert (code, out.splitlines()[0]) == (0, "# x")
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["Mira", "left"]


def test_an_error_in_standard_input_names_it(run, stdin):
    stdin('{"text": "Mira"}\n3\n')
    code, out, err = run("-", "--input_format=json")
    assert (code, out) == (1, "")
    assert err.startswith("error: standard input:2: expected a JSON object, found")


def test_who_types_is_told_how_to_end(run, stdin):
    stdin("Mira left\n", terminal=True)
    assert run("-")[2].startswith("reading text from standard input, until Ctrl-D\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_read_once(here, checkpoint):
    os.mkfifo("pipe.txt")
    writer = Thread(target=Path("pipe.txt").write_text, args=("Mira left\n",))
    writer.start()
    assert predict(["pipe.txt"], model=str(checkpoint), output="out.jsonl") == 2
    writer.join()
    assert json.loads(Path("out.jsonl").read_text())["text"] == "Mira left"


@pytest.mark.parametrize(("name", "text", "colour"), [("in.txt", TEXT, True), ("in.conll", "Mira NNP\n", False)])
def test_a_terminal_shows_text_in_colour_and_columns_as_they_are(label, stdout, monkeypatch, name, text, colour):
    monkeypatch.setattr(EntityReader, "render", lambda reader, labelled, colour: "\033[30;48;5;")
    written = stdout(terminal=True)
    label({name: text})
    assert ("\033[30;48;5;" in written.getvalue().decode()) == colour


def test_a_reader_that_has_seen_enough_ends_it_quietly(label, monkeypatch, capsys):
    reader, end = os.pipe()
    os.close(reader)
    with open(end, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        with pytest.raises(SystemExit) as exit_info:
            label({"in.txt": TEXT})
        monkeypatch.undo()
    assert exit_info.value.code == 141
    assert "BrokenPipe" not in capsys.readouterr().err


def test_several_inputs_become_files_of_a_folder_with_suffixes_that_say_what_they_are(label):
    words = label({"a.txt": TEXT, "b.conllu": "1\tMira\n", "c.testb": "Toll X\n", "d.csv": "text\nHal\n"}, output="out")
    assert words == 13
    assert {path.name for path in Path("out").iterdir()} == {"a.jsonl", "b.conllu", "c.testb", "d.csv"}
    assert label({"a.txt": TEXT}, output="out", format="label-studio") == 10
    assert len(json.loads(Path("out/a.json").read_text())) == 3
    label({"a.txt": TEXT}, output="out", format="colour")
    label({"a.txt": TEXT}, output="out", format="conll")
    assert Path("out/a.txt").is_file()
    assert Path("out/a.conll").is_file()


def test_several_inputs_of_lines_follow_each_other_on_standard_output(label, capsys):
    label({"a.txt": "Mira\n", "b.jsonl": '{"text": "Toll"}\n'})
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["Mira", "Toll"]


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (["a.txt", "b.conll"], None, r"several inputs of this form make no file together: give a folder as --output"),
        (["a.txt", "b.conll"], "a.txt", r"--output=a.txt is a file, and there are 2 inputs: give a folder"),
        (
            ["a.txt", "a.jsonl"],
            "out",
            r"--output=out: inputs in a folder need names of their own, found a.txt, a.jsonl",
        ),
    ],
)
def test_several_inputs_that_make_no_outputs_are_refused(label, inputs, output, message):
    with pytest.raises(InputError, match=message):
        label({"a.txt": "x\n", "b.conll": "x y\n", "a.jsonl": '{"text": "x"}\n'}, inputs=inputs, output=output)


def test_the_packaged_sample_is_labelled_from_any_folder(run):
    code, out, err = run("ner_lightning/quickstart/test.conll", "--text_column_name=0")
    assert code == 0, err
    assert len(out.splitlines()) == 4563


# what is refused


@pytest.mark.parametrize(
    "name", ["best.ckpt", "model.safetensors", "config.yaml", "thesis.tex", "config.json", "vocab.txt", "CONFIG.YAML"]
)
def test_a_file_that_may_be_no_prediction_is_never_the_output(label, name):
    Path(name).write_text("all of it")
    with pytest.raises(InputError, match=rf"--output={name} is there already and is not replaced"):
        label({"in.txt": TEXT}, output=name)
    assert Path(name).read_text() == "all of it"


@pytest.mark.parametrize("name", ["out", "out.txt", "out.CONLL", "out.tsv"])
def test_a_former_prediction_is_replaced(label, name):
    for text in ("Mira left.\n", "Mira left.\nToll won.\n"):
        label({"in.txt": text}, output=name)
    assert len(Path(name).read_text().splitlines()) == 2


@pytest.mark.parametrize("output", ["notes.txt", "link.txt", "model.txt", "."])
def test_what_is_read_is_never_the_output(here, checkpoint, output):
    Path("notes.txt").write_text("Mira left.\n")
    Path("link.txt").symlink_to("notes.txt")
    Path("model.txt").symlink_to(checkpoint)
    before = checkpoint.read_bytes()
    with pytest.raises(InputError, match=r"--output=.* is a file that is read: give another one"):
        predict(["notes.txt"], model="model.txt", output=output, format="colour")
    assert Path("notes.txt").read_text() == "Mira left.\n"
    assert checkpoint.read_bytes() == before


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("no/where.jsonl", r"no/where.jsonl: cannot be written: No such file or directory"),
        ("/dev/null", r"/dev/null: expected a file to write, found a device"),
    ],
)
def test_an_output_that_cannot_be_written_is_said_before_anything_is_done(label, monkeypatch, output, message):
    monkeypatch.setattr(Tagger, "load", None)
    with pytest.raises(InputError, match=message):
        label({"in.txt": TEXT}, output=output)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.conll", "", r"in.conll: the file is empty; expected lines of columns"),
        ("in.conll", "Mira NNP\nleft\n", r"in.conll:2: expected 2 columns, as on line 1, found 1 column"),
        ("in.txt", "", r"in.txt: the file is empty; expected one sentence or paragraph a line"),
        ("in.txt", b"Mira\nTarnb\xff\n", r"in.txt:2: expected UTF-8, found byte 0xff at position 6"),
        ("in.txt", "Mira".encode("utf-16"), r"in.txt: expected text in UTF-8, found UTF-16; convert it"),
        ("in.ann", "T1\tPER 0 4\tMira\n", r"in.ann: the annotations of brat alone; give the .txt beside it"),
        ("in.jsonl", "\n \n", r"in.jsonl: expected "),
        ("in.jsonl", '{"text": "a"}\n[1]\n', r"in.jsonl:2: expected a JSON object, found"),
        ("in.jsonl", '{"a": 1, "b": 2}\n', r"in.jsonl:1: expected a field tokens.*, found a, b"),
        ("in.jsonl", '{"text": "a"}\n{"tokens": []}\n', r"in.jsonl:2: expected a text in text, found None"),
        ("in.jsonl", '{"text": "\\ud83d"}\n', r"in.jsonl:1: expected text, found half of a surrogate pair"),
        ("in.csv", "text\nx,y\n", r"in.csv:2: expected 1 cells as in the header, found 2"),
        ("in.parquet", b"PAR1\x15", r"in.parquet: expected a parquet file"),
        ("in.txt.gz", b"\x1f\x8b", r"in.txt.gz: expected text in UTF-8, found a gzip file; unpack it"),
    ],
)
def test_what_is_not_well_formed_is_said_in_a_sentence_before_a_model_is_loaded(
    label, monkeypatch, name, content, message
):
    monkeypatch.setattr(Tagger, "load", None)
    with pytest.raises(InputError, match=message):
        label({name: content}, output="out.jsonl")
    assert not Path("out.jsonl").exists()


def test_the_second_input_is_looked_at_before_the_first_is_labelled(label):
    with pytest.raises(InputError, match=r"b.conll: the file is empty"):
        label({"a.txt": TEXT, "b.conll": ""}, output="out")
    assert not Path("out").exists()


def test_a_missing_file_is_one_sentence(run):
    code, _, err = run("none.txt")
    assert (code, err) == (1, "error: none.txt: no such file\n")


def test_a_text_that_looks_like_columns_is_columns_unless_it_is_called_text(run, here):
    (here / "in.txt").write_text("Mira NNP\nleft VBD\n. .\n\n" * 7)
    assert run("in.txt")[1].startswith("Mira NNP ")
    assert run("in.txt", "--input_format=text")[1].startswith('{"text": "Mira NNP"')


@pytest.mark.parametrize("args", [["in.txt", "--ouput=x"], []])
def test_wrong_usage_is_2(run, args):
    with pytest.raises(SystemExit) as exit_info:
        run(*args)
    assert exit_info.value.code == 2


def test_the_signature_is_the_help(run, capsys):
    with pytest.raises(SystemExit):
        run("--help")
    printed = capsys.readouterr().out
    for option in ("--model", "--output", "--input_format", "--precision", "--trust_remote_code", "--debug"):
        assert option in printed
    assert "standard output" in printed


# nothing half written


def test_a_link_stays_a_link(label):
    Path("link").symlink_to("real.jsonl")
    label({"in.txt": "Mira\n"}, output="link")
    assert Path("link").is_symlink()
    assert json.loads(Path("real.jsonl").read_text())["text"] == "Mira"


def interrupt():
    raise KeyboardInterrupt


def fail():
    raise RuntimeError("in the midst of it")


@pytest.mark.parametrize(
    ("act", "ends"),
    [(fail, RuntimeError), (interrupt, 130), (lambda: os.kill(os.getpid(), signal.SIGTERM), SystemExit)],
)
def test_what_ends_in_the_midst_leaves_nothing(run, here, monkeypatch, act, ends):
    (here / "in.txt").write_text("Mira\nleft\nToll\n")
    (here / "out.jsonl").write_text("before\n")
    render = EntityReader.as_dicts
    seen = []

    def stop(reader, labelled):
        seen.append(labelled)
        if len(seen) == 2:
            act()
        return render(reader, labelled)

    monkeypatch.setattr(EntityReader, "as_dicts", stop)
    handler = signal.getsignal(signal.SIGTERM)
    if ends == 130:
        assert run("in.txt", "--output=out.jsonl")[0] == 130
    else:
        with pytest.raises(ends):
            run("in.txt", "--output=out.jsonl")
    assert signal.getsignal(signal.SIGTERM) == handler
    assert {path.name for path in here.iterdir()} == {"in.txt", "out.jsonl"}
    assert (here / "out.jsonl").read_text() == "before\n"


def test_a_file_that_changes_on_the_way_is_refused(label, monkeypatch):
    write = files.write

    def change(rows, file, **options):
        write(rows, file, **options)
        Path("in.txt").write_text("another text\n")

    monkeypatch.setattr(files, "write", change)
    with pytest.raises(InputError, match=r"in.txt: the file was changed while it was read; predict it again"):
        label({"in.txt": TEXT}, output="out.jsonl")
    assert not Path("out.jsonl").exists()


# any size


@pytest.mark.long
def test_memory_stays_flat_however_long_the_file_is(here, checkpoint):
    def peak(lines):
        with open("in.txt", "w") as file:
            file.writelines("Mira left Arvenholm.\n" for _ in range(lines))
        tracemalloc.start()
        predict(["in.txt"], model=str(checkpoint), output="out.jsonl")
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(1)  # what is imported once
    assert peak(70_000) < peak(10_000) + 1_000_000  # 16 bytes a row; a thread of the test runner may have as much
    assert len(Path("out.jsonl").read_text().splitlines()) == 10_000


def test_the_bar_is_shown_on_a_terminal_alone(label, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", shown := Terminal())
    label({"in.txt": TEXT}, output="out.jsonl")
    assert "0/3" in shown.getvalue()
    monkeypatch.setattr("sys.stderr", shown := io.StringIO())
    label({"in.txt": TEXT}, output="out.jsonl")
    assert "0/3" not in shown.getvalue()
