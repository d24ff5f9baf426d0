"""What `compare` prints: tables of runs, and one sentence about their difference."""

import json
import subprocess
import sys

import pytest

from ner_lightning.__main__ import main

from .test_runs import drawn


@pytest.fixture
def shown(capsys):
    """Run `compare` and give what it prints."""

    def call(*args):
        assert main(["compare", *args]) == 0
        return capsys.readouterr().out

    return call


def error(capsys, *args):
    assert main(["compare", *args]) == 1
    return capsys.readouterr().err


def test_all_runs_of_a_folder_are_one_table_and_seeds_one_line_of_it(make_run, shown):
    for seed, val in ((1, 0.9), (2, 0.92)):
        make_run(f"runs/seeds_0/seed_{seed}/version_0", seed=seed, val=val, counts=drawn(seed))
    make_run("runs/version_0", val=0.95, config={"model": {"learning_rate": 0.1}})
    assert shown("runs").splitlines() == [
        "runs       seeds         val_f1        test_f1   95 % interval",
        "---------  -----  -------------  -------------  --------------",
        "version_0      1          95.00              -               -",
        "seeds_0        2  91.00 +- 1.41  80.11 +- 0.31  78.07 to 82.19",
        "",
        "runs       options that differ",
        "---------  -----------------------",
        "version_0  model.learning_rate=0.1",
        "seeds_0",
    ]


def test_the_seeds_of_one_set_are_a_table_with_the_best_first(make_run, shown):
    for seed, val in ((1, 0.9), (2, 0.92), (3, 0.91)):
        make_run(f"runs/version_{seed}", seed=seed, val=val, counts=drawn(seed) if seed < 3 else None)
    lines = shown("runs").splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["2", "3", "1", "mean", "sd"]
    assert lines[3].split() == ["3", "runs/version_3", "91.00", "-", "-"]
    assert lines[5].split()[1:3] == ["91.00", "80.11"]
    assert lines[6].split() == ["sd", "1.00", "0.31"]


def test_two_identical_sets_do_not_differ(make_run, shown):
    for name in ("a", "b"):
        for seed in (1, 2, 3):
            make_run(f"{name}/version_{seed}", seed=seed, counts=drawn(seed))
    lines = shown("a", "b").splitlines()
    assert lines[-2:] == ["no difference can be told: 0.00 to 0.00", "(over 40 documents)"]
    assert lines[-4].split() == ["all", "+0.00", "0.00", "to", "0.00"]


@pytest.mark.parametrize("better_first", [True, False])
def test_the_better_one_is_named_with_its_interval(make_run, shown, better_first):
    make_run("worse", counts=drawn(1, skill=0.5), config={"model": {"learning_rate": 0.1}})
    make_run("better", counts=drawn(2, skill=0.9))
    text = shown(*(["better", "worse"] if better_first else ["worse", "better"]))
    assert "\nbetter is better by 42.25 (38.32 to 46.45)\n" in text
    assert text.splitlines()[-1] == "(over 40 documents; other seeds may say otherwise: `seeds` trains more of them)"
    row = next(line for line in text.splitlines() if line.startswith("all"))
    numbers = "-42.25 -46.45 to -38.32" if better_first else "+42.25 38.32 to 46.45"
    assert row.split() == ["all", *numbers.split()]


def test_each_further_set_is_compared_with_the_first(make_run, shown):
    for seed, name in enumerate("abc"):
        make_run(name, seed=seed, counts=drawn(seed))
    text = shown("a", "b", "c")
    assert "\nb less a, test F1:\n" in text
    assert "\nc less a, test F1:\n" in text


def test_words_that_are_no_entities_have_a_difference_without_an_interval(make_run, shown):
    for name, accuracy in (("a", 0.9), ("b", 0.95)):
        make_run(name, labels={"f1": accuracy - 0.2, "accuracy": accuracy, "f1_NOUN": accuracy - 0.2})
    lines = shown("a", "b").splitlines()
    assert lines[-1] == "the difference is +5.00, without an interval: these labels mark no entities"
    assert lines[-5].split() == ["NOUN", "+5.00", "-"]
    assert lines[-4].split() == ["accuracy", "+5.00", "-"]


def test_scores_of_a_test_without_counts_are_shown_without_an_interval(make_run, shown):
    for name in ("a", "b"):
        make_run(name, labels={"f1": 0.8, "interval_low": 0.7, "interval_high": 0.9})
    assert shown("a", "b").endswith("without an interval: a test was made before counts were kept: run it again\n")


def test_runs_without_a_test_are_compared_on_validation_alone(make_run, shown):
    make_run("a", counts=drawn(1))
    make_run("b", val=0.95)
    told = "b less a: no test to compare, +5.00 in val_f1; run `python -m ner_lightning test --ckpt_path=b`\n"
    assert shown("a", "b").endswith("\n" + told)


def test_in_a_table_other_test_data_is_named(make_run, shown):
    make_run("runs/version_0", counts=drawn(1))
    make_run("runs/version_1", counts=drawn(1), test_file="other.conll", config={"model": {"learning_rate": 0.1}})
    assert shown("runs").splitlines()[-3:] == [
        "---------  -----------",
        "version_0  test.conll",
        "version_1  other.conll",
    ]


def test_other_data_and_no_folder_are_refused_in_a_sentence(make_run, capsys):
    make_run("a", counts=drawn(1))
    make_run("b", counts=drawn(1), test_file="other.conll")
    told = "error: b and a were tested on different data, other.conll and test.conll: test them on the same with "
    assert error(capsys, "a", "b").startswith(told)
    assert error(capsys, "a", "c") == "error: c: no such folder; give that of a run or of several, or a checkpoint\n"


def test_json_holds_what_the_tables_show(make_run, shown):
    for seed, name in enumerate("ab"):
        make_run(name, seed=seed, counts=drawn(seed))
    found = json.loads(shown("a", "b", "--json"))
    assert [each["set"] for each in found["sets"]] == ["a", "b"]
    first, second = found["sets"]
    assert first["test"] == {"mean": first["runs"][0]["test"]["f1"], "sd": None, "runs": 1, "interval": [
        first["runs"][0]["test"][f"interval_{end}"] for end in ("low", "high")]}  # fmt: skip
    (difference,) = found["differences"]
    assert (difference["set"], difference["less"]) == ("b", "a")
    assert difference["test"]["f1"]["value"] == pytest.approx(second["test"]["mean"] - first["test"]["mean"])
    assert set(difference["test"]) == {"f1", "f1_LOC", "f1_PER"}


def test_to_compare_takes_no_lightning_and_the_help_no_torch(make_run):
    make_run("a", counts=drawn(1))
    code = (
        "import sys\nfrom contextlib import suppress\nfrom ner_lightning.__main__ import main\n"
        "for command in ('compare', 'seeds'):\n    with suppress(SystemExit):\n        main([command, '--help'])\n"
        "heavy = {'torch', 'lightning', 'transformers', 'datasets'}\nassert not heavy & set(sys.modules)\n"
        "assert main(['compare', 'a']) == 0\nprint(heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "{'torch'}"
