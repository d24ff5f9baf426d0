"""What a model name stands for: configuration, tokenizer and weights, from the Hub, a folder or the package.

The only file that calls `from_pretrained`, so that a wrong name, a missing network and a tokenizer that cannot
align words are told in one place and in one sentence. It knows nothing of corpora, batches or training.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ner_lightning.errors import InputError
from ner_lightning.quickstart import packaged

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

log = logging.getLogger(__name__)

# `transformers` takes seconds to import and `--help` does not need it: every import of it stands in a function.


def load_tokenizer(model_name_or_path: str, *, revision: str | None = None) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer that splits a list of words as it splits the text they make.

    Byte-level tokenizers need `add_prefix_space` for that. Whether this one does is found by trying: the
    sub-words of `["He", "lives"]` must be those of `"He lives"`.

    Args:
        model_name_or_path: Hub id or local folder.
        revision: Branch, tag or commit of the Hub repository.

    Raises:
        InputError: There is no such tokenizer, or one without words, or only a slow one, which cannot say which word
            a sub-word is of.
    """
    from transformers import AutoTokenizer

    tokenizer = _load(AutoTokenizer.from_pretrained, model_name_or_path, revision=revision)
    if not tokenizer.is_fast:
        raise InputError(
            f"--model.model_name_or_path={model_name_or_path}: {type(tokenizer).__name__} is a slow tokenizer, which "
            "cannot tell which word a sub-word belongs to; choose a model that has a fast one (a tokenizer.json)"
        )
    # without its files, transformers makes a tokenizer of special tokens and the sign of a word's start, silently
    if not set(tokenizer.get_vocab()) - {*tokenizer.all_special_tokens, "▁"}:
        raise InputError(
            f"--model.model_name_or_path={model_name_or_path} has a configuration but no vocabulary: every word would "
            "be unknown; the files of its tokenizer (a tokenizer.json) belong beside config.json"
        )
    if not _splits_words_like_text(tokenizer):
        tokenizer = _load(AutoTokenizer.from_pretrained, model_name_or_path, revision=revision, add_prefix_space=True)
        _add_prefix_space(tokenizer)
        if not _splits_words_like_text(tokenizer):
            log.warning(
                "%s splits a list of words otherwise than the text they make: a pipeline on raw text may find "
                "other entities than are scored here",
                model_name_or_path,
            )
    return tokenizer


def load_config(model_name_or_path: str, *, revision: str | None = None) -> PretrainedConfig:
    """Load the configuration of a model.

    Args:
        model_name_or_path: Hub id or local folder.
        revision: Branch, tag or commit of the Hub repository.

    Raises:
        InputError: There is no such model, or no network to look for it.
    """
    from transformers import AutoConfig

    return _load(AutoConfig.from_pretrained, model_name_or_path, revision=revision)


def longest_input(tokenizer: PreTrainedTokenizerFast, config: PretrainedConfig) -> int | None:
    """Sub-words that a model takes at once, special tokens included; None where its positions have no end.

    Args:
        tokenizer: Tokenizer of the model, which often states the limit.
        config: Configuration of the model.
    """
    stated = int(tokenizer.model_max_length) if tokenizer.model_max_length < 1e9 else None  # 1e30: not stated
    positions = getattr(config, "max_position_embeddings", None) or 0
    if positions <= 0:
        return stated
    return min(stated, positions) if stated else positions - _reserved_positions(config)


def load_token_classifier(
    model_name_or_path: str, *, labels: Sequence[str], pretrained: bool = True, revision: str | None = None
) -> PreTrainedModel:
    """Load an encoder with a head for `labels`, in float32.

    A model that already classifies tokens keeps its head where its labels are these, in this order; a head for
    another task is replaced by a new one, which is said.

    Args:
        model_name_or_path: Hub id or local folder.
        labels: Names of the classes, in the order of their ids.
        pretrained: Load the weights; otherwise draw them at random for the same configuration.
        revision: Branch, tag or commit of the Hub repository.

    Raises:
        InputError: There is no such model, or its head has the same labels in another order.
    """
    import torch
    from transformers import AutoModelForTokenClassification

    config = load_config(model_name_or_path, revision=revision)
    own = trained_labels(config)
    if pretrained and own is not None and own != list(labels) and set(own) == set(labels):
        raise InputError(
            f"{model_name_or_path} was trained with the labels {own}, the data has {list(labels)}: the same names in "
            "another order; give `--data.labels` in the order of the model to keep its head"
        )
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    if not pretrained:
        with _one_sentence(model_name_or_path):
            return AutoModelForTokenClassification.from_config(config, dtype=torch.float32).train()
    with _quiet_transformers():
        model, loading = _load(
            AutoModelForTokenClassification.from_pretrained,
            model_name_or_path,
            revision=revision,
            config=config,
            dtype=torch.float32,  # 5.x would take the dtype of the file, and AdamW on bfloat16 weights learns little
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    head = dict(head_parameters(model))
    drawn = {*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])}
    # a whole head without names of its own (LABEL_0, LABEL_1) is one for other labels too
    if own != list(labels) and (own is not None or not drawn & head.keys()):
        fresh = AutoModelForTokenClassification.from_config(config, dtype=torch.float32)
        for name, parameter in head_parameters(fresh):
            head[name].data.copy_(parameter.data)
        log.warning(
            "%s: its head for %s is replaced by a new one for the labels of the data",
            model_name_or_path,
            own or "labels without names",
        )
    if lost := sorted(drawn - head.keys()):
        log.warning("%s lacks weights of its encoder, drawn at random: %s", model_name_or_path, ", ".join(lost))
    return model.train()  # `from_pretrained` leaves it in eval mode, and Lightning keeps the mode it finds: no dropout


