"""Trials of other options: which are pruned, what a search that was killed goes on with, and what it refuses."""

import io
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

optuna = pytest.importorskip("optuna", reason="needs the extra `tune`")

from ner_lightning import cli, trial  # noqa: E402
from ner_lightning import tune as module  # noqa: E402
from ner_lightning.__main__ import main  # noqa: E402
from ner_lightning.checkpoints import best_score, read_checkpoint  # noqa: E402
from ner_lightning.data import TokenClassificationDataModule  # noqa: E402
from ner_lightning.model import TokenClassificationModule  # noqa: E402

RATES = "--search.model.learning_rate=1e-4..1e-1"


@pytest.fixture(scope="module")
def options(conll_files, tiny_model):
    data = [f"--data.{split}_file={conll_files / f'{split}.conll'}" for split in ("train", "validation", "test")]
    quiet = [
        "--trainer.accelerator=cpu",
        "--trainer.log_every_n_steps=1",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
    ]
    model = [f"--model.model_name_or_path={tiny_model}", "--trainer.max_epochs=2", "--checkpoint.monitor=val_loss"]
    return [*data, *model, *quiet]


class Killed(BaseException):
    """What stands in for SIGKILL."""


@cache
def config_of_fit(*fit_options):
    with redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit):
        cli.main(["fit", *fit_options, "--print_config"])
    return yaml.safe_load(out.getvalue())


def in_this_process(patch):
    """Run trials and ask for configs here, which takes a tenth of the time; none takes a batch of the test split."""
    loader = TokenClassificationDataModule.loader

    def no_test(self, split, **more):
        assert split != "test"
        return loader(self, split, **more)

    def run_command(title, args, *, inside):
        return trial.main([*inside[1:], *args])

    patch.setattr(TokenClassificationDataModule, "loader", no_test)
    patch.setattr(module, "config_of_fit", lambda fit_options, command: config_of_fit(*fit_options))
    patch.setattr(module, "run_command", run_command)


@pytest.fixture
def here(tmp_path, monkeypatch):
    in_this_process(monkeypatch)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def scored(here, monkeypatch):
    """In place of trainings, these scores of one epoch each; None is a failure."""
    scores = []

    def run_command(title, args, *, inside):
        _, path, number = inside
        Path(path).with_name(f"trial_{number}").joinpath("version_0").mkdir(parents=True, exist_ok=True)
        report = trial.StudyReport(path, int(number))
        if (score := scores.pop(0)) is None:
            return 1
        report._trial.report(score, 0)
        report._study.tell(int(number), score)
        return 0

    monkeypatch.setattr(module, "run_command", run_command)
    return scores


def study_of(path="runs/tune_0/tune.db"):
    return optuna.load_study(study_name="tune", storage=f"sqlite:///{path}")


def known(study):
    return [(t.state.name, t.params, t.intermediate_values, t.value) for t in study.trials]


@pytest.fixture(scope="module")
def searched(options, tmp_path_factory):
    """Eight trials: its folder, study and output."""
    folder = tmp_path_factory.mktemp("tune")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
        in_this_process(patch)
        patch.chdir(folder)
        assert main(["tune", "--trials=8", *options, RATES]) == 0
    return folder, study_of(folder / "runs/tune_0/tune.db"), out.getvalue()


@pytest.mark.slow
def test_trials_worse_than_the_median_of_the_whole_ones_are_pruned(searched):
    _, study, out = searched
    whole, pruned = [], 0
    for each in study.trials:
        first, *others = [each.intermediate_values[epoch] for epoch in sorted(each.intermediate_values)]
        if len(whole) >= 5 and first > statistics.median(whole):
            assert (each.state.name, others) == ("PRUNED", [])
            pruned += 1
        else:
            assert each.state.name == "COMPLETE"
            assert len(others) == 1
            whole.append(first)
    assert pruned > 0
    assert out.count("pruned      after epoch 0") == pruned


@pytest.mark.slow
def test_a_trial_scores_what_its_best_checkpoint_does(searched):
    folder, study, _ = searched
    for each in study.trials:
        (last,) = folder.glob(f"runs/tune_0/trial_{each.number}/version_0/checkpoints/last.ckpt")
        if each.state.name == "COMPLETE":
            assert each.value == min(each.intermediate_values.values())
            assert each.value == best_score(read_checkpoint(last))
        used = yaml.safe_load((last.parents[1] / "config.yaml").read_text())["model"]["learning_rate"]
        assert used == pytest.approx(each.params["model.learning_rate"], rel=5e-3)


