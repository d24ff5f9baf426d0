"""The options of a run that goes on from a checkpoint, or tests one.

From strong to weak: the command line, config files, what the checkpoint records, the defaults. What the checkpoint
records is made the defaults of the parser, which then reads what the user gave once more: nobody has to guess whether
an option was given.
"""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jsonargparse import Namespace
from lightning_utilities.core.rank_zero import rank_zero_info

from ner_lightning.checkpoints import data_state, find_checkpoint, run_folder
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.errors import InputError
from ner_lightning.pretrained import exported_options, load_config, trained_labels

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# where data comes from: where the user names one of these, the checkpoint adds none
_SOURCES = {
    "dataset_name",
    "dataset_config_name",
    "dataset_revision",
    "train_file",
    "validation_file",
    "test_file",
}
# options that no checkpoint gives: made from others, or a matter of trust in whoever wrote it
_LINKED = {
    "model.labels",
    "data.model_name_or_path",
    "data.model_revision",
    "data.keep_case",
    "model.trust_remote_code",
    "data.trust_remote_code",
}
# what a resumed run may change: it makes no other run
_FREE = {
    "model.terminate_on_nan",
    "model.gradient_checkpointing",
    "model.unpadded",
    "model.compact_embedding",
    "model.onednn",
}
# of the machine that trained, not of the run
_MACHINE = {"accelerator", "strategy", "devices", "num_nodes", "default_root_dir", "fast_dev_run"}


def checkpoint_to_use(config: Any, subcommand: str, *, model_name_or_path: str | None) -> str | None:
    """The checkpoint that was asked for; without one, all but `fit` use the best of the newest run.

    Args:
        config: The options of the subcommand.
        subcommand: `fit`, `validate`, `test` or `inspect`.
        model_name_or_path: The model, where the user names one.

    Returns:
        Its path; None for a new run, and where a model that was fine-tuned before is used as it is.

    Raises:
        InputError: There is none.
    """
    asked, root = config["ckpt_path"], config["trainer"]["default_root_dir"] or "."
    if asked is None and subcommand == "fit":
        return None
    kind = "last" if subcommand == "fit" else "best"
    path = find_checkpoint(asked, root=root, kind=kind, model_name_or_path=model_name_or_path)
    if path is not None:
        if str(path) != str(asked):
            rank_zero_info(f"using {path}")
        return str(path)
    if asked is None and model_name_or_path and _trained_labels(config) is not None:
        return None
    of = f" that started from {model_name_or_path}" if model_name_or_path else ""
    raise InputError(
        f"no checkpoint below {Path(root)}{of}: run `fit` first, give --ckpt_path, or name a fine-tuned model with "
        "--model.model_name_or_path"
    )


def recorded_options(checkpoint: dict[str, Any], subcommand: str, *, path: Path, given: Any) -> dict[str, Any]:
    """The options that a checkpoint records, by their dotted names, as far as they matter to a subcommand.

    Args:
        checkpoint: Its content.
        path: Where it is: a run that goes on is kept where it is now.
        subcommand: `fit`, `validate`, `test` or `inspect`.
        given: The options of the subcommand, parsed without the checkpoint.
    """
    state = data_state(checkpoint)
    data = checkpoint.get("datamodule_hyper_parameters", {})
    options = _trained_with(checkpoint) if subcommand == "fit" else _of_the_model(checkpoint)
    if subcommand == "fit":
        config = _config(checkpoint)
        # a command that is typed again with the checkpoint must not add its callbacks to themselves
        left_out = _MACHINE | ({"callbacks"} if given["trainer"]["callbacks"] else set())
        for group in ("trainer", "checkpoint"):
            recorded = config.get(group, {}).items()
            options |= {f"{group}.{name}": value for name, value in recorded if name not in left_out}
        run = run_folder(path)
        if path.name == "last.ckpt" and run.name.startswith("version_") and (run / "config.yaml").is_file():
            options["trainer.default_root_dir"] = str(run.parent)
    own_source = any(given["data"][name] is not None for name in _SOURCES)
    # a run that goes on must not lose it: it says so where it does not fit other files
    of_sources = _SOURCES if subcommand == "fit" else _SOURCES | {"annotated_types"}
    options |= {f"data.{name}": value for name, value in data.items() if not (own_source and name in of_sources)}
    if subcommand != "fit" and data.get("seed") is None:  # a share for validation was drawn with that of the run
        options["data.seed"] = state.get("seed")
    same_dataset = all(given["data"][name] == data.get(name) for name in ("dataset_name", "dataset_config_name"))
    if not own_source or same_dataset:  # the very rows, whatever the branch holds by now
        options["data.dataset_revision"] = state.get("dataset_commit") or data.get("dataset_revision")
    return {name: value for name, value in options.items() if name not in _LINKED}


