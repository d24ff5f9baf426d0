"""LoRA: low-rank adapters beside the linear layers of an encoder, by `peft`, which is an extra.

Trained are the adapters and the head. A checkpoint holds the adapters beside the weights that they adapt; whoever reads
its classifier gets the sum of both, under the names of the model without adapters, and needs no `peft`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from ner_lightning.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

_ALL = "all-linear"


class Lora(TypedDict, total=False):
    """Options of LoRA.

    Args:
        rank: Of the product that is added to the weights of a layer; by default 16.
        alpha: The product is weighted by `alpha / rank`; by default twice the rank.
        dropout: Of the inputs of the adapters; by default 0.1.
        target_modules: Names of the linear layers to adapt, such as `[query, value]`; by default `all-linear`, all of
            the encoder.
    """

    rank: int
    alpha: float | None
    dropout: float
    target_modules: list[str] | str


def add_adapters(model: PreTrainedModel, lora: int | Lora) -> None:
    """Freeze the encoder of a model, and put adapters beside its linear layers, but those that are frozen already.

    Args:
        model: A token classifier, which is changed.
        lora: The rank, or options.

    Raises:
        InputError: `peft` is not installed, an option is out of its range, or there is no such layer.
    """
    from torch import nn

    options = _options(lora)
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise InputError('--model.lora needs peft: pip install "ner-lightning[lora]"') from error

    encoder = model.base_model
    # of this very class: attention may read the weights of others without calling them
    linear = [
        name for name, layer in encoder.named_modules() if type(layer) is nn.Linear and layer.weight.requires_grad
    ]
    if not linear:
        raise InputError(f"--model.lora: {type(encoder).__name__} has no linear layers to adapt, or all are frozen")
    targets = [options.target_modules] if isinstance(options.target_modules, str) else options.target_modules
    chosen = linear if targets == [_ALL] else []
    for target in () if chosen else targets:
        named = [name for name in linear if f".{name}".endswith(f".{target}")]
        if not named:
            names = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
            raise InputError(f"--model.lora.target_modules: there is no layer {target} to adapt, but {names}")
        chosen += named
    config = LoraConfig(r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout, target_modules=chosen)
    inject_adapter_in_model(config, encoder)  # in place, and without the head, which stays as it is


def merged(weights: dict[str, Tensor], lora: int | Lora) -> dict[str, Tensor]:
    """Add the adapters to the weights that they adapt.

    Args:
        weights: Of a model with adapters.
        lora: The rank, or options, that it was trained with.

    Returns:
        The weights of a model without adapters that computes the same.
    """
    options = _options(lora)
    found = {}
    for name, tensor in weights.items():
        layer, adapted, kind = name.partition(".base_layer.")
        if adapted and kind == "weight":
            down, up = (weights[f"{layer}.lora_{side}.default.weight"] for side in "AB")  # (rank, in), (out, rank)
            tensor = tensor + options.alpha / options.rank * (up @ down)
        if adapted:
            found[f"{layer}.{kind}"] = tensor
        elif ".lora_" not in name:
            found[name] = tensor
    return found


def lora_rank(lora: int | Lora) -> int:
    """The rank of adapters.

    Args:
        lora: The rank, or options.
    """
    return _options(lora).rank


class _Options(NamedTuple):
    rank: int
    alpha: float
    dropout: float
    target_modules: list[str] | str


def _options(lora: int | Lora) -> _Options:
    given: Lora = lora if isinstance(lora, dict) else {"rank": lora}
    if unknown := sorted(given.keys() - Lora.__annotations__.keys()):
        raise InputError(f"--model.lora.{unknown[0]}: no such option; there are {', '.join(Lora.__annotations__)}")
    rank, alpha, dropout = given.get("rank", 16), given.get("alpha"), given.get("dropout", 0.1)
    if isinstance(rank, bool) or rank < 1:
        raise InputError(f"--model.lora.rank={rank}: give a number from 1, or leave --model.lora out")
    alpha = 2.0 * rank if alpha is None else alpha
    if not 0 < alpha < math.inf:
        raise InputError(f"--model.lora.alpha={alpha}: give a number above 0")
    if not 0 <= dropout < 1:
        raise InputError(f"--model.lora.dropout={dropout}: give a number from 0 to below 1")
    if not (targets := given.get("target_modules", _ALL)):
        raise InputError("--model.lora.target_modules: give names of layers, or all-linear")
    return _Options(rank, alpha, dropout, targets)