@pytest.mark.slow
def test_the_best_comes_first_and_then_the_commands_to_go_on_with(searched, options):
    _, study, out = searched
    table, _, last = out.rpartition("trial  learning_rate\n")[2].partition("\n\nbest  ")
    rows = [line.split() for line in table.splitlines()[1:]]  # run, val_loss, epochs, state, learning rate
    assert rows == sorted(rows, key=lambda row: (row[3] != "whole", float(row[1])))
    for run, score, epochs, state, rate in rows:
        one = study.trials[int(run.removeprefix("runs/tune_0/trial_"))]
        assert (score, rate) == (f"{one.value:.4f}", f"{one.params['model.learning_rate']:.3g}")
        assert (state == "whole", epochs) == (one.state.name == "COMPLETE", str(len(one.intermediate_values)))
    best = min((t for t in study.trials if t.state.name == "COMPLETE"), key=lambda t: t.value)
    assert last.startswith(f"      val_loss {best.value:.4f}: runs/tune_0/trial_{best.number}\n")
    again = shlex.join([*options, f"--model.learning_rate={best.params['model.learning_rate']:.3g}"])
    assert f"\nfit         python -m ner_lightning fit {again}\n" in last
    assert f"\nnext        python -m ner_lightning seeds --seeds=43,44,45,46,47 {again}\n" in last


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(searched, options, here, monkeypatch):
    command = ["tune", "--trials=3", *options, RATES]
    of_epoch = trial.StudyReport.on_train_epoch_end

    def report(self, trainer, pl_module):
        of_epoch(self, trainer, pl_module)
        if trainer.current_epoch == 1:  # epoch 0 is in last.ckpt, epoch 1 is reported only
            raise Killed

    def end(self, trainer, pl_module):
        raise Killed  # all is saved, nothing is told: `fit` would refuse to go on

    for hook, dies in (("on_train_epoch_end", report), ("on_train_end", end)):
        with monkeypatch.context() as patch:
            patch.setattr(trial.StudyReport, hook, dies)
            with pytest.raises(Killed):
                main(command)
        assert study_of().trials[-1].state.name == "RUNNING"
    assert main(command) == 0
    assert known(study_of()) == known(searched[1])[:3]
    folders = [Path(f"runs/tune_0/trial_{number}") for number in range(3)]
    assert [[path.name for path in folder.iterdir()] for folder in folders] == [["version_0"]] * 3
    went_on = ["--ckpt_path=last" in (folder / "version_0/config.yaml").read_text() for folder in folders]
    assert went_on == [True, False, False]


@pytest.mark.slow
def test_a_trial_that_is_to_end_when_a_signal_comes_ends_when_it_goes_on(scored, options, monkeypatch):
    scored += [0.0]
    command = ["tune", *options, "--trainer.num_sanity_val_steps=0", RATES, "--trials"]
    assert main([*command, "1"]) == 0
    for _ in range(4):
        study_of().add_trial(study_of().trials[0])
    in_this_process(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(TokenClassificationModule, "on_validation_end", lambda _: signal.raise_signal(signal.SIGUSR1))
        with pytest.raises(SystemExit):
            main([*command, "6"])
    last = study_of().trials[-1]
    assert (last.state.name, list(last.intermediate_values)) == ("RUNNING", [0])
    assert main([*command, "6"]) == 0
    last = study_of().trials[-1]
    assert (last.state.name, list(last.intermediate_values)) == ("PRUNED", [0])


def test_the_same_command_does_nothing_twice_and_other_options_are_another_search(scored, options):
    scored += [0.5, 0.4, 0.3, 0.2]
    assert main(["tune", "--trials=2", *options, RATES]) == 0
    assert main(["tune", "--trials=2", *options, RATES]) == 0
    assert main(["tune", "--trials=3", *options, RATES]) == 0
    assert [each.value for each in study_of().trials] == [0.5, 0.4, 0.3]
    assert main(["tune", "--trials=1", *options, "--search.data.batch_size=2,4"]) == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["tune_0", "tune_1"]


def test_a_trial_that_fails_leaves_the_others_alone_and_is_tried_again(scored, options, capsys):
    scored += [0.5, None, 0.3, None, 0.1]
    command = ["tune", "--trials=3", *options, RATES]
    assert main(command) == 0
    params = [each.params for each in study_of().trials]
    out, err = capsys.readouterr()
    assert err == "failed: trial_1 (see above; the same command tries again)\n"
    assert "best        val_loss 0.3000: runs/tune_0/trial_2\n" in out
    assert len(scored) == 2
    assert main(command) == 0
    assert "failed: trial_1 " in capsys.readouterr().err
    assert main(command) == 0
    assert "best        val_loss 0.1000: runs/tune_0/trial_1\n" in capsys.readouterr().out
    assert [(each.state.name, each.value) for each in study_of().trials] == [("COMPLETE", v) for v in (0.5, 0.1, 0.3)]
    assert [each.params for each in study_of().trials] == params


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            ["--data.validation_file=null"],
            "trials are compared by their best checkpoint on validation: give validation",
        ),
        (["--checkpoint.monitor=train_loss"], "--checkpoint.monitor such as val_f1, and no --trainer.enable_check"),
        (["--trainer.enable_checkpointing=false"], "trials are compared by their best checkpoint on validation"),
        (["--checkpoint.monitor=val_f1_CITY"], "BestCheckpoint: monitor=val_f1_CITY is not logged; give one of "),
    ],
)
def test_what_no_trial_could_score_is_told_once(more, told, options, here, capsys):
    assert main(["tune", "--trials=3", *options, *more, RATES]) == 1
    first, second = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert told in first
    assert second == "error: trial_0 failed before its first score, as no other has one: mend what is told above"


