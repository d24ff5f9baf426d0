"""The first word of the command line decides what runs; commands without a Trainer share one kind of parser."""

import os
import subprocess
import sys

import pytest

from ner_lightning.__main__ import main
from ner_lightning.errors import InputError, suggestion


@pytest.mark.parametrize(
    ("word", "hint"), [("pedict", "; did you mean predict?"), ("tset", "; did you mean test?"), ("xyz", "")]
)
def test_a_misspelt_command_is_told_what_there_is(word, hint, capsys):
    assert main([word, "notes.txt"]) == 2
    known = (
        "fit, validate, test, inspect, predict, serve, demo, export, push, seeds, tune, learning-curve, compare, report"
    )
    told = f"error: no command {word!r} (there are {known}){hint}\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["push", "runs", "--repoid=ner"], "unrecognized arguments: --repoid=ner; did you mean --repo_id?"),
        (["export", "--ouput", "x"], "unrecognized arguments: --ouput x; did you mean --output?"),
        (["predict", "notes.txt", "--devise=cpu"], "unrecognized arguments: --devise=cpu; did you mean --device?"),
        (["predict", "notes.txt", "--order=best"], "--order=best: expected input or uncertain"),
        (["push", "runs", "--qqqqq"], "unrecognized arguments: --qqqqq"),
    ],
)
def test_a_misspelt_option_or_value_is_told_what_was_meant(args, hint, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(args)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {hint}\n")


def test_a_suggestion_is_made_for_similar_words_alone():
    assert suggestion("fti", ["fit", "test"]) == "; did you mean fit?"
    assert suggestion("validation", ["fit", "test"]) == ""


@pytest.mark.parametrize("flag", ["--check", "--check=true"])
@pytest.mark.parametrize("first", [True, False])
def test_a_flag_needs_no_value_and_takes_no_word_behind_it(flag, first, tmp_path, capsys):
    args = [flag, str(tmp_path)] if first else [str(tmp_path), flag]
    assert main(["push", *args]) == 2
    assert capsys.readouterr().err == "error: --check belongs to --repo_id: give both, or leave it out\n"


@pytest.mark.parametrize(
    ("args", "other"),
    [
        (["predict", "notes.txt", "--max_per_document=10"], "--order=uncertain"),
        (["predict", "notes.txt", "--actors=2"], "--engine=ray"),
        (["export", "--int8"], "--onnx"),
        (["export", "--max_f1_loss=0.5"], "--onnx"),
        (["export", "--validation_file=dev.conll"], "--onnx"),
        (["push", "runs", "--revision=main"], "--repo_id"),
        (["push", "runs", "--private"], "--repo_id"),
        (["report", "runs", "--suspects_format=doccano"], "--suspects"),
    ],
)
def test_an_option_without_the_one_that_it_belongs_to_is_refused(args, other, capsys):
    assert main(args) == 2
    name = args[-1].partition("=")[0]
    assert capsys.readouterr().err == f"error: {name} belongs to {other}: give both, or leave it out\n"


@pytest.mark.parametrize("value", [["--forget=false"], ["--forget", "false"]])
def test_a_flag_may_have_a_value(value, tmp_path, capsys):
    assert main(["push", str(tmp_path), *value]) == 1
    assert "no pushes in this folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["push", "export", "predict"])
def test_the_help_of_a_command_is_the_docstring_of_its_function(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith(f"usage: python -m ner_lightning {command} ")
    assert "Run the code that comes with the model, where it needs it." in told


def test_an_error_is_one_sentence_and_with_debug_a_traceback(tmp_path, capsys):
    args = ["predict", str(tmp_path / "none.txt"), str(tmp_path / "more.txt")]
    assert main(args) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'none.txt'}: no such file\n"
    with pytest.raises(ValueError, match="no such file"):
        main([*args, "--debug"])


def test_what_a_terminal_would_obey_is_shown_as_escapes():
    told = str(InputError("a.conll:1: found tag 'B-\x1b[31m' and 'é\u2028\n\ud800'"))
    assert told == r"a.conll:1: found tag 'B-\x1b[31m' and 'é\u2028\n\ud800'"


def test_to_push_and_the_help_of_export_take_neither_torch_nor_lightning(tmp_path):
    code = (
        "import sys\nfrom contextlib import suppress\nfrom ner_lightning.__main__ import main\n"
        f"assert main(['push', {str(tmp_path)!r}]) == 1\n"
        "with suppress(SystemExit):\n    main(['export', '--help'])\n"
        "print({'torch', 'lightning', 'transformers', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("given", [None, "active"])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    program = "import sys, ner_lightning.__main__, os; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [given or "passive", "False"]


@pytest.mark.parametrize(("before", "after"), [(None, "16"), ("200", "200")])
def test_what_labels_for_long_keeps_few_kernels(monkeypatch, before, after):
    names = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
    for name in names:
        monkeypatch.setenv(name, str(before))  # so that it is put back
        if before is None:
            monkeypatch.delenv(name)
    assert main(["predict", "no.txt", "--model=none"]) == 1
    assert [os.environ[name] for name in names] == [after] * 2
