"""A checkpoint as a Hugging Face folder: weights, tokenizer, configuration, model card and `scores.json`.

What `transformers` loads with no line of this package. A folder is written beside its place and renamed: never half a
model, and never one whose weights transformers would not find. It knows nothing of the Hub.
"""

from __future__ import annotations

import json
import logging
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from glob import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ner_lightning.checkpoints import find_checkpoint, read_checkpoint
from ner_lightning.errors import InputError
from ner_lightning.files import is_left_over, naming, process_mark
from ner_lightning.hub.card import CardSplit, model_card
from ner_lightning.hub.outbox import Destination, Outbox
from ner_lightning.hub.push import runs_in
from ner_lightning.pretrained import (
    load_token_classifier,
    load_tokenizer,
    longest_input,
    marks_subwords,
    needs_spaces,
    weights_looked_for,
)
from ner_lightning.quickstart import packaged
from ner_lightning.scores import read_splits

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

log = logging.getLogger(__name__)

_PACKAGES = ("ner-lightning", "lightning", "torch", "transformers", "datasets")  # whose versions the card tells
# what an export writes, with any kind of tokenizer, of this release and of others
_WRITTEN = re.compile(
    r"README\.md|scores\.json|config\.json|(model|pytorch_model)[^/]*\.(safetensors|bin)(\.index\.json)?"
    r"|(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template|generation_config)\.json"
    r"|(vocab|merges|bpe)\.(txt|codes)|chat_template\.jinja|[a-z.]*(spiece|sentencepiece|tokenizer|spm)[a-z.]*\.(model|vocab)"
)


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
    language: list[str] | str | None = None
    license: str | None = None
    widget_examples: list[str] | None = None


def export(
    *,
    ckpt_path: str | None = None,
    output: str | None = None,
    overwrite: bool = False,
    default_root_dir: str = "runs",
    repo_id: str | None = None,
    language: list[str] | str | None = None,
    license: str | None = None,
    widget_examples: list[str] | None = None,
    trust_remote_code: bool = False,
) -> Path:
    """Write the model of a checkpoint as a folder that transformers loads.

    Args:
        ckpt_path: The checkpoint, or the folder of a run, whose best one it is; `best` (the default) and `last` are
            those of the newest run.
        output: The folder to write; by default `model` in the folder of the run.
        overwrite: Replace the model in a folder that holds one, and nothing else.
        default_root_dir: Where the newest run is looked for.
        repo_id: Hub id under which the model will be found, for the card.
        language: Code of the language of the model (`en`), or codes (`[en,de]`), for the card.
        license: Licence of the model (`apache-2.0`), for the card.
        widget_examples: Sentences with which the page of the model lets one try it; by default invented ones.
        trust_remote_code: Run the code that comes with the model, where it needs it.

    Returns:
        The folder.

    Raises:
        InputError: There is no such checkpoint, its weights cannot be used, or the folder cannot be written.
    """
    path = find_checkpoint(ckpt_path, root=default_root_dir)
    if path is None:
        raise InputError(f"no checkpoint below {default_root_dir}: run `fit` first, or give --ckpt_path")
    checkpoint = read_checkpoint(path)
    folder = Path(output) if output is not None else run_folder(path) / "model"
    place = folder.resolve()  # a link stays one, and "." has a name
    mark = f".{place.name}.{process_mark()}"
    beside, old = place.with_name(f"{mark}.partial"), place.with_name(f"{mark}.old")
    try:
        _clear(place)
        _refuse(folder, place, overwrite=overwrite)
        model = _model(checkpoint, trust_remote_code=trust_remote_code)
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
        _refuse(folder, place, overwrite=overwrite)  # again: it took a while
        if place.exists():
            place.rename(old)
        beside.rename(place)
    except OSError as error:
        kept = "the folder is as it was" if place.exists() or old.exists() else "nothing is left of it"
        raise InputError(f"--output={folder}: {_failure(error)}; {kept}") from error
    finally:
        if old.exists() and not place.exists():
            old.rename(place)
        for rest in (beside, old):
            shutil.rmtree(rest, ignore_errors=True)
    return folder