def test_a_folder_in_which_no_trial_began_goes_away(options, here, monkeypatch, capsys):
    monkeypatch.setattr(module, "run_command", lambda title, args, inside: 2)
    assert main(["tune", *options, RATES]) == 1
    assert not list(Path("runs").iterdir())


def test_two_processes_do_not_run_the_same_trials(scored, options, capsys):
    scored += [0.5]
    assert main(["tune", "--trials=1", *options, RATES]) == 0
    with FileLock("runs/tune_0/.lock"):
        assert main(["tune", "--trials=2", *options, RATES]) == 1
    told = "error: runs/tune_0: another process trains here; wait for it, or end it\n"
    assert capsys.readouterr().err.endswith(told)


def test_a_damaged_study_is_named(scored, options, capsys):
    Path("runs/tune_0").mkdir(parents=True)
    Path("runs/tune_0/tune.db").write_bytes(b"no database " * 100)
    assert main(["tune", "--trials=1", *options, RATES]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: runs/tune_0/tune.db: no study that can be read, ")
    assert err.endswith("; move its folder away\n")
    Path("runs/tune_0/tune.db").write_bytes(b"")  # killed before there was a study
    scored += [0.5]
    assert main(["tune", "--trials=1", *options, RATES]) == 0
    assert Path("runs/tune_1/tune.db").is_file()


@pytest.mark.parametrize("trials", ["0", "-3"])
def test_no_trials_are_refused(trials, capsys):
    assert main(["tune", f"--trials={trials}", "--config=x"]) == 2
    assert capsys.readouterr().err == f"error: --trials={trials}: give a number from 1\n"


@pytest.mark.parametrize("text", ["", "3", "1e-3..1e-5", "1..", "a..b", "0..inf", "8,8", "8,,16"])
def test_what_is_no_range_is_refused(text, capsys):
    assert main(["tune", f"--search.data.batch_size={text}", "--config=x"]) == 2
    told = f"error: --search.data.batch_size={text}: give a range, such as 1e-5..1e-3, or choices, such as 8,16,32\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("1e-5..1e-3", optuna.distributions.FloatDistribution(1e-5, 1e-3, log=True)),
        ("0..0.2", optuna.distributions.FloatDistribution(0, 0.2)),
        ("2..8", optuna.distributions.IntDistribution(2, 8)),
        ("8..128", optuna.distributions.IntDistribution(8, 128, log=True)),
        ("linear,cosine", optuna.distributions.CategoricalDistribution(("linear", "cosine"))),
    ],
)
def test_ranges_and_choices(text, distribution):
    assert module._distribution("x", text) == distribution


@pytest.mark.parametrize(("max_tokens", "batch"), [("null", {"data.batch_size"}), ("64", set())])
def test_where_nothing_is_named_the_usual_is_looked_for(max_tokens, batch, scored, options):
    scored += [0.5]
    assert main(["tune", "--trials=1", *options, f"--data.max_tokens={max_tokens}"]) == 0
    (one,) = study_of().trials
    assert one.params.keys() == {"model.learning_rate", "model.warmup_ratio", "model.weight_decay"} | batch


def test_without_optuna_there_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["tune", "--config=x"]) == 1
    assert capsys.readouterr().err == 'error: tune needs optuna: pip install "ner-lightning[tune]"\n'


def test_ctrl_c_in_a_trial_is_its_exit_code(scored, options, monkeypatch):
    scored += [0.5]
    assert main(["tune", "--trials=1", *options, RATES]) == 0

    def interrupted(args, callbacks):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", interrupted)
    assert trial.main(["runs/tune_0/tune.db", "0", "fit"]) == 130


def command_of(options, *more):
    return [sys.executable, "-m", "ner_lightning", "tune", *options, RATES, *more]


def wait_for(pattern, process):
    while not list(Path().glob(pattern)):
        assert process.poll() is None
        time.sleep(0.02)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_search_which_goes_on_later(number, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = command_of(options, "--trainer.max_epochs=100000")
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        wait_for("runs/tune_0/trial_0/version_0/checkpoints/last.ckpt", process)
        # a terminal sends Ctrl-C to all, a scheduler may signal the first process alone
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.splitlines()[-1] == "stopped     the same command goes on"
    assert [each.state.name for each in study_of().trials] == ["RUNNING"]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_search_that_was_killed_by_the_system_goes_on(options, tmp_path, monkeypatch):
    more = ["--trials=2", "--trainer.max_epochs=40"]
    for place in ("killed", "whole"):
        (tmp_path / place).mkdir()
    monkeypatch.chdir(tmp_path / "killed")
    with subprocess.Popen(command_of(options, *more)) as process:
        wait_for("runs/tune_0/trial_0/version_0/checkpoints/last.ckpt", process)
        process.kill()
    subprocess.run(command_of(options, *more), check=True)
    killed = known(study_of())
    assert "--ckpt_path=last" in Path("runs/tune_0/trial_0/version_0/config.yaml").read_text()
    monkeypatch.chdir(tmp_path / "whole")
    in_this_process(monkeypatch)
    assert main(["tune", *options, RATES, *more]) == 0
    assert killed == known(study_of())
