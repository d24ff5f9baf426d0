"""A batch without its padding: real sub-words run as one row, and windows are padded around attention alone.

Embeddings, linear layers and norms see each sub-word by itself, so that only attention needs to know which window one
is of. It is told so by an attention function of our own, which transformers calls by its name.
"""

import logging
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

# kinds whose sub-words meet in attention alone, by where their positions begin: tests/test_attention.py holds each of
# them to its padded results, which is how another one comes in
FROM_ZERO = {"bert", "distilbert", "electra", "eurobert", "modernbert"}
BEHIND_PADDING = {"camembert", "roberta", "xlm-roberta"}  # at the position behind `pad_token_id`


class Packed(NamedTuple):
    """Where the sub-words of a row stand in the padded batch.

    Args:
        shape: Windows, and length of the longest.
        places: Of the sub-words, in the flattened batch.
        ends: Of the windows, in the row, from 0 on: (windows + 1,), int32.
    """

    shape: torch.Size
    places: Tensor
    ends: Tensor

    def pad(self, row: Tensor) -> Tensor:
        """Put a row (sub-words, ...) into windows (windows, length, ...), with zeros between."""
        flat = row.new_zeros(self.shape.numel(), *row.shape[1:]).index_copy_(0, self.places, row)
        return flat.view(*self.shape, *row.shape[1:])

    def unpad(self, windows: Tensor) -> Tensor:
        """Take a row (sub-words, ...) out of windows (windows, length, ...)."""
        return windows.flatten(0, 1).index_select(0, self.places)


def make_unpadded(model: "PreTrainedModel") -> bool:
    """Make a model ready for `run_unpadded`; it goes on to take padded batches, too.

    Args:
        model: A token classifier.

    Returns:
        Whether it can do so. If not, nothing is changed, and a line of the log says so.
    """
    kind = model.config.model_type
    if (
        kind not in FROM_ZERO | BEHIND_PADDING
        or not model.is_backend_compatible()  # ModernBERT in older releases
        or not type(model).__module__.startswith("transformers.")  # code of its own under the name of a kind
        or getattr(model.config, "is_decoder", False)
    ):
        log.warning("%s runs padded: it is not known to give the same without padding", type(model).__name__)
        return False
    model.set_attn_implementation(_registered())  # of this object: no configuration that is saved has it
    return True


def run_unpadded(model: "PreTrainedModel", input_ids: Tensor, attention_mask: Tensor) -> Any:
    """Run a model on the real sub-words of a batch.

    Args:
        model: One that `make_unpadded` has made ready.
        input_ids: (windows, length), padded behind.
        attention_mask: (windows, length), 0 where padded.

    Returns:
        The model's output, with `logits` (windows, length, labels), which are 0 where padded.
    """
    real = attention_mask.bool()
    places = real.flatten().nonzero().squeeze(1)
    if len(places) == input_ids.numel():
        return model(input_ids=input_ids)
    positions = places % input_ids.shape[1]
    if model.config.model_type in BEHIND_PADDING:
        padding = model.config.pad_token_id
        counted = (input_ids != padding).long()  # a text may hold the padding token, which these models do not count
        positions = (counted.cumsum(1) * counted + padding).flatten()[places]
    windows = Packed(input_ids.shape, places, functional.pad(real.sum(1).cumsum(0), (1, 0)).int())
    output = model(
        input_ids=windows.unpad(input_ids)[None],
        position_ids=positions[None],
        attention_mask=real[:, None, None],  # of four dimensions it comes to the attention function as it is
        windows=windows,
    )
    output.logits = windows.pad(output.logits[0])
    return output


@cache
def _registered() -> str:
    from transformers import AttentionInterface, AttentionMaskInterface

    sdpa = AttentionInterface()["sdpa"]

    def attend(
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        dropout: float = 0.0,
        scaling: float | None = None,
        windows: Packed | None = None,
        sliding_window: int | None = None,
        **options: Any,
    ) -> Any:
        options = {**options, "dropout": dropout, "scaling": scaling}
        if windows is None or attention_mask is None:  # a padded batch: its mask knows of the sliding window
            return sdpa(module, query, key, value, attention_mask, **options)
        # (1, heads, sub-words, size) -> (sub-words, heads, size)
        rows = [states[0].transpose(0, 1) for states in (query, key, value)]
        if (kernel := _flash_kernel(query)) is not None:
            side = -1 if sliding_window is None else sliding_window - 1
            ends, longest = windows.ends, windows.shape[1]
            borders = {"window_size": (side, side), "softmax_scale": scaling}
            return kernel(*rows, ends, ends, longest, longest, dropout_p=dropout, **borders)[None], None
        if sliding_window is not None:
            attention_mask = _nearby(attention_mask, sliding_window)
        padded = [windows.pad(row).transpose(1, 2) for row in rows]  # (windows, heads, length, size)
        output, _ = sdpa(module, *padded, attention_mask, **options)
        return windows.unpad(output)[None], None

    AttentionInterface.register("unpadded", attend)
    AttentionMaskInterface.register("unpadded", AttentionMaskInterface()["sdpa"])
    return "unpadded"


def _flash_kernel(states: Tensor) -> Callable[..., Tensor] | None:
    """FlashAttention for windows of any length, where it is installed; not yet run on a GPU."""
    from transformers.utils import is_flash_attn_2_available

    if not states.is_cuda or states.dtype not in (torch.bfloat16, torch.float16) or not is_flash_attn_2_available():
        return None
    kernel: Callable[..., Tensor] = import_module("flash_attn").flash_attn_varlen_func
    return kernel


def _nearby(real: Tensor, width: int) -> Tensor:
    """Which places a place attends to: real ones less than `width` away; what is padding itself, to all of them.

    Args:
        real: Which places hold a sub-word, (windows, 1, 1, length).
        width: Of the sliding window, to either side.
    """
    places = torch.arange(real.shape[-1], device=real.device)
    near = (places[:, None] - places).abs() < width  # (length, length)
    return real & (near | ~real.transpose(-1, -2))  # without an own place softmax would divide by zero
