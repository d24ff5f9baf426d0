"""A checkpoint as a Hugging Face folder: weights, tokenizer, configuration, model card and `scores.json`.

What `transformers` loads with no line of this package. A folder is written beside its place and renamed: never half a
model. It knows nothing of the Hub.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ner_lightning.card import CardSplit, model_card
from ner_lightning.checkpoints import newest_checkpoint, read_checkpoint
from ner_lightning.errors import InputError
from ner_lightning.outbox import Destination, Outbox
from ner_lightning.pretrained import (
    load_token_classifier,
    load_tokenizer,
    longest_input,
    marks_subwords,
    needs_spaces,
)
from ner_lightning.quickstart import packaged
from ner_lightning.scores import read_splits

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_PACKAGES = ("ner-lightning", "lightning", "torch", "transformers", "datasets")  # whose versions the card tells


@dataclass(frozen=True)
class About:
    """What only its author knows of a model, for the card.

    Args:
        repo_id: Hub id under which it is found.
        language: Codes of the languages.
        license: Identifier of the licence.
        widget_examples: Sentences to try it with.
    """

    repo_id: str | None = None
    language: list[str] | None = None
    license: str | None = None
    widget_examples: list[str] | None = None


def export(
    *,
    ckpt_path: str | None = None,
    output: str | None = None,
    overwrite: bool = False,
    default_root_dir: str = "runs",
    repo_id: str | None = None,
    language: list[str] | None = None,
    license: str | None = None,
    widget_examples: list[str] | None = None,
    trust_remote_code: bool = False,
) -> Path:
    """Write the model of a checkpoint as a folder that transformers loads.

    Args:
        ckpt_path: The checkpoint; `best` (the default) and `last` are those of the newest run.
        output: The folder to write; by default `model` in the folder of the run.
        overwrite: Replace the folder if it is there.
        default_root_dir: Where the newest run is looked for.
        repo_id: Hub id under which the model will be found, for the card.
        language: Codes of the languages of the model (`en`), for the card.
        license: Licence of the model (`apache-2.0`), for the card.
        widget_examples: Sentences with which the page of the model lets one try it; by default invented ones.
        trust_remote_code: Run the code that comes with the model, where it needs it.

    Returns:
        The folder.

    Raises:
        InputError: There is no such checkpoint, or the folder is there already.
    """
    path = Path(ckpt_path) if ckpt_path not in (None, "best", "last") else None
    if path is None:
        path = newest_checkpoint(default_root_dir, kind=ckpt_path or "best")
    if path is None:
        raise InputError(f"no checkpoint below {default_root_dir}: run `fit` first, or give --ckpt_path")
    checkpoint = read_checkpoint(path)
    folder = Path(output) if output is not None else run_folder(path) / "model"
    if folder.exists() and not overwrite:
        raise InputError(f"--output={folder} is there already: give another folder, or --overwrite=true")
    if folder.exists() and not ((folder / "scores.json").is_file() and (folder / "config.json").is_file()):
        raise InputError(f"--output={folder} holds no exported model, and is not replaced: give another folder")
    model = _model(checkpoint, trust_remote_code=trust_remote_code)
    beside = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        beside.mkdir(parents=True)
        write_model(
            beside,
            checkpoint,
            model=model,
            tokenizer=tokenizer_of(checkpoint["hyper_parameters"], trust_remote_code=trust_remote_code),
            splits=read_splits(path, checkpoint),
            run_dir=run_folder(path),
            about=About(repo_id=repo_id, language=language, license=license, widget_examples=widget_examples),
        )
        if folder.exists():
            old = folder.with_name(f"{folder.name}.{os.getpid()}.old")
            folder.rename(old)
            beside.rename(folder)
            shutil.rmtree(old)
        else:
            beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def stage_best(outbox: Outbox, destination: Destination, *, trust_remote_code: bool = False) -> None:
    """Put the best model of a run into its outbox.

    Args:
        outbox: Of the run.
        destination: Where it is to go.
        trust_remote_code: Run the code that comes with the model, where it needs it.

    Raises:
        InputError: The run has no checkpoint.
    """
    path = newest_checkpoint(outbox.run_dir)
    if path is None:
        raise InputError(f"{outbox.run_dir}: no checkpoint below this folder; give the folder of a run")
    checkpoint = read_checkpoint(path)
    told = outbox.folder / "about.json"  # what PushToHub was told, where the run had one
    about = About(**json.loads(told.read_text(encoding="utf-8"))) if told.is_file() else About()
    write = partial(
        write_model,
        checkpoint=checkpoint,
        model=_model(checkpoint, trust_remote_code=trust_remote_code),
        tokenizer=tokenizer_of(checkpoint["hyper_parameters"], trust_remote_code=trust_remote_code),
        splits=read_splits(path, checkpoint),
        run_dir=outbox.run_dir,
        about=replace(about, repo_id=destination.repo_id),
    )
    step = checkpoint["global_step"]
    outbox.stage(write, step=step, destination=destination, message=commit_message(checkpoint))


def commit_message(checkpoint: dict[str, Any]) -> str:
    """Step and score of a checkpoint.

    Args:
        checkpoint: What is in it.
    """
    values = checkpoint.get("validation_scores", {})
    return f"step {checkpoint['global_step']}" + (f": val_f1 {values['val_f1']:.4f}" if values else "")


def write_model(
    folder: Path,
    checkpoint: dict[str, Any],
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    splits: list[CardSplit],
    run_dir: Path,
    about: About,
) -> None:
    """Write the files of a model into an empty folder.

    Args:
        folder: Where to.
        checkpoint: As Lightning saves it: the weights that are written, labels and options.
        model: A model of the same kind, whose own weights are not looked at.
        tokenizer: Its tokenizer.
        splits: The data, with what the weights scored on it.
        run_dir: Folder of the run, whose `config.yaml` the card shows.
        about: What else the card says.
    """
    state = checkpoint["state_dict"].items()
    weights = {key.removeprefix("model."): tensor for key, tensor in state if key.startswith("model.")}
    with _no_progress_bar():
        model.save_pretrained(folder, state_dict=weights)
    for file in folder.glob("*.safetensors"):
        shutil.copymode(folder / "config.json", file)  # else nobody but its owner may read it
    if tokenizer.model_max_length > 1e9:  # not stated: a pipeline could not cut what is too long
        tokenizer.model_max_length = longest_input(tokenizer, model.config) or tokenizer.model_max_length
    tokenizer.save_pretrained(folder)
    step = checkpoint["global_step"]
    epoch = checkpoint["epoch"] + (step > 0)  # counted from 1, 0 before training
    facts = {"epoch": epoch, "step": step, "splits": [asdict(split) for split in splits if split.scores]}
    (folder / "scores.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    card = _card(checkpoint, tokenizer=tokenizer, splits=splits, run_dir=run_dir, about=about, epoch=epoch)
    (folder / "README.md").write_text(card, encoding="utf-8")


def tokenizer_of(options: dict[str, Any], *, trust_remote_code: bool) -> PreTrainedTokenizerFast:
    """The tokenizer that a model was trained with; asks the Hub.

    Args:
        options: Hyperparameters of the model.
        trust_remote_code: Run the code that comes with the model, where it needs it.
    """
    name, revision = options["model_name_or_path"], options.get("model_revision")
    return load_tokenizer(name, revision=revision, trust_remote_code=trust_remote_code)


def run_folder(ckpt_path: Path) -> Path:
    """The folder of the run that a checkpoint stands in.

    Args:
        ckpt_path: The checkpoint.
    """
    return ckpt_path.parent.parent if ckpt_path.parent.name == "checkpoints" else ckpt_path.parent


def _model(checkpoint: dict[str, Any], *, trust_remote_code: bool) -> PreTrainedModel:
    """A model of the kind that a checkpoint is of, with weights of no meaning."""
    options = checkpoint["hyper_parameters"]
    name, revision = options["model_name_or_path"], options.get("model_revision")
    return load_token_classifier(
        name, labels=options["labels"], pretrained=False, revision=revision, trust_remote_code=trust_remote_code
    )


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Of transformers, in the midst of that of the run."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _card(
    checkpoint: dict[str, Any],
    *,
    tokenizer: PreTrainedTokenizerFast,
    splits: list[CardSplit],
    run_dir: Path,
    about: About,
    epoch: int,
) -> str:
    options, data = checkpoint["hyper_parameters"], checkpoint.get("datamodule_hyper_parameters", {})
    name = options["model_name_or_path"]
    of_the_hub = options.get("pretrained", True) and not Path(packaged(name)).exists()
    saved = run_dir / "config.yaml"
    config = saved.read_text(encoding="utf-8") if saved.is_file() else None
    if config is not None and not config.startswith("# python -m ner_lightning fit"):
        config = None  # a file of that name that no run of ours has written is not for others to read
    command = config.partition("\n")[0].removeprefix("# ") if config else None
    return model_card(
        about.repo_id or f"{Path(name).name}-token-classifier",
        labels=options["labels"],
        splits=splits,
        base_model=name if of_the_hub else None,
        base_revision=options.get("model_revision"),
        global_step=checkpoint["global_step"],
        epoch=epoch,
        label_all_tokens=data.get("label_all_tokens", False),
        max_seq_length=data.get("max_seq_length"),
        score_mode=options["score_mode"],
        command=command,
        config=config,
        repo_id=about.repo_id,
        language=about.language,
        license=about.license,
        widget_examples=about.widget_examples,
        versions={"python": platform.python_version()} | {package: version(package) for package in _PACKAGES},
        marks_subwords=marks_subwords(tokenizer),
        needs_spaces=needs_spaces(tokenizer),
    )
