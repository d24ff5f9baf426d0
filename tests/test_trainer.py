"""Folders of runs and the processes of a launcher; the rest of the Trainer is tested through the command line."""

import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import TQDMProgressBar

from ner_lightning.errors import InputError
from ner_lightning.trainer import SteadyProgressBar, Trainer, _new_version, launched_processes

ROOT = Path(__file__).parents[1]


def test_runs_that_start_together_have_folders_of_their_own(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(_new_version, [tmp_path / "runs"] * 24))
    assert sorted(versions) == list(range(24))


@pytest.mark.parametrize("accelerator", ["auto", "cpu", CPUAccelerator()])
@pytest.mark.parametrize("has", [True, False])
def test_auto_is_the_precision_that_the_machine_has(monkeypatch, caplog, has, accelerator):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    caplog.set_level("INFO")
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator=accelerator, precision="auto", **quiet)
    expected = "bf16-mixed" if has else "32-true"
    assert trainer.precision == expected
    assert f"precision   {expected}: the processor " in caplog.text


def test_the_bar_is_refreshed_ten_times_a_second_and_at_the_end(monkeypatch):
    refreshed, now = [], [0.0]
    monkeypatch.setattr(TQDMProgressBar, "on_train_batch_end", lambda self, *args: refreshed.append(args[-1]))
    monkeypatch.setattr(SteadyProgressBar, "total_train_batches", 8)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    bar = SteadyProgressBar()
    for batch in range(8):
        now[0] += 0.04
        bar.on_train_batch_end(None, None, None, None, batch)
    assert refreshed == [2, 5, 7]


@pytest.fixture
def launched(monkeypatch):
    """What torchrun tells the second of two nodes with four processes each."""
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("launched")
@pytest.mark.parametrize(
    "given", [{"devices": "auto", "num_nodes": 1}, {"devices": 4, "num_nodes": 2}, {"devices": [0, 1, 2, 3]}]
)
def test_the_processes_of_torchrun_are_one_world(given):
    assert launched_processes(**{"num_nodes": 1, **given}) == {"devices": 4, "num_nodes": 2}


@pytest.mark.usefixtures("launched")
def test_what_contradicts_torchrun_is_refused_with_the_option_to_give():
    told = "torchrun has started 4 processes on each of 2 nodes: leave it out, or give"
    with pytest.raises(InputError, match=f"^--trainer.devices=2, but {told} --trainer.devices=4$"):
        launched_processes(devices=2, num_nodes=1)
    with pytest.raises(InputError, match=f"^--trainer.num_nodes=3, but {told} --trainer.num_nodes=2$"):
        launched_processes(devices="auto", num_nodes=3)


def test_without_a_launcher_nothing_is_changed(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert launched_processes(devices=2, num_nodes=1) == {}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "more",
    [pytest.param([], marks=pytest.mark.slow), pytest.param(["--trainer.logger=false"], marks=pytest.mark.long)],
)
def test_torchrun_trains_one_model_in_one_folder(conll_files, tiny_model, tmp_path, more):
    files = [f"--data.{split}_file={conll_files / split}.conll" for split in ("train", "validation", "test")]
    options = [f"--model.model_name_or_path={tiny_model}", "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]

    launcher = "-m torch.distributed.run --nproc_per_node=2 --standalone"

    def torchrun(command, *args):
        return subprocess.run(
            [sys.executable, *launcher.split(), "-m", "ner_lightning", command, *args],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    done = torchrun("fit", *files, *options, "--data.batch_size=1", *more)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["version_0"]
    assert len(list(tmp_path.glob("**/*.ckpt"))) == 2
    # four sentences are two steps of two processes
    assert len(re.findall("^epoch 0  step 2  .*val_f1", done.stdout, re.MULTILINE)) == 1
    assert "in training on 2 x cpu" in done.stdout
    if more:
        return
    done = torchrun("test", "--trainer.accelerator=cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("11 words scored") == 1
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["version_0"]
    done = torchrun("test", "--trainer.accelerator=cpu", "--trainer.devices=1")
    assert done.returncode != 0
    assert "error: --trainer.devices=1, but torchrun has started 2 processes" in done.stderr


@pytest.fixture
def two_hosts():
    """Commands that run something on either of two hosts: namespaces of the network with a cable between them."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("namespaces of the network need root and iproute2")
    hosts = [f"ner{os.getpid()}{side}" for side in "ab"]
    made = subprocess.run(["ip", "netns", "add", hosts[0]], check=False)
    if made.returncode:
        pytest.skip("no namespaces of the network here")
    ip = partial(subprocess.run, check=True)
    ip(["ip", "netns", "add", hosts[1]])
    ip(["ip", "link", "add", "cable0", "netns", hosts[0], "type", "veth", "peer", "name", "cable1", "netns", hosts[1]])
    for number, host in enumerate(hosts):
        ip(["ip", "-n", host, "addr", "add", f"10.77.0.{number + 1}/24", "dev", f"cable{number}"])
        for device in ("lo", f"cable{number}"):
            ip(["ip", "-n", host, "link", "set", device, "up"])
    yield [["ip", "netns", "exec", host, "env", f"GLOO_SOCKET_IFNAME=cable{n}"] for n, host in enumerate(hosts)]
    for host in hosts:
        ip(["ip", "netns", "del", host])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_hosts_train_one_model_and_score_what_one_does(two_hosts, conll_files, tiny_model, tmp_path):
    program = [sys.executable, "-m", "ner_lightning"]
    run = partial(
        subprocess.Popen,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def on_both(*args):
        here = "--master_addr=10.77.0.1 --master_port=29500".split()
        launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", *here]
        runs = [run([*on, *launch, f"--node_rank={n}", *program[1:], *args]) for n, on in enumerate(two_hosts)]
        told = [each.communicate() for each in runs]
        assert [each.returncode for each in runs] == [0, 0], told
        return told[0][0]

    cpu = ["--trainer.accelerator=cpu"]
    files = [f"--data.{split}_file={conll_files / split}.conll" for split in ("train", "validation", "test")]
    model = [f"--model.model_name_or_path={tiny_model}", "--data.batch_size=1", "--trainer.max_epochs=1"]
    assert "in training on 2 x cpu" in on_both("fit", *files, *model, *cpu)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["version_0"]
    alone = run([*program, "test", *cpu]).communicate()[0]
    assert "11 words scored" in alone
    assert on_both("test", *cpu) == alone
