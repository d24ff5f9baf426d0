"""From the name of a trained model to its classifier and encoder: a run, a checkpoint, an exported folder, a Hub id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ner_lightning.calibration import Calibration
from ner_lightning.checkpoints import classifier_weights, decoding_of, find_checkpoint, read_checkpoint
from ner_lightning.decoding import Decoding
from ner_lightning.encoding import Encoder
from ner_lightning.errors import InputError
from ner_lightning.onnx_model import FILE, OnnxClassifier
from ner_lightning.pretrained import (
    exported_options,
    load_config,
    load_token_classifier,
    load_tokenizer,
    trained_labels,
    window_length,
)

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast


class Trained(NamedTuple):
    """A classifier with its encoder, its decoding and calibration, and the name of a decoding of a subclass."""

    classifier: PreTrainedModel | OnnxClassifier
    encoder: Encoder
    decoding: Decoding | None
    calibration: Calibration | None
    own_decode: str | None


def load_trained(model: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Trained:
    """Load a model as it was trained and scored.

    Args:
        model: Folder of runs, of which the newest is taken, folder of a run, whose best checkpoint is taken, a
            checkpoint, an exported folder, or a Hub id.
        revision: Branch, tag or commit of a model on the Hub.
        trust_remote_code: Run the code that comes with the model, where it needs it.

    Raises:
        InputError: There is no such model, or none that was trained to label words.
    """
    path = Path(model).expanduser()
    if path.is_file() or path.suffix == ".ckpt":
        return _from_checkpoint(path, trust_remote_code)
    if path.is_dir():
        if not (path / "config.json").is_file():
            checkpoint = find_checkpoint(path, root=path)
            assert checkpoint is not None
            return _from_checkpoint(checkpoint, trust_remote_code)
        model = str(path)
    elif model == "runs":
        raise InputError("there is no folder runs here: run `fit` first, or give the model")
    with _naming("--model="):
        config = load_config(model, revision=revision, trust_remote_code=trust_remote_code)
        labels = trained_labels(config)
        if labels is None:
            raise InputError(f"{model} has no labels of its own: it was not trained to label words; run `fit` first")
        classifier: PreTrainedModel | OnnxClassifier
        if (path / FILE).is_file() and not (path / "model.safetensors").is_file():
            classifier = OnnxClassifier(path / FILE)
        else:
            classifier = load_token_classifier(
                model, labels=labels, revision=revision, trust_remote_code=trust_remote_code
            )
        tokenizer = load_tokenizer(model, revision=revision, trust_remote_code=trust_remote_code)
        options, calibration = exported_options(config), getattr(config, "calibration", None)
        encoder = _encoder(tokenizer, config, labels, options)
        return Trained(classifier, encoder, options["decoding"], calibration and Calibration(**calibration), None)


def _from_checkpoint(path: Path, trust_remote_code: bool) -> Trained:
    checkpoint = read_checkpoint(path)
    options, data = checkpoint["hyper_parameters"], checkpoint.get("datamodule_hyper_parameters", {})
    name, revision, labels = options["model_name_or_path"], options.get("model_revision"), options["labels"]
    how = {"trust_remote_code": trust_remote_code, "keep_case": options.get("keep_case", False)}
    with _naming(f"{path}: its model "):
        classifier = load_token_classifier(name, labels=labels, pretrained=False, revision=revision, **how)
        classifier.load_state_dict(classifier_weights(checkpoint))
        tokenizer = load_tokenizer(name, revision=revision, **how)
        encoder = _encoder(tokenizer, classifier.config, labels, data)
        calibration = checkpoint.get("calibration")
        return Trained(
            classifier,
            encoder,
            decoding_of(options),
            calibration and Calibration(**calibration),
            checkpoint.get("decode"),
        )


@contextmanager
def _naming(model: str) -> Iterator[None]:
    """Say what is wrong with a model of what was given here: the option is that of `fit`."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace("--model.model_name_or_path=", model)) from error


def _encoder(
    tokenizer: PreTrainedTokenizerFast, config: PretrainedConfig, labels: list[str], options: dict[str, Any]
) -> Encoder:
    """What makes windows as in training: with the options of the datamodule, which an export leaves in the config."""
    return Encoder(
        tokenizer,
        labels=labels,
        max_seq_length=window_length(tokenizer, config, asked=options.get("max_seq_length")),
        context=options.get("context", "sentence"),
    )
