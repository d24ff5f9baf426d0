"""The options of a run that goes on from a checkpoint: what was typed, what it records, what a config file says.

From strong to weak: an option on the command line, the checkpoint, a config file, the default; for the data a config
file is stronger than the checkpoint. It knows names of options and what a checkpoint holds, nothing of parsers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_info

from ner_lightning.checkpoints import find_checkpoint, read_checkpoint
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.errors import InputError
from ner_lightning.pretrained import load_config, trained_labels

# options of the data that say where it comes from: given ones replace all of those that a checkpoint recorded
_SOURCES = {
    "dataset_name",
    "dataset_config_name",
    "dataset_revision",
    "train_file",
    "validation_file",
    "test_file",
    "predict_file",
}
# options that are made from others and never given
_LINKED = {"model.labels", "data.model_name_or_path", "data.model_revision"}


def checkpoint_to_use(config: Any, subcommand: str, *, given: set[str]) -> str | None:
    """The checkpoint that was asked for; without one, all but `fit` use the best of the newest run.

    Args:
        config: The options of the subcommand.
        subcommand: What is to be done.
        given: Names of the options that were typed or stand in a config file.

    Returns:
        Its path; None for a new run, and where a model that was fine-tuned before is used as it is.

    Raises:
        InputError: There is none.
    """
    asked, root = config.get("ckpt_path"), config["trainer"]["default_root_dir"] or "."
    if asked is None and subcommand == "fit":
        return None
    name = config["model"]["model_name_or_path"] if "model.model_name_or_path" in given else None
    kind = "last" if subcommand == "fit" else "best"
    path = find_checkpoint(asked, root=root, kind=kind, model_name_or_path=name)
    if path is not None:
        if str(path) != str(asked):
            rank_zero_info(f"using {path}")
        return str(path)
    if asked is None and name is not None and trained_labels(load_config(name)) is not None:
        return None  # a model that was fine-tuned before is used as it is
    of = f" that started from {name}" if name else ""
    raise InputError(
        f"no checkpoint below {Path(root)}{of}: run `fit` first, give --ckpt_path, or name a fine-tuned model with "
        "--model.model_name_or_path"
    )


def without_checkpoint(config: Any, subcommand: str, *, typed: set[str]) -> None:
    """Complete the options where there is no checkpoint: the labels of a model that was fine-tuned before.

    Args:
        config: The options of the subcommand, which are changed.
        subcommand: What is to be done.
        typed: Names of the options that were typed.
    """
    if subcommand == "predict":
        _forget_the_corpus(config["data"])
    # in a file to predict there are no labels that could be other ones
    unasked = subcommand == "predict" and "data.labels" not in typed
    if subcommand != "fit" and (unasked or config["data"]["labels"] is None):
        config["data"]["labels"] = trained_labels(load_config(config["model"]["model_name_or_path"]))


def with_checkpoint(config: Any, subcommand: str, *, typed: set[str], given: set[str]) -> None:
    """Take from the checkpoint what was not given.

    `fit` resumes the optimizer and the order of the batches too, so that an option that contradicts the checkpoint
    could have no effect: that is an error.

    Args:
        config: The options of the subcommand, with the checkpoint as `ckpt_path`; they are changed.
        subcommand: What is to be done.
        typed: Names of the options that were typed.
        given: These, and those in config files.

    Raises:
        InputError: It is no checkpoint that can be used so, or a run is resumed with another option.
    """
    checkpoint = read_checkpoint(config["ckpt_path"])
    data_state = checkpoint.get(TokenClassificationDataModule.__qualname__, {})
    options = _options("model", checkpoint["hyper_parameters"])
    if subcommand == "fit":
        if "optimizer_states" not in checkpoint:
            raise InputError(f"--ckpt_path={config['ckpt_path']} holds weights alone: no run can go on from it")
        if checkpoint.get("datamodule_hyper_parameters", {}).get("seed") is None:  # else the data has its own
            options["seed_everything"] = data_state.get("seed", config["seed_everything"])
    for key, value in options.items():
        if key not in (given if subcommand == "fit" else typed):
            config[key] = value
        elif subcommand == "fit" and config[key] != value:
            raise InputError(
                f"--{key}={config[key]}, but {config['ckpt_path']} was trained with {value}: a run is resumed "
                "with its own options; leave it out, or start a new run"
            )
    if subcommand != "fit":
        config["model"]["pretrained"] = False  # the weights are those of the checkpoint
    for name in ("model_name_or_path", "model_revision"):
        config["data"][name] = config["model"][name]
    recorded = _options("data", checkpoint.get("datamodule_hyper_parameters", {}))
    own_source = any(f"data.{name}" in given for name in _SOURCES)
    for key, value in recorded.items():
        if key not in given and not (own_source and key.removeprefix("data.") in _SOURCES):
            config[key] = value
    data = config["data"]
    if subcommand == "predict":
        _forget_the_corpus(data)
        if "data.predict_file" in given and "data.predict_format" not in given:
            data["predict_format"] = None  # that of another file
        if "data.labels" not in typed:
            data["labels"] = checkpoint["hyper_parameters"]["labels"]
        return
    same_source = all(data[name] == recorded.get(f"data.{name}") for name in ("dataset_name", "dataset_config_name"))
    if same_source and "data.dataset_revision" not in given:  # the very rows, whatever the branch holds by now
        data["dataset_revision"] = data_state.get("dataset_commit") or data["dataset_revision"]
    if data["labels"] is None and not (own_source and _has_train(data)):
        data["labels"] = data_state.get("given_labels") or checkpoint["hyper_parameters"]["labels"]


def _options(group: str, hyperparameters: dict[str, Any]) -> dict[str, Any]:
    options = {f"{group}.{name}": value for name, value in hyperparameters.items() if not name.startswith("_")}
    return {name: value for name, value in options.items() if name not in _LINKED}


def _has_train(data: Any) -> bool:
    files = [data["train_file"], data["validation_file"], data["test_file"]]
    return data["train_file"] is not None if any(files) else data["dataset_name"] is not None


def _forget_the_corpus(data: Any) -> None:
    """`predict` reads the file to predict and nothing else, whatever a config file names."""
    for name in _SOURCES - {"predict_file"}:
        data[name] = None
