"""Several seeds of one training: which, each as its own process, never twice, and what is left where one fails."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from ner_lightning import seeds as module
from ner_lightning.__main__ import main
from ner_lightning.intervals import f1_interval
from ner_lightning.processes import run_command
from ner_lightning.reports.runs import read_runs


@pytest.fixture
def options(tmp_path, monkeypatch, conll_files, tiny_model):
    """Options of `fit` on the invented corpus with the tiny model, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    data = [f"--data.{split}_file={conll_files / f'{split}.conll'}" for split in ("train", "validation", "test")]
    few = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--model.learning_rate=0.01"]
    return [*data, f"--model.model_name_or_path={tiny_model}", *few]


@pytest.fixture
def child(options, monkeypatch):
    """Stand in for the processes: what each is called with, and the exit codes that they give, 0 at the end."""
    calls, codes = [], []
    config = {
        "seed_everything": 42,
        "ckpt_path": None,
        "data": {"train_file": "train.conll", "test_file": "test.conll"},
        "trainer": {"default_root_dir": "runs", "accelerator": "cpu", "devices": [1]},
    }

    def run(title, args):
        calls.append(args)
        code = codes.pop(0) if codes else 0
        root = next((arg.partition("=")[2] for arg in args if "default_root_dir" in arg), None)
        if root and code != 2:
            (Path(root) / f"version_{len(list(Path(root).glob('version_*')))}" / "checkpoints").mkdir(parents=True)
        return code

    monkeypatch.setattr(module, "config_of_fit", lambda fit_options, command: json.loads(json.dumps(config)))
    monkeypatch.setattr(module, "run_command", run)
    monkeypatch.setattr(module, "read_runs", lambda folder: [])
    monkeypatch.setattr(module, "group", lambda runs, place: [])
    return calls, codes, config


def test_each_seed_is_trained_and_then_tested_where_it_was_trained(child):
    calls, _, _ = child
    assert main(["seeds", "--config", "some.yaml", "--seeds", "2", "--model.learning_rate", "1e-3"]) == 0
    given = ["--config", "some.yaml", "--model.learning_rate", "1e-3"]
    expected = []
    for seed in (42, 43):
        own = f"runs/seeds_0/seed_{seed}"
        expected.append(["fit", *given, f"--seed_everything={seed}", f"--trainer.default_root_dir={own}"])
        expected.append(["test", f"--ckpt_path={own}", "--trainer.accelerator=cpu", "--trainer.devices=[1]"])
    assert calls == expected


def test_seeds_are_named_or_counted_from_that_of_the_options(child):
    calls, _, config = child
    config["seed_everything"] = 7
    assert main(["seeds", "--seeds=3", "--test=false", "--config=x"]) == 0
    assert main(["seeds", "--seeds=100,5", "--test", "false", "--config=x"]) == 0
    assert [arg for args in calls for arg in args if "seed_e" in arg] == [
        f"--seed_everything={seed}" for seed in (7, 8, 9, 100, 5)
    ]
    assert [path.name for path in Path("runs").iterdir()] == ["seeds_0"]  # more seeds of the same set


@pytest.mark.parametrize(("data", "tested"), [
    ({"train_file": "a", "test_file": None}, False), ({"train_file": "a", "test_file": "b"}, True),
    ({"train_file": None, "test_file": None}, True)])  # fmt: skip
def test_a_test_needs_test_data(child, data, tested):
    child[2]["data"] = data
    assert main(["seeds", "--seeds=1", "--config=x"]) == 0
    assert len(child[0]) == 1 + tested


def test_the_same_command_does_nothing_twice_and_tries_again_what_failed(child, capsys):
    calls, codes, _ = child
    command = ["seeds", "--seeds=3", "--config=x"]
    codes += [0, 0, -9, 0, 1]  # of seed 43 the training was killed, of 44 the test failed
    assert main(command) == 1
    told = "failed: fit of seed 43, test of seed 44 (see above; the same command tries again)\n"
    assert capsys.readouterr().err == told
    calls.clear()
    assert main(command) == 0
    assert [(args[0], any("43" in arg for arg in args)) for args in calls] == [
        ("fit", True),
        ("test", True),
        ("test", False),
    ]
    calls.clear()
    assert main(command) == 0
    assert calls == []


