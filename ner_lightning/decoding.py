"""Logits to labels, the same for scores and for predictions."""

from torch import Tensor


def decode(logits: Tensor) -> Tensor:
    """Choose the most probable label at each position.

    Args:
        logits: (windows, length, labels).

    Returns:
        Label ids, (windows, length).
    """
    return logits.argmax(-1)


def probabilities(logits: Tensor, label_ids: Tensor) -> Tensor:
    """How probable chosen labels are.

    Args:
        logits: (words, labels), of any precision.
        label_ids: (words,).

    Returns:
        (words,), float32.
    """
    return logits.float().softmax(-1).gather(-1, label_ids[:, None])[:, 0]