def best_of_run(run_dir: Path) -> Path:
    """The best checkpoint of a run.

    Args:
        run_dir: Folder of the run.

    Raises:
        InputError: It has none, or is a folder with runs in it.
    """
    for kind in ("best", "last"):
        if (path := run_dir / "checkpoints" / f"{kind}.ckpt").is_file():
            return path
    raise InputError(runs_in(run_dir) or f"{run_dir}: no checkpoint below this folder; give the folder of a run")


def stage_best(outbox: Outbox, path: Path, destination: Destination, *, trust_remote_code: bool = False) -> None:
    """Put the best model of a run into its outbox, instead of all that waits there.

    Args:
        outbox: Of the run.
        path: The checkpoint.
        destination: Where it is to go.
        trust_remote_code: Run the code that comes with the model, where it needs it.

    Raises:
        InputError: It cannot be written.
    """
    others = [staged for staged in outbox.waiting() if staged.destination != destination]
    _stage(outbox, path, destination, alone=True, trust_remote_code=trust_remote_code)
    for staged in others:
        print(f"given up: {staged.name} ({staged.message}), which waited for {staged.destination.repo_id}")


def stage_with_scores(outbox: Outbox, *, trust_remote_code: bool = False) -> None:
    """Put the newest model that waits into the outbox again, with the scores of a test that was made since.

    Args:
        outbox: Of the run.
        trust_remote_code: Run the code that comes with the model, where it needs it.

    Raises:
        InputError: It cannot be written.
    """
    waiting = outbox.waiting()
    for record in outbox.run_dir.glob("**/checkpoints/*.test.json"):
        path = record.with_name(record.name.removesuffix(".test.json") + ".ckpt")
        if waiting and path.is_file() and commit_message(read_checkpoint(path)) == waiting[-1].message:
            alone = waiting[-1].alone
            _stage(outbox, path, waiting[-1].destination, alone=alone, trust_remote_code=trust_remote_code)
            return