def test_a_seed_that_was_cut_off_goes_on_from_its_last_checkpoint(child):
    calls, codes, _ = child
    codes.append(1)
    assert main(["seeds", "--seeds=1", "--config=x"]) == 1
    limits = {"config": "trainer: {max_epochs: 3, max_steps: -1}"}
    state = {"data": {"epoch": 2, "dataset_commit": None, "given_labels": None}}
    last = {"state_dict": {}, "hyper_parameters": {"labels": [], "model_name_or_path": ""}, "global_step": 8}
    torch.save(last | limits | state, "runs/seeds_0/seed_42/version_0/checkpoints/last.ckpt")
    codes.append(1)
    assert main(["seeds", "--seeds=1", "--config=x"]) == 1
    assert calls[1][-1] == "--ckpt_path=last"
    assert "--ckpt_path=last" not in calls[0]
    # killed after its last checkpoint, before it ended: fit would refuse to go on
    state["data"]["epoch"] = 3
    torch.save(last | limits | state, "runs/seeds_0/seed_42/version_0/checkpoints/last.ckpt")
    calls.clear()
    assert main(["seeds", "--seeds=1", "--config=x"]) == 0
    assert [args[0] for args in calls] == ["test"]


def test_other_options_are_another_set(child):
    _, _, config = child
    assert main(["seeds", "--seeds=1", "--config=x"]) == 0
    config["data"]["train_file"] = "other.conll"
    assert main(["seeds", "--seeds=1", "--config=x"]) == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["seeds_0", "seeds_1"]


def test_what_is_refused_once_is_not_tried_with_other_seeds(child):
    calls, codes, _ = child
    codes.append(2)
    assert main(["seeds", "--seeds=3", "--config=x"]) == 1
    assert len(calls) == 1
    assert not list(Path("runs").iterdir())


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--seeds=0"], "--seeds=0: give a number from 1"),
        (["--seeds=many"], "--seeds=many: give how many, such as 5, or which ones, such as 1,7,13"),
        (["--seeds=3,1,3"], "--seeds=3,1,3: a seed is there twice"),
    ],
)
def test_no_seeds_are_refused(args, told, capsys):
    assert main(["seeds", *args, "--config=x"]) == 2
    assert capsys.readouterr().err == f"error: {told}\n"


def test_a_seed_that_is_to_be_drawn_is_no_first_one(child, capsys):
    child[2]["seed_everything"] = True
    assert main(["seeds", "--seeds=2", "--config=x"]) == 2
    assert "--seed_everything=True: give the first seed, or all of them" in capsys.readouterr().err
    assert main(["seeds", "--seeds=2,3", "--config=x"]) == 0


def test_without_options_of_fit_nothing_is_trained(capsys):
    with pytest.raises(SystemExit):
        main(["seeds", "--seeds=2"])
    assert "required: fit_options" in capsys.readouterr().err


def test_two_processes_do_not_train_the_same_seeds(child, capsys):
    codes = child[1]
    codes.append(1)
    main(["seeds", "--seeds=1", "--config=x"])
    capsys.readouterr()
    with FileLock("runs/seeds_0/.lock"):
        assert main(["seeds", "--seeds=1", "--config=x"]) == 1
    told = "error: runs/seeds_0: another process trains here; wait for it, or end it\n"
    assert capsys.readouterr().err == told


def test_a_misspelt_option_of_fit_is_refused_by_fit_itself(options, capfd):
    with pytest.raises(SystemExit) as stopped:
        main(["seeds", "--seeds=2", *options, "--model.learnin_rate=1"])
    assert stopped.value.code == 2
    assert "did you mean --model.learning_rate?" in capfd.readouterr().err
    assert not list(Path().iterdir())


