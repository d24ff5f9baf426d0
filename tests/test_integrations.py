"""Callbacks and loggers of Lightning that a config names; the services' clients where they are installed, offline."""

from pathlib import Path

import pytest
import yaml

from ner_lightning.cli import main


@pytest.fixture
def fit(tmp_path, monkeypatch, conll_files, tiny_model, capsys):
    """Train by a config file in an empty folder; gives standard output."""
    monkeypatch.chdir(tmp_path)
    given = {
        "data": {f"{split}_file": f"{conll_files / split}.conll" for split in ("train", "validation", "test")},
        "model": {"model_name_or_path": str(tiny_model), "learning_rate": 0.0},
        "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1, "max_epochs": 2},
    }

    def call(**trainer):
        Path("run.yaml").write_text(yaml.safe_dump(given | {"trainer": given["trainer"] | trainer}))
        assert main(["fit", "--config=run.yaml"]) == 0, capsys.readouterr().err
        out = capsys.readouterr().out
        assert main(["test", "--config=runs/version_0/config.yaml", "--trainer.logger=false"]) == 0
        return out

    return call


def test_early_stopping_by_config_ends_the_run(fit):
    stop = {"class_path": "EarlyStopping", "init_args": {"monitor": "val_f1", "mode": "max", "patience": 1}}
    out = fit(callbacks=[stop], max_epochs=9)  # with a learning rate of 0 no epoch is better than the first
    assert [line.split()[0] for line in out.splitlines() if line[:1].isdigit()] == ["0", "1"]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore")  # of the service's client
def test_weights_and_biases_by_config_has_the_scores(fit, monkeypatch):
    wandb = pytest.importorskip("wandb")
    logged, log = set(), wandb.Run.log
    monkeypatch.setattr(
        wandb.Run, "log", lambda run, data, *rest, **kw: logged.update(data) or log(run, data, *rest, **kw)
    )
    fit(logger={"class_path": "WandbLogger", "init_args": {"save_dir": "logs", "project": "names", "offline": True}})
    wandb.finish()
    assert {"train_loss", "val_loss", "val_f1", "val_f1_PER"} <= logged
    assert list(Path("logs/wandb").glob("offline-run-*"))
    assert {path.name for path in Path("runs/version_0").iterdir()} == {"checkpoints", "config.yaml"}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore")  # of the service's client
def test_mlflow_by_config_has_the_scores_and_the_options(fit, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer releases want a data base by default
    place = Path("mlruns").absolute().as_uri()
    fit(logger={"class_path": "MLFlowLogger", "init_args": {"experiment_name": "names", "tracking_uri": place}})
    client = mlflow.MlflowClient(place)
    (run,) = client.search_runs([client.get_experiment_by_name("names").experiment_id])
    assert {"train_loss", "val_loss", "val_f1", "val_f1_PER"} <= set(run.data.metrics)
    assert run.data.params["learning_rate"] == "0.0"
    assert {path.name for path in Path("runs/version_0").iterdir()} == {"checkpoints", "config.yaml"}