def recorded_data(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The options of the datamodule that read the very data of a run again, as far as its checkpoint records them.

    Args:
        checkpoint: Its content.
    """
    state, recorded = data_state(checkpoint), checkpoint.get("datamodule_hyper_parameters", {})
    known = signature(TokenClassificationDataModule).parameters
    options = {name: value for name, value in recorded.items() if name in known}
    options["dataset_revision"] = state.get("dataset_commit") or options.get("dataset_revision")
    if options.get("seed") is None:  # which decides what validation_split draws
        options["seed"] = state.get("seed")
    # as the data spells them, whose tags may be numbers
    options["labels"] = state.get("given_labels") or checkpoint["hyper_parameters"]["labels"]
    return options


def options_of_the_model(config: Any) -> dict[str, Any]:
    """The options that a fine-tuned model records which is used as it is, without a checkpoint.

    Args:
        config: The options of the subcommand.
    """
    groups = {"max_seq_length": "data", "context": "data", "decoding": "model"}
    return {f"{groups[name]}.{name}": value for name, value in exported_options(_model_config(config)).items()}


def refuse_contradictions(config: Any, checkpoint: dict[str, Any]) -> None:
    """Refuse to resume a run with other options than its optimizer and the order of its batches were made with.

    Args:
        config: The options of `fit`, with the checkpoint as `ckpt_path`.
        checkpoint: Its content.

    Raises:
        InputError: It holds weights only, or an option differs.
    """
    if "optimizer_states" not in checkpoint:
        raise InputError(f"--ckpt_path={config['ckpt_path']} holds weights alone: no run can go on from it")
    for name, value in _trained_with(checkpoint).items():
        if name in _LINKED | _FREE or name not in config:
            continue
        if (given := _plain(config[name])) != value:
            raise InputError(
                f"--{name}={given}, but {config['ckpt_path']} was trained with {value}: a run is resumed "
                "with its own options; leave it out, or start a new run"
            )


def complete(config: Any, subcommand: str, *, given: Any, checkpoint: dict[str, Any] | None) -> None:
    """Fill in the options that follow from others.

    Args:
        config: The options of the subcommand, which are changed.
        subcommand: `fit`, `validate`, `test` or `inspect`.
        given: The same, parsed without the checkpoint.
        checkpoint: Content of the one to use, if there is one.
    """
    if checkpoint is not None and subcommand != "fit":
        config["model"]["pretrained"] = False  # the weights are those of the checkpoint
    if config["data"]["labels"] is None:
        config["data"]["labels"] = _labels(config, subcommand, given=given, checkpoint=checkpoint)


def _labels(config: Any, subcommand: str, *, given: Any, checkpoint: dict[str, Any] | None) -> list[str] | None:
    """The labels of the model, or those with which the data spells them; None for those of the training data."""
    if checkpoint is None:
        return None if subcommand == "fit" else _trained_labels(config)
    labels: list[str] = checkpoint["hyper_parameters"]["labels"]
    chosen = data_state(checkpoint).get("given_labels")
    if chosen is not None:  # for that run, and in the spelling of its data
        return list(chosen)
    return None if _has_train(given["data"]) else labels


def _trained_labels(config: Any) -> list[str] | None:
    return trained_labels(_model_config(config))


def _model_config(config: Any) -> PretrainedConfig:
    model = config["model"]
    return load_config(model["model_name_or_path"], trust_remote_code=model["trust_remote_code"])


def _trained_with(checkpoint: dict[str, Any]) -> dict[str, Any]:
    options, state = _of_the_model(checkpoint), data_state(checkpoint)
    if checkpoint.get("datamodule_hyper_parameters", {}).get("seed") is None and "seed" in state:
        options["seed_everything"] = state["seed"]  # else the data has a seed of its own
    config = _config(checkpoint)
    return options | {name: config[name] for name in ("optimizer", "lr_scheduler") if name in config}


def _config(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The whole configuration of a run; empty in the checkpoint of a notebook."""
    config: dict[str, Any] = yaml.safe_load(checkpoint.get("config", "{}"))
    return config


def _plain(value: Any) -> Any:
    """As a config file has it: an optimizer is a namespace with tuples once it is parsed."""
    return json.loads(json.dumps(value.as_dict())) if isinstance(value, Namespace) else value


def _of_the_model(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return {f"model.{name}": value for name, value in checkpoint["hyper_parameters"].items() if name[0] != "_"}


def _has_train(data: Any) -> bool:
    files = [data["train_file"], data["validation_file"], data["test_file"]]
    return data["train_file"] is not None if any(files) else data["dataset_name"] is not None
