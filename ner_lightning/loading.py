"""The loader of batches, which says where it stands, so that a run goes on inside an epoch."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from ner_lightning.sampling import LengthBatchSampler


class ResumableLoader(DataLoader[Any]):
    """A DataLoader over a `LengthBatchSampler` whose state Lightning saves in checkpoints and restores.

    What counts are the batches that have left the loader: its workers ask the sampler ahead.
    """

    sampler: LengthBatchSampler
    _handed_out = 0  # of this epoch

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override] # the iterator there has no more than that
        self._handed_out = self.sampler.start
        for batch in super().__iter__():
            self._handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, int | None]:
        """Say where this loader stands: epoch, batches handed out, what fixes the order; for any rank."""
        return self.sampler.state_dict(handed_out=self._handed_out)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on, in the next iteration, where a state was taken.

        Args:
            state: From `state_dict`, on any rank.

        Raises:
            InputError: The order was another one.
        """
        self.sampler.load_state_dict(state)
        self._handed_out = self.sampler.start