def _stage(outbox: Outbox, path: Path, destination: Destination, *, alone: bool, trust_remote_code: bool) -> None:
    checkpoint = read_checkpoint(path)
    write = partial(
        write_model,
        checkpoint=checkpoint,
        model=_model(checkpoint, trust_remote_code=trust_remote_code),
        tokenizer=tokenizer_of(checkpoint["hyper_parameters"], trust_remote_code=trust_remote_code),
        splits=read_splits(path, checkpoint),
        run_dir=outbox.run_dir,
        about=replace(_told(outbox), repo_id=destination.repo_id),
    )
    message, step = commit_message(checkpoint), checkpoint["global_step"]
    try:
        outbox.stage(write, step=step, destination=destination, message=message, alone=alone)
    except OSError as error:
        raise InputError(
            f"{outbox.folder}: {_failure(error)}; nothing was put in or sent, and what waited there still waits"
        ) from error


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

    Raises:
        InputError: The weights are not finite, or are not those that transformers looks for.
        OSError: A file cannot be written; it is named.
    """
    state = checkpoint["state_dict"].items()
    weights = {key.removeprefix("model."): tensor for key, tensor in state if key.startswith("model.")}
    _refuse_not_finite(weights, buffers={name for name, _ in model.named_buffers()})
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if limit := checkpoint.get("datamodule_hyper_parameters", {}).get("max_seq_length"):
        model.config.max_seq_length = limit  # Tagger cuts windows as in training
    with _no_progress_bar(), naming(folder / "model.safetensors"):
        model.save_pretrained(folder, state_dict=weights)
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{type(model).__name__} saves no config.json, and transformers could not load it: merge what was added to "
            "the model before it is saved"
        )
    _refuse_unloadable(folder, shapes)
    for file in folder.glob("*.safetensors"):
        shutil.copymode(folder / "config.json", file)  # else nobody but its owner may read it
    if tokenizer.model_max_length > 1e9:  # not stated: a pipeline could not cut what is too long
        tokenizer.model_max_length = longest_input(tokenizer, model.config) or tokenizer.model_max_length
    with naming(folder / "tokenizer.json"):
        tokenizer.save_pretrained(folder)
    step, epoch = checkpoint["global_step"], _epoch(checkpoint)
    facts = {"epoch": epoch, "step": step, "splits": [asdict(split) for split in splits if split.scores]}
    _write(folder / "scores.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    card = _card(checkpoint, tokenizer=tokenizer, splits=splits, run_dir=run_dir, about=about, epoch=epoch)
    _write(folder / "README.md", card)


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


def _clear(place: Path) -> None:
    """Put right what an export that was killed has left beside its place."""
    for left in place.parent.glob(f".{escape(place.name)}.*"):
        mark, suffix = left.stem.removeprefix(f".{place.name}."), left.suffix
        # that of this process too: numbers come again, in containers above all
        if suffix not in (".partial", ".old") or not (mark == process_mark() or is_left_over(mark)):
            continue
        if suffix == ".old" and not place.exists():  # killed between its two renames
            left.rename(place)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _refuse(folder: Path, place: Path, *, overwrite: bool) -> None:
    """Refuse to replace anything but a model, and the files of one."""
    if not place.exists():
        return
    if not place.is_dir():
        raise InputError(f"--output={folder} is a file: give the name of a folder")
    if place == Path.cwd():
        raise InputError(f"--output={folder} is the folder that this runs in: give another one")
    if not overwrite:
        raise InputError(f"--output={folder} is there already: give another folder, or --overwrite=true")
    if not ((place / "scores.json").is_file() and (place / "config.json").is_file()):
        raise InputError(f"--output={folder} holds no exported model, and is not replaced: give another folder")
    others = sorted(path.name for path in place.iterdir() if path.is_dir() or not _WRITTEN.fullmatch(path.name))
    if others:
        raise InputError(
            f"--output={folder} holds more than an exported model ({', '.join(others[:3])}"
            f"{', ...' if len(others) > 3 else ''}), and is not replaced: give another folder, or move that away"
        )


def _failure(error: OSError) -> str:
    name = Path(error.filename).name if error.filename else "a file"
    return f"{name} cannot be written: {error.strerror or error}"


def _refuse_not_finite(weights: dict[str, Tensor], *, buffers: set[str]) -> None:
    # a mask may well hold infinity, and is a buffer
    broken = [name for name, tensor in weights.items() if name not in buffers and not tensor.isfinite().all()]
    if broken:
        raise InputError(
            f"the weights of this checkpoint are not finite (NaN or infinity in {_some(broken)}): training diverged, "
            "and such a model finds nothing; train with a smaller --model.learning_rate"
        )


def _refuse_unloadable(folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse weights that transformers would leave out, or draw at random in silence."""
    expected = weights_looked_for(folder)
    if expected is None:
        return
    missing = [name for name, shape in expected.items() if shapes.get(name) != shape]
    if missing:
        raise InputError(
            f"transformers would not find {_some(missing)} in this model: its weights have other names or shapes, as "
            "those of a subclass with adapters have; merge them into the model before it is saved"
        )
    if further := sorted(shapes.keys() - expected.keys()):
        raise InputError(
            f"transformers would leave out {_some(further)} of this model, which a subclass has added; merge them into "
            "the model before it is saved"
        )


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:2])}{f' and {len(names) - 2:,} more' if len(names) > 2 else ''}"


def _epoch(checkpoint: dict[str, Any]) -> int:
    """The epoch of the last step, from 1; 0 before training."""
    if not checkpoint["global_step"]:
        return 0
    # not `epoch`, the number of those that were ended: a run that stops inside one counts it, a save in it does not
    loop = checkpoint["loops"]["fit_loop"]
    started: int = loop["epoch_progress"]["current"]["started"]
    return started - (not loop["epoch_loop.batch_progress"]["current"]["processed"])


def _write(path: Path, text: str) -> None:
    with naming(path):
        path.write_text(text, encoding="utf-8")


def _told(outbox: Outbox) -> About:
    """What PushToHub was told, where the run had one."""
    told = outbox.folder / "about.json"
    try:
        return About(**json.loads(told.read_text(encoding="utf-8"))) if told.is_file() else About()
    except (ValueError, TypeError):
        log.warning("%s is damaged: the card is written without language, licence and examples", told)
        return About()


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
