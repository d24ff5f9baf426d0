"""What the docs say runs as it stands there, and the options that they name are there."""

import inspect
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from ner_lightning.__main__ import main
from ner_lightning.hub import export
from ner_lightning.learning_curve import learning_curve
from ner_lightning.predict import predict
from ner_lightning.predict.demo import demo
from ner_lightning.predict.serve import serve
from ner_lightning.readers import ReadOptions, read
from ner_lightning.reports.compare import compare
from ner_lightning.reports.report import report
from ner_lightning.seeds import seeds
from ner_lightning.tune import tune

ROOT = Path(__file__).parents[1]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]}
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
NAMES = {"conll": "train.conll", "conllu": "train.conllu", "json": "train.jsonl", "csv": "train.csv"}


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder in which a run of a few steps has been."""
    folder = tmp_path_factory.mktemp("run")
    options = [f"--trainer.default_root_dir={folder / 'runs'}", "--trainer.max_steps=2", *QUIET]
    assert main(["fit", "--config=quickstart", *options]) == 0
    return folder


def test_options_that_are_named_are_there(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--print_config"])
    options = yaml.safe_load(capsys.readouterr().out)
    with pytest.raises(SystemExit):
        main(["push", "--help"])
    commands = (predict, serve, demo, export, seeds, tune, learning_curve, compare, report)
    known = {*options, *(name for each in commands for name in inspect.signature(each).parameters)}
    known |= {*re.findall(r"--(\w+)", capsys.readouterr().out), "config", "ckpt_path", "debug", "print_config", "help"}
    # of LightningCLI, torchrun, tensorboard, hf
    known |= {"optimizer", "lr_scheduler", "nproc_per_node", "logdir", "repo"}
    known |= {"nnodes", "node_rank", "master_addr", "master_port", "kill"}  # of torchrun and srun
    known |= {"search"}  # `tune` takes it off an option of `fit`
    for page, text in PAGES.items():
        text = re.sub("^#SBATCH.*", "", text, flags=re.MULTILINE)
        for name in re.findall(r"(?<![\w-])--(?:search\.(?=\w))?([a-z]\w*(?:\.\w+)*)", text):
            group, *rest = name.split(".")
            assert group in known, f"{page}: --{name}"
            if rest and (group in ("data", "model", "checkpoint") or (group == "trainer" and rest[0] != "callbacks")):
                assert rest[0] in options[group], f"{page}: --{name}"


@pytest.mark.parametrize("page", sorted(PAGES))
def test_python_is_whole_and_what_it_imports_is_there(page):
    for block in blocks(PAGES[page], "python"):
        compile(block, page, "exec")
        for line in re.findall(r"^from ner_lightning.*?import (?:\(.*?\)|[^(\n]*)$", block, re.DOTALL | re.MULTILINE):
            exec(line, {})


@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")
def test_the_python_of_the_guide_to_training_runs(hub, tiny_model, conll_files, tmp_path, monkeypatch):
    hub.add_repo("model", "bert-base-cased", {path.name: path.read_bytes() for path in tiny_model.iterdir()})
    monkeypatch.chdir(tmp_path)
    Path("train.conll").write_text((conll_files / "train.conll").read_text())
    names = {}
    for block in blocks(PAGES["train"], "python"):
        exec(compile(block, "train.md", "exec"), names)
    assert names["data"].labels == [".", "DT", "NNP", "VBD"]
    assert names["batch"]["input_ids"].shape == names["batch"]["labels"].shape
    assert names["model"].trainer.global_step == 3


def test_the_python_of_the_guides_to_evaluation_and_prediction_runs(run, monkeypatch):
    monkeypatch.chdir(run)
    names = {}
    for block in blocks(PAGES["evaluate"], "python") + blocks(PAGES["predict"], "python"):
        exec(compile(block, "docs", "exec"), names)
    assert float(names["score"].compute()["f1"]) == 0.5
    assert len(names["notes"]) == 2
    (frame,) = names["label"]([names["pd"].DataFrame({"text": names["texts"]})])  # as mapInPandas calls it
    assert list(frame.columns) == ["text", "entities"]
    assert [list(each) for each in frame["entities"]] == names["tagger"](names["texts"])


def test_examples_of_formats_are_read_to_the_same_tags(tmp_path):
    found = 0
    for section in PAGES["data"].split("\n## ")[1:]:
        for block in blocks(section, r"(?:json)?"):
            title = section.splitlines()[0]
            lines = block.splitlines() if title == "JSON with character offsets" else [block]
            for content in lines:
                suffix = {"Columns: CoNLL": ".conll", "CSV and TSV": ".csv", "brat": ".ann"}.get(title, ".json")
                path = tmp_path / f"example{found}{suffix}"
                path.write_text(content, encoding="utf-8")
                if title == "brat":
                    path = path.with_suffix(".txt")
                    path.write_text("Mira Toll left.\n", encoding="utf-8")
                row = next(iter(read(path, options=ReadOptions())))
                assert row.words[:3] == ["Mira", "Toll", "left"]
                assert row.tags[:3] == ["B-PER", "I-PER", "O"], title
                found += 1
    assert found == 10


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_to_files_and_headings(page):
    (path,) = [path for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")] if path.stem == page]
    for target in re.findall(r"\]\((?!http)([^)#]*)", PAGES[page]):
        assert not target or (path.parent / target).exists(), target


@pytest.mark.long
def test_the_script_with_another_loss_trains_and_tests(tmp_path):
    (script,) = [block for block in blocks(PAGES["extend"], "python") if block.startswith("# focal.py")]
    (tmp_path / "focal.py").write_text(script)
    for command in ("fit", "test"):
        few = ["--trainer.max_steps=2", *QUIET] if command == "fit" else QUIET
        config = ["--config=quickstart"] if command == "fit" else []
        subprocess.run([sys.executable, "focal.py", command, *config, *few], cwd=tmp_path, check=True)
    assert (tmp_path / "runs/version_0/checkpoints/last.test.json").is_file()


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_the_script_for_slurm_starts_and_goes_on(tmp_path):
    (script,) = blocks(PAGES["runs"], "bash")
    script = script.replace("--trainer.num_nodes=2 --trainer.devices=4", " ".join(QUIET)).replace("conll", "quickstart")
    (tmp_path / "job.sh").write_text(script)
    few = "--checkpoint.every_n_train_steps=1 --trainer.max_steps=100000 --trainer.max_epochs=-1"
    for name, does in (("srun", f'shift; exec "$@" {few}'), ("scontrol", 'echo "$@" >> requeued')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / name).chmod(0o755)
    names = {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_ID": "7", "JOB_NAME": "ner"}
    environment = os.environ | {f"SLURM_{name}": value for name, value in names.items()}
    environment["PATH"] = f"{tmp_path}:{Path(sys.executable).parent}:{environment['PATH']}"
    environment["PYTHONPATH"] = str(ROOT)
    last, steps = tmp_path / "runs/quickstart/version_0/checkpoints/last.ckpt", [0]
    for time_ in (1, 2):
        job = subprocess.Popen(["bash", "job.sh"], cwd=tmp_path, env=environment)
        before = last.stat().st_mtime_ns if last.is_file() else 0
        while not last.is_file() or last.stat().st_mtime_ns == before:
            assert job.poll() is None
            time.sleep(0.1)
        (task,) = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
        os.kill(int(task), signal.SIGUSR1)
        job.wait()
        assert (tmp_path / "requeued").read_text() == "requeue 7\n" * time_
        steps.append(torch.load(last, weights_only=True)["global_step"])
    assert steps == sorted(set(steps))
    assert [path.name for path in (tmp_path / "runs/quickstart").iterdir()] == ["version_0"]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_script_for_ray_trains_though_a_process_dies(tmp_path):
    pytest.importorskip("ray")
    psutil = pytest.importorskip("psutil")
    (script,) = [block for block in blocks(PAGES["runs"], "python") if block.startswith("# train_on_ray.py")]
    (tmp_path / "train_on_ray.py").write_text(script.replace("max_epochs=6", "max_epochs=3"))
    run = subprocess.Popen([sys.executable, "train_on_ray.py"], cwd=tmp_path)
    while not list(tmp_path.glob("runs/ner/checkpoint_*")):
        assert run.poll() is None, "it ended before a process was killed"
        time.sleep(0.1)
    below = psutil.Process(run.pid).children(recursive=True)
    next(each for each in below if "RayTrainWorker" in " ".join(each.cmdline())).kill()
    assert run.wait() == 0
    (*_, last) = sorted(tmp_path.glob("runs/ner/checkpoint_*/checkpoint.ckpt"))
    assert torch.load(last, weights_only=True)["epoch"] == 2
    (tmp_path / "notes.txt").write_text("Tarina Drolsen left Bralex Motors.\n")
    assert predict([str(tmp_path / "notes.txt")], model=str(last), output=str(tmp_path / "notes.jsonl")) == 6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the clients of services
@pytest.mark.parametrize("block", blocks(PAGES["extend"], "yaml"), ids=["EarlyStopping", "WandbLogger", "MLFlowLogger"])
def test_callbacks_and_loggers_by_config(block, tmp_path, monkeypatch):
    for logger, package in (("WandbLogger", "wandb"), ("MLFlowLogger", "mlflow")):
        if logger in block:
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    Path("extra.yaml").write_text(block)
    few = ["--trainer.max_steps=2", "--trainer.log_every_n_steps=1"]
    assert main(["fit", "--config=quickstart", "--config=extra.yaml", *few, *QUIET]) == 0