def weights_looked_for(folder: Path) -> dict[str, tuple[int, ...]] | None:
    """Names and shapes of the weights that transformers looks for in a folder; None where code in it decides.

    Args:
        folder: A model with a head for labels, as it is saved.
    """
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification

    if "auto_map" in json.loads((folder / "config.json").read_text(encoding="utf-8")):
        return None
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):  # the shape of the model, without its weights
        model = AutoModelForTokenClassification.from_config(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def trained_labels(config: PretrainedConfig) -> list[str] | None:
    """The label names that a model was trained with; None where its head is of no use yet.

    Args:
        config: Configuration of the model. Without labels of its own it says `LABEL_0`, `LABEL_1`.
    """
    names = [config.id2label[number] for number in sorted(config.id2label)]
    return None if all(name == f"LABEL_{number}" for number, name in enumerate(names)) else names


def head_parameters(model: PreTrainedModel) -> list[tuple[str, Any]]:
    """Names and parameters outside the encoder: the classifier on top of it.

    Args:
        model: A model with a head.
    """
    return [(name, p) for name, p in model.named_parameters() if not name.startswith(f"{model.base_model_prefix}.")]


def _load(load: Callable[..., Any], name: str, *, revision: str | None, **options: Any) -> Any:
    place = packaged(name)
    offline = not Path(place).exists() and not _hub_answers(name, revision)
    with _one_sentence(name, offline=offline):
        return load(place, revision=revision, local_files_only=offline, **options)


@contextmanager
def _one_sentence(name: str, *, offline: bool = False) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a missing file, a cut one and a wrong one fail in the own way of each library
        if offline and isinstance(error, OSError):
            _hub_answers.cache_clear()  # the next attempt, in a notebook, may find a network
            raise InputError(
                f"--model.model_name_or_path={name}: there is no such folder, the Hub does not answer and the model is "
                "not in the cache; what works offline: a local folder, a model that was used before, or the packaged "
                "ner_lightning/quickstart with --model.pretrained=false"
            ) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]  # paragraphs of advice follow
        raise InputError(f"--model.model_name_or_path={name} cannot be loaded: {reason}") from error


@cache
def _hub_answers(name: str, revision: str | None) -> bool:
    """Ask the Hub once, without the half minute of retries that each file would take where there is no network."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        HfApi().model_info(name, revision=revision, timeout=10)
    except HFValidationError as error:
        raise InputError(
            f"--model.model_name_or_path={name}: neither a folder nor the id of a model on the Hub"
        ) from error
    except HfHubHTTPError as error:
        if error.response.status_code not in (401, 403, 404):
            return False
        at = f" at revision {revision}" if revision else ""
        raise InputError(
            f"--model.model_name_or_path={name}: no folder of that name, and the Hub has no such model{at} or does not "
            "show it to you (for a private or gated one: `hf auth login`)"
        ) from error
    except Exception:  # no network has many names: the client's, the HTTP library's, offline mode's
        return False
    return True


def _reserved_positions(config: PretrainedConfig) -> int:
    """Positions that RoBERTa and its kin keep for padding: 2 of their 514."""
    import torch
    from transformers import AutoModel

    with torch.device("meta"):  # the shape of the model, without its weights
        model = AutoModel.from_config(config)
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module.num_embeddings == config.max_position_embeddings:
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def _splits_words_like_text(tokenizer: PreTrainedTokenizerFast) -> bool:
    words = ["He", "lives"]
    try:
        return bool(tokenizer(words, is_split_into_words=True).input_ids == tokenizer(" ".join(words)).input_ids)
    except AssertionError:  # RoBERTa's and GPT-2's own check that add_prefix_space is on
        return False


def _add_prefix_space(tokenizer: PreTrainedTokenizerFast) -> None:
    # the model classes (RoBERTa, GPT-2) take the option, the generic class of a bare tokenizer.json ignores it
    from tokenizers import processors
    from tokenizers.pre_tokenizers import ByteLevel

    pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    if isinstance(pre_tokenizer, ByteLevel):
        pre_tokenizer.add_prefix_space = True
        post_processor = tokenizer.backend_tokenizer.post_processor
        if isinstance(post_processor, processors.ByteLevel | processors.RobertaProcessing):
            post_processor.add_prefix_space = True  # else it trims a letter of the first word


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No table of new weights: that the head is new is the normal case here."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
