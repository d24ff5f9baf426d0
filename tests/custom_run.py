"""A module with another loss, another decoding and an option of its own, on the command line of the package."""

import sys

from torch import Tensor

from ner_lightning import TokenClassificationDataModule, TokenClassificationModule
from ner_lightning.cli import main


class FocalModule(TokenClassificationModule):
    """Fine-tune with a focal loss, and with a bonus for words outside entities.

    Args:
        gamma: How much less a word counts that is right already.
        bonus: Added to the logit of `O`.
    """

    def __init__(self, *args, gamma: float = 2.0, bonus: float = 0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.gamma, self.bonus = gamma, bonus

    def loss(self, batch, logits) -> Tensor:
        """Focal loss of the words."""
        scored = batch["word_index"] >= 0
        right = logits[scored].float().log_softmax(-1).gather(-1, batch["labels"][scored][:, None])
        return -((1 - right.exp()) ** self.gamma * right).mean()

    def decode(self, batch, logits) -> Tensor:
        """The most probable label, after the bonus."""
        logits = logits.clone()
        logits[..., self.labels.index("O")] += self.bonus
        return logits.argmax(-1)


class LargerBatches(TokenClassificationDataModule):
    """Words with labels, in batches of another size.

    Args:
        factor: By which training batches are larger than `batch_size`.
    """

    def __init__(self, *, factor: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.batch_size *= factor


if __name__ == "__main__":
    sys.exit(main(model_class=FocalModule, datamodule_class=LargerBatches))
