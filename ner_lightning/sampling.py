"""The order of batches, a function of (seed, epoch, rank, position) and of nothing else.

Holds `LengthBatchSampler`, which hands out lists of sample numbers of similar length. It uses
the lengths of samples only.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler

from ner_lightning.errors import InputError

# batches that are sorted by length together: enough to leave little padding, few enough that neighbours of an
# epoch are strangers in the next one
_MEGABATCH = 50

# what fixes the order besides the epoch, and where a user sets it
_FIXED_BY = {
    "seed": "--seed_everything",
    "max_tokens": "--data.max_tokens",
    "batch_size": "--data.batch_size",
    "num_replicas": "--trainer.devices or --trainer.num_nodes (or --trainer.accumulate_grad_batches to as many a step)",
    "samples": "--data.train_file or --data.dataset_name",
}


class LengthBatchSampler(DistributedSampler[list[int]]):
    """Batches of samples of similar length, for `DataLoader(rows, sampler=..., batch_size=None)`.

    Every rank gets the same number of batches, since a rank that is done early leaves the others waiting in
    their next collective operation for ever. Where batches do not divide evenly, the first ones come again,
    and no sample is lost. In evaluation this does no harm: a word that is scored again counts only once.

    It can say where it stands (`state_dict`) and go on from there. What it counts are batches handed out: the
    workers of a DataLoader ask ahead of what has been trained on.

    The number of batches is the same in each epoch, and with `max_tokens` their sizes are: the batches are cut once,
    from all lengths in order, and in each epoch chance decides which of the samples of one length comes into which.

    Args:
        lengths: Length of each sample, in whatever unit padding costs.
        batch_size: Samples in a batch; the last one may have fewer.
        max_tokens: In place of `batch_size`, what a batch may hold with its padding; a longer sample is one alone.
        multiple: What `max_tokens` counts a length up to.
        shuffle: For training: a new order each epoch, with `batch_size` sorted by length within random groups of 50
            batches, and all batches in random order. For evaluation (false): longest first, so that what does not
            fit in memory fails at once.
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
        lengths: Sequence[int] | NDArray[Any],
        *,
        batch_size: int | None = None,
        max_tokens: int | None = None,
        multiple: int = 1,
        shuffle: bool,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        if (batch_size is None) == (max_tokens is None):
            raise InputError(f"give batch_size or max_tokens, one of them, not {batch_size} and {max_tokens}")
        for name, limit in (("batch_size", batch_size), ("max_tokens", max_tokens)):
            if limit is not None and limit < 1:
                raise InputError(
                    f"{name} must be 1 or more, not {limit}: change --data.{name} (in evaluation --data.eval_{name})"
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
        self.max_tokens = max_tokens
        self._lengths = torch.as_tensor(lengths, dtype=torch.int64)
        self._bounds = self._cut(multiple)  # batch i has the samples from place bounds[i] of the order to bounds[i + 1]
        self._position = 0  # batches of this epoch handed out so far
        self._start = 0  # where the next iteration begins: not at 0 only just after load_state_dict

    def __iter__(self) -> Iterator[list[int]]:
        # A generator, so that nothing happens before the first batch is asked for: Lightning makes iterators
        # ahead of `set_epoch`, and some that it never uses.
        start, self._start = self._start, 0
        order, batches = self._order()
        # position i of rank r is batch i * num_replicas + r of all; past the end, the first ones again
        for position in range(start, len(self)):
            self._position = position + 1
            batch = int(batches[(position * self.num_replicas + self.rank) % len(batches)])
            yield order[self._bounds[batch] : self._bounds[batch + 1]].tolist()

    def __len__(self) -> int:
        """Batches of this rank in an epoch."""
        return -(-(len(self._bounds) - 1) // self.num_replicas)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration has.

        Args:
            epoch: Number of the epoch, from 0. Another than that of a loaded state begins at its first batch.
        """
        if epoch != self.epoch:
            self._position = self._start = 0
        super().set_epoch(epoch)

    @property
    def start(self) -> int:
        """The batch of its epoch with which the next iteration begins."""
        return self._start

    def state_dict(self, *, handed_out: int | None = None) -> dict[str, int | None]:
        """Say where this sampler stands: epoch, batches handed out, what fixes the order; for any rank.

        Args:
            handed_out: How many batches of this epoch were used, where a loader has asked for more.
        """
        position = self._position if handed_out is None else handed_out
        # after the last batch it stands at the first of the next epoch: a resume must not find an empty one
        done = position >= len(self)
        here = {"epoch": self.epoch + done, "position": 0 if done else position}
        return here | self._fixed()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on, in the next iteration, where `state` was taken; the one after begins at the first batch.

        Args:
            state: From `state_dict`, on any rank.

        Raises:
            InputError: The order was another one, and the state is from within an epoch.
        """
        for name, value in self._fixed().items():
            before = state.get(name)  # max_tokens is younger than the others
            if before != value and state["position"]:
                raise InputError(
                    f"to go on within an epoch, {name} must be {before} as before, not {value}: "
                    f"change {_FIXED_BY[name]}, or start without --ckpt_path"
                )
        self.epoch = state["epoch"]
        self._position = self._start = state["position"]

    def _fixed(self) -> dict[str, int | None]:
        values = (self.seed, self.max_tokens, self.batch_size, self.num_replicas, len(self._lengths))
        return dict(zip(_FIXED_BY, values, strict=True))

    def _cut(self, multiple: int) -> list[int]:
        samples = len(self._lengths)
        if self.max_tokens is None:
            return [*range(0, samples, self.batch_size or 1), samples]
        from_longest = self._lengths.sort(descending=True).values
        bounds = [0]
        while bounds[-1] < samples:
            padded = max(-(-int(from_longest[bounds[-1]]) // multiple), 1) * multiple
            bounds.append(min(bounds[-1] + max(self.max_tokens // padded, 1), samples))
        return bounds

    def _order(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The samples of all batches of this epoch, one batch after another, and the order of the batches."""
        batches = len(self._bounds) - 1
        if not self.shuffle:
            return self._lengths.argsort(descending=True, stable=True), torch.arange(batches)
        generator = torch.Generator().manual_seed(self.seed)
        # the epoch's own seed is a draw from the seed's stream: with seed + epoch, seed 43 would begin with
        # the second epoch of seed 42, and the generator reads only 32 bits, too few to hold both side by side
        draws = torch.randint(2**32, (self.epoch + 1,), generator=generator)
        generator.manual_seed(int(draws[-1]))
        order = torch.randperm(len(self._lengths), generator=generator)
        if self.batch_size is None:
            order = order[self._lengths[order].argsort(descending=True, stable=True)]
        else:
            for group in torch.split(order, _MEGABATCH * self.batch_size):  # in place, of millions of samples
                group.copy_(group[self._lengths[group].argsort(stable=True)])
        return order, torch.randperm(batches, generator=generator)
