"""A checkpoint as a Hugging Face folder: weights, tokenizer, configuration, model card and `scores.json`.

`transformers` loads it without this package, unless its model is ONNX (see `compact`). It is written beside its place
and renamed: never half a model, and never one whose weights transformers would not find.
"""

# no postponed annotations here: jsonargparse would import the types below for the help of `export`
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ner_lightning.checkpoints import classifier_weights, decoding_of, find_checkpoint, read_checkpoint, run_folder
from ner_lightning.errors import InputError, UsageError, refuse_without
from ner_lightning.files import is_left_over, move_into_place, naming, process_mark
from ner_lightning.hub.card import card_facts, model_card
from ner_lightning.hub.outbox import About
from ner_lightning.pretrained import load_token_classifier, load_tokenizer, longest_input, weights_looked_for
from ner_lightning.scores import SplitScores, read_splits

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# what an export writes, with any kind of tokenizer, of this release and of others
_WRITTEN = re.compile(
    r"README\.md|scores\.json|config\.json|(model|pytorch_model)[^/]*\.(safetensors|bin)(\.index\.json)?|model\.onnx(\.data)?"
    r"|(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template|generation_config)\.json"
    r"|(vocab|merges|bpe)\.(txt|codes)|chat_template\.jinja|[a-z.]*(spiece|sentencepiece|tokenizer|spm)[a-z.]*\.(model|vocab)"
)