def test_a_checkpoint_to_go_on_from_is_refused(options, capfd):
    assert main(["seeds", "--seeds=2", *options, "--ckpt_path=last"]) == 2
    assert "error: --ckpt_path goes on with a single run: leave it out" in capfd.readouterr().err


@pytest.mark.slow
def test_two_seeds_from_training_to_the_table(options, capfd):
    assert main(["seeds", "--seeds=2", *options]) == 0
    out = capfd.readouterr().out
    runs = read_runs("runs")
    assert {str(run.folder) for run in runs} == {f"runs/seeds_0/seed_{seed}/version_0" for seed in (42, 43)}
    known = json.loads(Path("runs/seeds_0/seeds.json").read_text())
    (of_set,) = known["scores"]
    tests = [run.test.scores["f1"] for run in runs]
    assert of_set["test"]["mean"] == pytest.approx(statistics.mean(tests))
    assert of_set["test"]["sd"] == pytest.approx(statistics.stdev(tests))
    low, high = of_set["test"]["interval"]
    assert low <= of_set["test"]["mean"] <= high
    for run in runs:
        assert set(run.counts) == {"LOC", "MISC", "ORG", "PER"}
        assert {len(rows) for rows in run.counts.values()} == {2}  # documents
        kept = [run.test.scores[f"interval_{end}"] for end in ("low", "high")]
        assert f1_interval(sum(run.counts.values())) == pytest.approx(kept)
    table = out.rpartition("seed  run")[2].splitlines()
    assert [line.split()[0] for line in table[-4:-2]] == ["mean", "sd"]
    assert table[-1] == "written     runs/seeds_0/seeds.json"
    assert main(["seeds", "--seeds=2", *options]) == 0
    assert "fit" not in capfd.readouterr().out
    assert main(["compare", "runs/seeds_0/seed_42", "runs/seeds_0/seed_42"]) == 0
    assert "no difference can be told: 0.00 to 0.00" in capfd.readouterr().out


def test_ctrl_c_that_the_child_does_not_hear_is_passed_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    child = (
        "import os, pathlib, time; time.sleep(1); os.kill(os.getppid(), 2); time.sleep(9); pathlib.Path('x').touch()"
    )
    with pytest.raises(SystemExit) as stopped:
        run_command("seed 1", ["-n1", "-r1", child], inside=["timeit"])
    assert stopped.value.code == 128 + signal.SIGINT
    assert capsys.readouterr().err == "stopped     the same command goes on\n"
    assert not Path("x").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    # as a terminal, another shell and a scheduler send them
    ("number", "send"),
    [(signal.SIGINT, os.killpg), (signal.SIGINT, os.kill), (signal.SIGTERM, os.kill)],
)
def test_a_signal_stops_the_set_which_goes_on_later(options, number, send, tmp_path):
    command = [sys.executable, "-m", "ner_lightning", "seeds", "--seeds=2", *options, "--trainer.max_epochs=100000"]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        while not list(Path().glob("runs/seeds_0/seed_42/version_0/checkpoints/last.ckpt")):
            assert process.poll() is None
            time.sleep(0.1)
        send(process.pid, number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.splitlines()[-1] == "stopped     the same command goes on"
    known = json.loads(Path("runs/seeds_0/seeds.json").read_text())
    assert known["trained"] == []
    (run,) = read_runs("runs")
    assert run.seed == 42
    assert not list(Path().glob("runs/seeds_0/seed_43"))


@pytest.mark.slow
def test_a_training_ends_with_the_set_that_is_killed(options):
    command = [sys.executable, "-m", "ner_lightning", "seeds", "--seeds=2", *options, "--trainer.max_epochs=100000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while not list(Path().glob("runs/seeds_0/seed_42/version_0/checkpoints/last.ckpt")):
            assert process.poll() is None
            time.sleep(0.1)
        process.kill()
        process.communicate(timeout=30)  # to the end of what both may write
