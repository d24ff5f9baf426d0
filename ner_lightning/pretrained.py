"""What a model name stands for: configuration, tokenizer and weights, from the Hub, a folder or the package.

The only file that calls `from_pretrained` (but for `casing`, of what it wrote itself), so that a wrong name, a missing
network and a tokenizer that cannot align words are reported in one place, in one sentence.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ner_lightning import casing
from ner_lightning.errors import InputError
from ner_lightning.quickstart import packaged

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

log = logging.getLogger(__name__)

# words on which a tokenizer shows whether it splits a list of them as the text that they make
_PROBE = [
    sentence.split(" ")
    for sentence in (
        "He lives",
        "On 1996-08-24 she paid 3.50 , or 12,000 ( 7 % ) , at 10:45 .",
        "They don't , she 's sure , he 'll stay at O'Hara & Sons .",
        "`` U.S. '' -- \" e-mail \" : a_b / c @ d.e # 1 ...",
        "Zoë naïve … “ 中 国 ” € 5 😀 R2D2",
    )
]

# of a window where a model states no limit: relative positions have no end, memory has
_DEFAULT_LENGTH = 512

# `transformers` takes seconds to import and `--help` does not need it: every import of it stands in a function.


def load_tokenizer(
    model_name_or_path: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    keep_case: bool = False,
) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer that splits words as it splits the text that they make.

    Some do so with a list of words (BERT's, XLM-R's), plain byte-level ones with `add_prefix_space` (RoBERTa's,
    GPT-2's), others where the words of the list have the spaces between them, see `needs_spaces` (Llama 3's, Qwen's).
    Words with digits, marks and apostrophes tell which kind it is. A tokenizer of the last kind is returned and
    exported unchanged.

    Args:
        model_name_or_path: Hub id or local folder.
        revision: Branch, tag or commit of the Hub repository.
        trust_remote_code: Run the code that comes with the model, where it needs it.
        keep_case: Let one that lower-cases keep upper case, see `casing`.

    Raises:
        InputError: There is no such tokenizer, or one without words, or only a slow one, which cannot say which word
            a sub-word is of.
    """
    from transformers import AutoTokenizer

    load = partial(
        _load,
        AutoTokenizer.from_pretrained,
        model_name_or_path,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    tokenizer = load()
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
    if _alike(tokenizer, spaces=False) < len(_PROBE) and _is_plain_byte_level(tokenizer):
        tokenizer = load(add_prefix_space=True)
        _add_prefix_space(tokenizer)
    if _alike(tokenizer, spaces=needs_spaces(tokenizer)) < len(_PROBE):
        log.warning(
            "%s splits words otherwise than the text that they make: in raw text other entities may be found than are "
            "scored here",
            model_name_or_path,
        )
    return casing.keep_case(tokenizer) if keep_case else tokenizer


def needs_spaces(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether words are split as in text only where each but the first has its space: `["He", " lives"]`.

    Such tokenizers (Llama 3's, Qwen's, Gemma's, BLOOM's) read the space as a part of the word behind it and would take
    the words of a list for pieces of one word.

    Args:
        tokenizer: A fast tokenizer.
    """
    return _alike(tokenizer, spaces=True) > _alike(tokenizer, spaces=False)


def marks_subwords(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether continuation sub-words are marked (BERT's `##`), so that `transformers.pipeline` knows them.

    Args:
        tokenizer: A fast tokenizer.
    """
    return bool(json.loads(tokenizer.backend_tokenizer.to_str())["model"].get("continuing_subword_prefix"))


def as_in_text(words: Sequence[str]) -> list[str]:
    """Words with the spaces that part them in text.

    Args:
        words: Words of a sentence.
    """
    return [*words[:1], *(f" {word}" for word in words[1:])]


def load_config(
    model_name_or_path: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PretrainedConfig:
    """Load the configuration of a model.

    Args:
        model_name_or_path: Hub id or local folder.
        revision: Branch, tag or commit of the Hub repository.
        trust_remote_code: Run the code that comes with the model, where it needs it.

    Raises:
        InputError: There is no such model, or no network to look for it.
    """
    from transformers import AutoConfig

    return _load(AutoConfig.from_pretrained, model_name_or_path, revision=revision, trust_remote_code=trust_remote_code)


def longest_input(tokenizer: PreTrainedTokenizerFast, config: PretrainedConfig) -> int | None:
    """Sub-words that a model takes at once, special tokens included; None where there is no limit.

    Args:
        tokenizer: Tokenizer of the model, which often states the limit.
        config: Configuration of the model.
    """
    stated = int(tokenizer.model_max_length) if tokenizer.model_max_length < 1e9 else None  # 1e30: not stated
    positions = getattr(config, "max_position_embeddings", None) or 0
    if positions <= 0:
        return stated
    return min(stated, positions) if stated else positions - _reserved_positions(config)


def window_length(tokenizer: PreTrainedTokenizerFast, config: PretrainedConfig, *, asked: int | None = None) -> int:
    """Sub-words in a window, special tokens included.

    Args:
        tokenizer: Tokenizer of the model.
        config: Configuration of the model.
        asked: How many are asked for; by default as many as the model takes, or 512 where it has no limit.

    Raises:
        InputError: The model does not take as many.
    """
    limit = longest_input(tokenizer, config)
    if asked is not None and limit is not None and asked > limit:
        raise InputError(
            f"--data.max_seq_length={asked} is more than the model takes: {limit}; leave it out, longer sentences are "
            "cut into windows and scored whole"
        )
    return (limit or _DEFAULT_LENGTH) if asked is None else asked


def load_token_classifier(
    model_name_or_path: str,
    *,
    labels: Sequence[str],
    pretrained: bool = True,
    revision: str | None = None,
    trust_remote_code: bool = False,
    keep_case: bool = False,
) -> PreTrainedModel:
    """Load an encoder with a head for `labels`, in float32.

    A model that already classifies tokens keeps its head where its labels are these, in this order; a head for
    another task is replaced by a new one, with a message.

    Args:
        model_name_or_path: Hub id or local folder.
        labels: Names of the classes, in the order of their ids.
        pretrained: Load the weights; otherwise draw them at random for the same configuration.
        revision: Branch, tag or commit of the Hub repository.
        trust_remote_code: Run the code that comes with the model, where it needs it.
        keep_case: Embed the upper case that its tokenizer keeps with this option, see `casing`.

    Raises:
        InputError: There is no such model, or its head has the same labels in another order.
    """
    import torch
    from transformers import AutoModelForTokenClassification

    config = load_config(model_name_or_path, revision=revision, trust_remote_code=trust_remote_code)
    own = trained_labels(config)
    if pretrained and own is not None and own != list(labels) and set(own) == set(labels):
        raise InputError(
            f"{model_name_or_path} was trained with the labels {own}, the data has {list(labels)}: the same names in "
            "another order; give `--data.labels` in the order of the model to keep its head"
        )
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    if config.model_type == "big_bird":
        # its sparse attention is given up for good at the first short batch, by a layer whose dropout is off
        config.attention_type = "original_full"
    draw = partial(
        AutoModelForTokenClassification.from_config, config, dtype=torch.float32, trust_remote_code=trust_remote_code
    )
    if not pretrained:
        with _one_sentence(model_name_or_path):
            model = draw()
        if keep_case:
            casing.add_spellings(
                model, load_tokenizer(model_name_or_path, revision=revision, trust_remote_code=trust_remote_code)
            )
        return model.train()
    with _quiet_transformers():
        model, loading = _load(
            AutoModelForTokenClassification.from_pretrained,
            model_name_or_path,
            revision=revision,
            trust_remote_code=trust_remote_code,
            config=config,
            dtype=torch.float32,  # 5.x would take the dtype of the file, and AdamW on bfloat16 weights learns little
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    head = dict(head_parameters(model))
    drawn = {*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])}
    # a whole head without names of its own (LABEL_0, LABEL_1) is one for other labels too
    if own != list(labels) and (own is not None or not drawn & head.keys()):
        for name, parameter in head_parameters(draw()):
            head[name].data.copy_(parameter.data)
        log.warning(
            "%s: its head for %s is replaced by a new one for the labels of the data",
            model_name_or_path,
            own or "labels without names",
        )
    if lost := sorted(drawn - head.keys()):
        log.warning("%s lacks weights of its encoder, drawn at random: %s", model_name_or_path, ", ".join(lost))
    if keep_case:
        casing.add_spellings(
            model, load_tokenizer(model_name_or_path, revision=revision, trust_remote_code=trust_remote_code)
        )
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
    """The label names that a model was trained with; None where its head is not trained.

    Args:
        config: Configuration of the model. Without labels of its own it says `LABEL_0`, `LABEL_1`.
    """
    names = [config.id2label[number] for number in sorted(config.id2label)]
    return None if all(name == f"LABEL_{number}" for number, name in enumerate(names)) else names


def exported_options(config: PretrainedConfig) -> dict[str, Any]:
    """What an export leaves in the configuration of a model, so that it is used as it was scored.

    Args:
        config: Configuration of the model; of another origin it stands for lone sentences and the most probable labels.
    """
    usual = {"max_seq_length": None, "context": "sentence", "decoding": "argmax"}
    return {name: getattr(config, name, value) for name, value in usual.items()}


def head_parameters(model: PreTrainedModel) -> list[tuple[str, Any]]:
    """Names and parameters outside the encoder: the classifier on top of it.

    Args:
        model: A model with a head.
    """
    return [(name, p) for name, p in model.named_parameters() if not name.startswith(f"{model.base_model_prefix}.")]


def _load(load: Callable[..., Any], name: str, *, revision: str | None, trust_remote_code: bool, **options: Any) -> Any:
    if name.endswith(".ckpt") or (Path(name, "checkpoints").is_dir() and not Path(name, "config.json").exists()):
        raise InputError(
            f"--model.model_name_or_path={name}: a run and no model; give the folder that `python -m ner_lightning "
            f"export --ckpt_path={name} --output=FOLDER` writes"
        )
    place = packaged(name)
    offline = not Path(place).exists() and not _hub_answers(name, revision)
    with _one_sentence(name, offline=offline):
        # said in each call: left open, transformers would ask on standard input, where the words to label may come in
        return load(place, revision=revision, trust_remote_code=trust_remote_code, local_files_only=offline, **options)


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
        if "trust_remote_code=True" in str(error):
            raise InputError(
                f"--model.model_name_or_path={name} comes with code of its own, which is not run unless you trust it: "
                "read it, then give --model.trust_remote_code=true on the command line (predict, export and push: "
                "--trust_remote_code)"
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
    """Positions that RoBERTa and models like it keep for padding: 2 of their 514."""
    import torch
    from transformers import AutoModel

    with torch.device("meta"):  # the shape of the model, without its weights
        # a configuration of a class of its own was loaded with trust in its code
        own = not type(config).__module__.startswith("transformers.")
        model = AutoModel.from_config(config, trust_remote_code=own)
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module.num_embeddings == config.max_position_embeddings:
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def _alike(tokenizer: PreTrainedTokenizerFast, *, spaces: bool) -> int:
    """How many sentences of the probe have the same sub-words as words and as text."""
    try:
        lists = [as_in_text(words) if spaces else words for words in _PROBE]
        of_words = tokenizer(lists, is_split_into_words=True, verbose=False).input_ids
    except AssertionError:  # RoBERTa's and GPT-2's own check that add_prefix_space is on, in some releases
        return 0
    of_text = tokenizer([" ".join(words) for words in _PROBE], verbose=False).input_ids
    return sum(words == text for words, text in zip(of_words, of_text, strict=True))


def _is_plain_byte_level(tokenizer: PreTrainedTokenizerFast) -> bool:
    from tokenizers.pre_tokenizers import ByteLevel

    return isinstance(tokenizer.backend_tokenizer.pre_tokenizer, ByteLevel)


def _add_prefix_space(tokenizer: PreTrainedTokenizerFast) -> None:
    # the model classes (RoBERTa, GPT-2) take the option, the generic class of a bare tokenizer.json ignores it
    from tokenizers import processors

    tokenizer.backend_tokenizer.pre_tokenizer.add_prefix_space = True
    post_processor = tokenizer.backend_tokenizer.post_processor
    if isinstance(post_processor, processors.ByteLevel | processors.RobertaProcessing):
        post_processor.add_prefix_space = True  # else it trims a letter of the first word


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Hide the table of new weights: a new head is the normal case here."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