def export(
    *,
    ckpt_path: str | None = None,
    output: str | None = None,
    overwrite: bool = False,
    space: bool = False,
    onnx: bool = False,
    int8: bool = False,
    max_f1_loss: float | None = None,
    validation_file: list[str] | str | None = None,
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
        output: The folder to write; by default `model` in the folder of the run, with `onnx` `onnx`, with `space`
            `space`.
        overwrite: Replace the model in a folder that holds one, and nothing else.
        space: Write the files of a Hugging Face Space with the page of `demo` into a new folder, and the model into
            `model` in it, or with `repo_id` no model: then the Space loads that of the Hub.
        onnx: Write the model as ONNX, for `predict` and `Tagger` on a processor, in place of the weights for
            transformers; it is scored and timed on the validation split beside them.
        int8: With `onnx`, in 8 bits: faster and smaller. Layers that lose by it on validation stay as they are.
        max_f1_loss: With `onnx`, percentage points of F1 that it may lose on validation (0.5); nothing is written where
            it loses more.
        validation_file: The validation split for `onnx`; by default that of the run.
        default_root_dir: Where the newest run is looked for.
        repo_id: Hub id under which the model will be found, for the card.
        language: Code of the language of the model (`en`), or codes (`[en,de]`), for the card.
        license: Licence of the model (`apache-2.0`), for the card.
        widget_examples: Sentences with which the page of the model lets one try it; by default invented ones.
        trust_remote_code: Run the code that comes with the model, where it needs it.

    Returns:
        The folder.

    Raises:
        InputError: There is no such checkpoint, its weights cannot be used, the folder cannot be written, or an ONNX
            model loses too much.
    """
    if not onnx:
        refuse_without("--onnx", int8=int8, max_f1_loss=max_f1_loss, validation_file=validation_file)
    if space and repo_id is not None and (onnx or "/" not in repo_id):
        raise UsageError(
            f"--space --repo_id={repo_id}: the Space loads the model from the Hub: give the id with its namespace "
            f"(you/{repo_id.rpartition('/')[2]}), without --onnx"
        )
    path = find_checkpoint(ckpt_path, root=default_root_dir)
    if path is None:
        raise InputError(f"no checkpoint below {default_root_dir}: run `fit` first, or give --ckpt_path")
    checkpoint = read_checkpoint(path)
    usual = "space" if space else "onnx" if onnx else "model"
    folder = Path(output) if output is not None else run_folder(path) / usual
    place = folder.resolve()  # a link stays one, and "." has a name
    mark = f".{place.name}.{process_mark()}"
    beside, old = place.with_name(f"{mark}.partial"), place.with_name(f"{mark}.old")
    try:
        _clear(place)
        _refuse(folder, place, overwrite=overwrite)
        about = About(repo_id=repo_id, language=language, license=license, widget_examples=widget_examples)
        write = writer(path, checkpoint, about=about, trust_remote_code=trust_remote_code)
        if onnx:
            from ner_lightning.hub.compact import compact

            most = 0.5 if max_f1_loss is None else max_f1_loss
            smaller = partial(compact, checkpoint=checkpoint, int8=int8, max_f1_loss=most)
            smaller = partial(smaller, validation_file=validation_file, trust_remote_code=trust_remote_code)
            write = partial(write, compact=smaller)
        if space:
            from ner_lightning.hub.space import write_space

            title = repo_id or f"{Path(checkpoint['hyper_parameters']['model_name_or_path']).name}-token-classifier"
            write = partial(
                write_space,
                write=None if repo_id else write,
                title=title,
                about=about,
                extras=("onnx",) if onnx else (),
            )
        beside.mkdir(parents=True)
        write(beside)
        _refuse(folder, place, overwrite=overwrite)  # again: it took a while
        if place.exists():
            place.rename(old)
        move_into_place(beside, place)
    except OSError as error:
        kept = "the folder is as it was" if place.exists() or old.exists() else "nothing is left of it"
        raise InputError(f"--output={folder}: {failure(error)}; {kept}") from error
    finally:
        if old.exists() and not place.exists():
            old.rename(place)
        for rest in (beside, old):
            shutil.rmtree(rest, ignore_errors=True)
    return folder


def writer(path: Path, checkpoint: dict[str, Any], *, about: About, trust_remote_code: bool) -> Callable[..., None]:
    """Load what it takes to write the model of a checkpoint; gives the function that writes it into an empty folder."""
    options = checkpoint["hyper_parameters"]
    model = load_token_classifier(  # with random weights, overwritten on save
        options["model_name_or_path"],
        labels=options["labels"],
        pretrained=False,
        revision=options.get("model_revision"),
        trust_remote_code=trust_remote_code,
        keep_case=options.get("keep_case", False),
    )
    return partial(
        write_model,
        checkpoint=checkpoint,
        model=model,
        tokenizer=tokenizer_of(options, trust_remote_code=trust_remote_code),
        splits=read_splits(path, checkpoint),
        about=about,
    )


def failure(error: OSError) -> str:
    """Which file could not be written, and why."""
    name = Path(error.filename).name if error.filename else "a file"
    return f"{name} cannot be written: {error.strerror or error}"


def commit_message(checkpoint: dict[str, Any]) -> str:
    """Step and score of a checkpoint."""
    values = checkpoint.get("validation_scores", {})
    return f"step {checkpoint['global_step']}" + (f": val_f1 {values['val_f1']:.4f}" if values else "")


def write_model(
    folder: Path,
    checkpoint: dict[str, Any],
    *,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    splits: list[SplitScores],
    about: About,
    compact: Callable[[Path], dict[str, Any]] | None = None,
) -> None:
    """Write the files of a model into an empty folder: its weights are those of the checkpoint, not those of `model`.

    What `compact` makes of the folder, and tells of that, goes into card and scores.

    Raises:
        InputError: The weights are not finite, or are not those that transformers looks for.
        OSError: A file cannot be written; it is named.
    """
    weights = classifier_weights(checkpoint)
    _refuse_not_finite(weights, buffers={name for name, _ in model.named_buffers()})
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    # Tagger makes windows as in training; what stands in the config of an exported model is of its own training
    data = checkpoint.get("datamodule_hyper_parameters", {})
    for name, usual in (("max_seq_length", None), ("context", "sentence")):
        if (value := data.get(name, usual)) != getattr(model.config, name, usual):
            setattr(model.config, name, value)
    model.config.decoding = decoding_of(checkpoint["hyper_parameters"])
    model.config.calibration = checkpoint.get("calibration")
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
    with _no_progress_bar():
        onnx = compact(folder) if compact else None
    facts = card_facts(checkpoint, tokenizer=tokenizer, splits=splits, about=about, onnx=onnx)
    scores = [asdict(split) for split in splits if split.scores]
    known = {"epoch": facts.epoch, "step": facts.global_step, "splits": scores} | ({"onnx": onnx} if onnx else {})
    texts = {"scores.json": json.dumps(known, indent=2, ensure_ascii=False) + "\n", "README.md": model_card(facts)}
    for name, text in texts.items():
        with naming(folder / name):
            (folder / name).write_text(text, encoding="utf-8")


def tokenizer_of(options: dict[str, Any], *, trust_remote_code: bool) -> "PreTrainedTokenizerFast":
    """The tokenizer that a model of these hyperparameters was trained with; asks the Hub."""
    name, revision = options["model_name_or_path"], options.get("model_revision")
    keep_case = options.get("keep_case", False)
    return load_tokenizer(name, revision=revision, trust_remote_code=trust_remote_code, keep_case=keep_case)


def _clear(place: Path) -> None:
    """Remove what a killed export has left beside its place, or put the old folder back."""
    for left in place.parent.glob(f".{escape(place.name)}.*"):
        mark, suffix = left.stem.removeprefix(f".{place.name}."), left.suffix
        # that of this process too: process ids come again, in containers above all
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


def _refuse_not_finite(weights: "dict[str, Tensor]", *, buffers: set[str]) -> None:
    # a mask may well hold infinity, and is a buffer
    broken = [name for name, tensor in weights.items() if name not in buffers and not tensor.isfinite().all()]
    if broken:
        raise InputError(
            f"the weights of this checkpoint are not finite (NaN or infinity in {_some(broken)}): training diverged, "
            "and such a model finds nothing; train with a smaller --model.learning_rate"
        )


def _refuse_unloadable(folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse weights that transformers would leave out, or fill with random numbers in silence."""
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


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Hide that of transformers, which would break the one of the run."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
