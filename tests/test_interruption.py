"""What signals do to a run: it stops soon, keeps its state, says so, and leaves a code that is not 0."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader

from ner_lightning import __main__, cli
from ner_lightning.interruption import Interruption
from ner_lightning.processes import ending_with_launcher
from ner_lightning.saving import LastCheckpoint
from ner_lightning.trainer import Trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP]


@pytest.fixture(autouse=True)
def handlers():
    """Handlers before a test; they are there again after a run, and after the test whatever it did."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


class Counting(LightningModule):
    """One weight, four steps an epoch, and something to do in the midst of them."""

    def __init__(self, act, *, training=None, validation=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.act, self.at, self.at_validation = act, training, validation

    def training_step(self, batch, batch_idx):
        if self.global_step + 1 == self.at:
            self.act()
        return (self.weight - batch).square().sum()

    def validation_step(self, batch, batch_idx):
        if self.global_step == self.at_validation:
            self.act()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer_of(folder, *callbacks, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    callbacks = [LastCheckpoint(), Interruption(), *callbacks]
    return Trainer(accelerator="cpu", max_epochs=3, default_root_dir=folder, callbacks=callbacks, **quiet, **options)


def fit(trainer, model):
    loaders = [DataLoader(torch.ones(size, 1), batch_size=None) for size in (4, 2)]
    LightningTrainer.fit(trainer, model, *loaders)  # ours takes a datamodule alone


def send(number):
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_stops_fit_after_the_step_with_its_state_saved(tmp_path, capsys, handlers, number):
    with pytest.raises(SystemExit) as stopped:
        fit(trainer_of(tmp_path), Counting(send(number), training=6))
    assert stopped.value.code == 128 + number
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 6
    assert f"stopped     by {number.name} in epoch 1, at step 6; saved {last}\n" in capsys.readouterr().out
    assert {number: signal.getsignal(number) for number in SIGNALS} == handlers


def test_a_signal_stops_fit_in_the_midst_of_a_validation(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        fit(trainer_of(tmp_path), Counting(send(signal.SIGTERM), validation=8))
    assert stopped.value.code == 143
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8
    assert "in epoch 1, at step 8; saved" in capsys.readouterr().out


def test_before_the_first_step_there_is_nothing_to_save(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        fit(trainer_of(tmp_path), Counting(send(signal.SIGTERM), validation=0))
    assert stopped.value.code == 143
    assert "by SIGTERM in epoch 0, at step 0; nothing is saved\n" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_without_checkpoints_a_signal_stops_all_the_same(tmp_path, capsys):
    trainer = trainer_of(tmp_path, enable_checkpointing=None)
    trainer.callbacks = [callback for callback in trainer.callbacks if not isinstance(callback, LastCheckpoint)]
    with pytest.raises(SystemExit):
        fit(trainer, Counting(send(signal.SIGTERM), training=6))
    assert "in epoch 1, at step 6; nothing is saved\n" in capsys.readouterr().out


def test_validation_stops_too(tmp_path, capsys):
    data = DataLoader(torch.ones(2, 1), batch_size=None)
    with pytest.raises(SystemExit) as stopped:
        LightningTrainer.validate(trainer_of(tmp_path), Counting(send(signal.SIGUSR1), validation=0), data)
    assert stopped.value.code == 128 + signal.SIGUSR1
    assert capsys.readouterr().err.endswith("stopped by SIGUSR1\n")
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_was_ignored_stays_so(tmp_path):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    trainer = trainer_of(tmp_path)
    fit(trainer, Counting(send(signal.SIGHUP), training=6))
    assert trainer.global_step == 12


def test_the_signals_of_slurm_are_left_to_lightning(tmp_path, monkeypatch):
    names = {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_ID": "1", "JOB_NAME": "job"}
    for name, value in names.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    seen = {}
    look = Counting(lambda: seen.update({number: signal.getsignal(number) for number in SIGNALS}), training=1)
    fit(trainer_of(tmp_path, plugins=[SLURMEnvironment(auto_requeue=True)]), look)
    ours = {number for number, handler in seen.items() if isinstance(getattr(handler, "__self__", None), Interruption)}
    assert ours == {signal.SIGINT, signal.SIGHUP}


class FailsAtTheEnd(Callback):
    """As a logger on a full disk does."""

    def on_fit_end(self, *_):
        """Fail."""
        raise ValueError


def test_a_run_that_fails_at_its_end_leaves_no_handler_behind(tmp_path):
    before = {number: signal.getsignal(number) for number in SIGNALS}
    with pytest.raises(ValueError, match=r"^$"):
        fit(trainer_of(tmp_path, FailsAtTheEnd()), Counting(lambda: None, training=1))
    left = {number: signal.getsignal(number) for number in SIGNALS}
    assert not [n for n, handler in left.items() if isinstance(getattr(handler, "__self__", None), Interruption)]
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupt(*args, **options):
    raise KeyboardInterrupt


def lightnings(*args, **options):
    raise SIGTERMException


@pytest.mark.parametrize(("act", "code"), [(interrupt, 130), (lightnings, 143)])
def test_what_comes_before_the_run_listens_has_its_code_too(tmp_path, monkeypatch, conll_files, tiny_model, act, code):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Interruption, "setup", act)
    with pytest.raises(SystemExit) as stopped:
        sys.exit(__main__.main(arguments(conll_files, tiny_model)))
    assert stopped.value.code == code


def test_a_process_marks_itself_for_those_that_it_launches(monkeypatch):
    monkeypatch.delenv("NER_LIGHTNING_LAUNCHER", raising=False)
    with ending_with_launcher():
        assert os.environ["NER_LIGHTNING_LAUNCHER"] == str(os.getpid())
    assert "NER_LIGHTNING_LAUNCHER" not in os.environ


def test_the_command_line_stops_so_and_its_checkpoints_are_whole(tmp_path, monkeypatch, conll_files, tiny_model):
    monkeypatch.chdir(tmp_path)
    command = cli.TokenClassificationCLI([*arguments(conll_files, tiny_model), "--trainer.max_epochs=1"])
    assert [callback for callback in command.trainer.callbacks if isinstance(callback, Interruption)]
    assert type(command.trainer.strategy.checkpoint_io).__name__ == "WholeCheckpointIO"


# whole runs, and signals from outside


def arguments(conll_files, tiny_model):
    files = [f"--data.{split}_file={conll_files / split}.conll" for split in ("train", "validation")]
    quiet = [
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--data.batch_size=1",
        "--trainer.log_every_n_steps=1",
    ]
    return ["fit", *files, f"--model.model_name_or_path={tiny_model}", *quiet, "--trainer.max_epochs=100000"]


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=3"]
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]


class Running:
    """A command in a session of its own, with what it prints in files."""

    def __init__(self, command, *, launch=("-m", "ner_lightning")):
        with open("out", "wb") as out, open("err", "wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *launch, *command],
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in [self.process.pid, *self.others()]:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def wait_for(self, pattern):
        while not list(Path.cwd().glob(pattern)):
            assert self.process.poll() is None, Path("err").read_text()
            time.sleep(0.05)

    def others(self):
        """The processes that it has started."""
        stats = {int(path.parent.name): path for path in Path("/proc").glob("[0-9]*/stat")}
        return [pid for pid, path in stats.items() if parent(path) == self.process.pid]

    def code(self):
        return self.process.wait(timeout=60)

    def printed(self):
        return Path("out").read_text(), Path("err").read_text()


def parent(stat):
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def ended(pids):
    for _ in range(100):
        if not any(map(alive, pids)):
            return True
        time.sleep(0.1)
    return False


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before the epoch ended")
def test_ctrl_c_prints_the_summary_and_a_command_that_resumes(tmp_path, monkeypatch, conll_files, tiny_model):
    monkeypatch.chdir(tmp_path)
    with Running(arguments(conll_files, tiny_model)) as run:
        run.wait_for("runs/version_0/checkpoints/last.ckpt")
        run.process.send_signal(signal.SIGINT)
        assert run.code() == 130
        out, err = run.printed()
    assert "Traceback" not in err
    assert "best        val_f1" in out
    assert "checkpoint  runs/version_0/checkpoints/best.ckpt\n" in out
    stopped, resume = out.splitlines()[-2:]
    assert stopped.startswith("stopped     by SIGINT in epoch ")
    assert stopped.endswith("; saved runs/version_0/checkpoints/last.ckpt")
    step = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert f"at step {step};" in stopped
    words = shlex.split(resume)
    assert words[:4] == ["resume", "python", "-m", "ner_lightning"]
    monkeypatch.setattr(sys, "argv", words[3:])
    assert cli.main([*words[4:], f"--trainer.max_steps={step + 3}", "--trainer.max_epochs=-1"]) == 0
    assert torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"] == step + 3


@pytest.mark.slow
def test_a_second_ctrl_c_leaves_at_once(tmp_path, monkeypatch, conll_files, tiny_model):
    monkeypatch.chdir(tmp_path)
    with Running(arguments(conll_files, tiny_model)) as run:
        run.wait_for("runs/version_0/checkpoints/last.ckpt")
        run.process.send_signal(signal.SIGSTOP)  # so that both come within one step
        run.process.send_signal(signal.SIGINT)
        run.process.send_signal(signal.SIGCONT)
        while "Ctrl-C again leaves at once" not in run.printed()[1] and run.process.poll() is None:
            time.sleep(0.001)
        run.process.send_signal(signal.SIGINT)
        assert run.code() == 130


@linux
@pytest.mark.parametrize(
    ("rank", "number"),
    [
        pytest.param(0, signal.SIGTERM, marks=pytest.mark.long),
        pytest.param(1, signal.SIGUSR1, marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_one_process_of_two_ends_both(tmp_path, monkeypatch, conll_files, tiny_model, rank, number):
    monkeypatch.chdir(tmp_path)
    with Running([*arguments(conll_files, tiny_model), *TWO]) as run:
        run.wait_for("runs/version_0/checkpoints/last.ckpt")
        (other,) = run.others()
        os.kill(other if rank else run.process.pid, number)
        assert run.code() == 128 + number
        assert ended([other])
        out, err = run.printed()
    assert "Traceback" not in err
    step = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert f"at step {step}; saved runs/version_0/checkpoints/last.ckpt\n" in out


@linux
@pytest.mark.long
def test_ctrl_c_in_a_terminal_ends_two_processes_as_one(tmp_path, monkeypatch, conll_files, tiny_model):
    monkeypatch.chdir(tmp_path)
    with Running([*arguments(conll_files, tiny_model), *TWO]) as run:
        run.wait_for("runs/version_0/checkpoints/last.ckpt")
        (other,) = run.others()
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.code() == 130
        assert ended([other])
        out, err = run.printed()
    assert "Traceback" not in err
    assert "stopped     by SIGINT" in out


@linux
@pytest.mark.parametrize(
    "moment", [pytest.param(0.0, marks=pytest.mark.slow), pytest.param(2.0, marks=pytest.mark.long)]
)
def test_a_process_does_not_outlive_the_one_that_launched_it(tmp_path, monkeypatch, conll_files, tiny_model, moment):
    monkeypatch.chdir(tmp_path)
    with Running([*arguments(conll_files, tiny_model), *TWO]) as run:
        while not run.others():
            time.sleep(0.05)
        time.sleep(moment)
        others = run.others()
        run.process.kill()
        run.process.wait()
        for _ in range(3):  # it may have to start first
            if ended(others):
                break
        assert ended(others)


@linux
@pytest.mark.slow
def test_a_killed_process_ends_both_and_is_named(tmp_path, monkeypatch, conll_files, tiny_model):
    monkeypatch.chdir(tmp_path)
    with Running([*arguments(conll_files, tiny_model), *TWO]) as run:
        run.wait_for("runs/version_0/checkpoints/last.ckpt")
        (other,) = run.others()
        os.kill(other, signal.SIGKILL)
        assert run.code() == 1
        err = run.printed()[1]
    assert "Traceback" not in err
    assert err.endswith("error: process 1 of 2 was killed by SIGKILL; all others end with it\n")


@linux
@pytest.mark.long
def test_processes_do_not_outlive_torchrun(tmp_path, monkeypatch, conll_files, tiny_model):
    monkeypatch.chdir(tmp_path)
    with Running(arguments(conll_files, tiny_model), launch=[*TORCHRUN, "-m", "ner_lightning"]) as run:
        run.wait_for("runs/version_0/checkpoints/last.ckpt")
        others = run.others()
        run.process.send_signal(signal.SIGUSR1)  # which it does not know
        run.process.wait()
        assert len(others) == 3
        assert ended(others)


FAILS = """
import os, sys
from lightning.pytorch import Callback
from ner_lightning.cli import main

how, rank = sys.argv.pop(1).split(":")

class Fails(Callback):
    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 3 and trainer.global_rank == int(rank):
            if how == "kill":
                os.kill(os.getpid(), 9)
            raise RuntimeError("a cable was cut")

sys.argv.insert(1, f"{how}:{rank}")  # with which others are started
sys.exit(main(sys.argv[2:], callbacks=[Fails()]))
"""


@linux
@pytest.mark.long
@pytest.mark.parametrize(
    ("launch", "fails", "told"),
    [
        ([], "raise:2", "error: process 2 of 3 has failed with exit code 1, see above; all others end with it"),
        ([], "kill:0", "error: process 0 of 3 has ended too early; all others end with it"),
        (TORCHRUN, "kill:1", "error: process 1 of 3 has ended too early; all others end with it"),
        (TORCHRUN, "kill:1", "rank      : 1 (local_rank: 1)\n  exitcode  : -9"),
        (TORCHRUN, "raise:0", "rank      : 0 (local_rank: 0)\n  exitcode  : 1"),
    ],
)
def test_one_of_three_that_fails_ends_all_and_is_named(
    tmp_path, monkeypatch, conll_files, tiny_model, launch, fails, told
):
    monkeypatch.chdir(tmp_path)
    Path("fails.py").write_text(FAILS)
    three = [] if launch else ["--trainer.devices=3", "--trainer.strategy=ddp"]
    with Running([fails, *arguments(conll_files, tiny_model), *three], launch=[*launch, "fails.py"]) as run:
        assert run.process.wait(timeout=110) != 0
        others = run.others()
        time.sleep(1)
        err = run.printed()[1]
        assert ended(others)
    assert told in err, err
    assert ("a cable was cut" in err) == fails.startswith("raise")


@linux
@pytest.mark.slow
def test_a_signal_to_one_process_of_torchrun_ends_all(tmp_path, monkeypatch, conll_files, tiny_model):
    monkeypatch.chdir(tmp_path)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "ner_lightning"]
    with Running([*arguments(conll_files, tiny_model), *TWO], launch=launch) as run:
        run.wait_for("runs/version_0/checkpoints/last.ckpt")
        others = run.others()
        os.kill(others[-1], signal.SIGTERM)
        assert run.code() != 0
        assert ended(others)
        assert "stopped     by SIGTERM" in run.printed()[0]
