"""The order of batches, a function of (seed, epoch, rank, position) and of nothing else.

Holds `LengthBatchSampler`, which hands out lists of sample numbers of similar length. It uses
the lengths of samples only.
"""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DistributedSampler

from ner_lightning.errors import InputError

# batches that are sorted by length together: enough to leave little padding, few enough that neighbours of an
# epoch are strangers in the next one
_MEGABATCH = 50

# what fixes the order besides the epoch, and where a user sets it
_FIXED_BY = {
    "seed": "--seed_everything",
    "batch_size": "--data.batch_size",
    "num_replicas": "--trainer.devices or --trainer.num_nodes",
    "samples": "--data.train_file or --data.dataset_name",
}


class LengthBatchSampler(DistributedSampler[list[int]]):
    """Batches of samples of similar length, for `DataLoader(rows, sampler=..., batch_size=None)`.

    Every rank gets the same number of batches, since a rank that is done early leaves the others waiting in
    their next collective operation for ever. Where batches do not divide evenly, the first ones come again,
    and no sample is lost. In evaluation this does no harm: a word that is scored again counts only once.

    It can say where it stands (`state_dict`) and go on from there. What it counts are batches handed out: the
    workers of a DataLoader ask ahead of what has been trained on.

    Args:
        lengths: Length of each sample, in whatever unit padding costs.
        batch_size: Samples in a batch; the last one may have fewer.
        shuffle: For training: a new order each epoch, sorted by length within random groups of 50 batches,
            these batches in random order. For evaluation (false): longest first, so that what does not fit
            in memory fails at once.
        seed: Of the order of training.
        num_replicas: Number of processes that share the samples.
        rank: Which of them this one is.
    """

    # A DistributedSampler, and the DataLoader's `sampler` with `batch_size=None`, because Lightning leaves
    # just that alone: under DDP its `_requires_distributed_sampler` looks at `dataloader.sampler` and wraps
    # every other class in a sampler that shards a second time; for `predict` it makes a `batch_sampler` anew,
    # with arguments that this class does not take; and `_set_sampler_epoch` finds `set_epoch` there.

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        if batch_size < 1:
            raise InputError(
                f"batch_size must be 1 or more, not {batch_size}: change --data.batch_size "
                "(in evaluation --data.eval_batch_size)"
            )
        # the base class asks of its dataset no more than how long it is
        super().__init__(
            lengths,  # type: ignore[arg-type]
            num_replicas=num_replicas,
            rank=rank,
            shuffle=shuffle,
            seed=seed,
        )
        self.batch_size = batch_size
        self._lengths = torch.as_tensor(lengths, dtype=torch.int64)
        self._position = 0  # batches of this epoch handed out so far
        self._start = 0  # where the next iteration begins: not at 0 only just after load_state_dict

    def __iter__(self) -> Iterator[list[int]]:
        # A generator, so that nothing happens before the first batch is asked for: Lightning makes iterators
        # ahead of `set_epoch`, and some that it never uses.
        start, self._start = self._start, 0
        batches = self._batches()
        # position i of rank r is batch i * num_replicas + r of all; past the end, the first ones again
        for position in range(start, len(self)):
            self._position = position + 1
            yield batches[(position * self.num_replicas + self.rank) % len(batches)]

    def __len__(self) -> int:
        """Batches of this rank in an epoch."""
        batches = -(-len(self._lengths) // self.batch_size)
        return -(-batches // self.num_replicas)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration has.

        Args:
            epoch: Number of the epoch, from 0. Another than that of a loaded state begins at its first batch.
        """
        if epoch != self.epoch:
            self._position = self._start = 0
        super().set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        """Say where this sampler stands: epoch, batches handed out, what fixes the order; for any rank."""
        # after the last batch it stands at the first of the next epoch: a resume must not find an empty one
        done = self._position >= len(self)
        here = {"epoch": self.epoch + done, "position": 0 if done else self._position}
        return here | self._fixed()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on, in the next iteration, where `state` was taken; the one after begins at the first batch.

        Args:
            state: From `state_dict`, on any rank.

        Raises:
            InputError: The order was another one.
        """
        for name, value in self._fixed().items():
            if state[name] != value:
                raise InputError(
                    f"to go on within an epoch, {name} must be {state[name]} as before, not {value}: "
                    f"change {_FIXED_BY[name]}, or start without --ckpt_path"
                )
        self.epoch = state["epoch"]
        self._position = self._start = state["position"]

    def _fixed(self) -> dict[str, int]:
        samples = len(self._lengths)
        values = (self.seed, self.batch_size, self.num_replicas, samples)
        return dict(zip(_FIXED_BY, values, strict=True))

    def _batches(self) -> list[list[int]]:
        """Batches of all ranks in this epoch."""
        if not self.shuffle:
            order = self._lengths.argsort(descending=True, stable=True)
            return _cut(order, self.batch_size)
        generator = torch.Generator().manual_seed(self.seed)
        # the epoch's own seed is a draw from the seed's stream: with seed + epoch, seed 43 would begin with
        # the second epoch of seed 42, and the generator reads only 32 bits, too few to hold both side by side
        draws = torch.randint(2**32, (self.epoch + 1,), generator=generator)
        generator.manual_seed(int(draws[-1]))
        order = torch.randperm(len(self._lengths), generator=generator)
        batches = []
        for group in _cut(order, _MEGABATCH * self.batch_size):
            by_length = self._lengths[group].argsort(stable=True)
            batches += _cut(torch.tensor(group)[by_length], self.batch_size)
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def _cut(order: torch.Tensor, size: int) -> list[list[int]]:
    numbers = order.tolist()
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
