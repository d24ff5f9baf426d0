"""What is random in a training step (dropout), as a function of (seed, step, batch, rank) and of nothing else.

A run that goes on from a checkpoint so draws what it would have drawn: no state of a generator has to be kept.
"""

import os
import random

import numpy as np
import torch


def seed_step(*, step: int, batch_idx: int, rank: int) -> None:
    """Seed the generators of torch (all devices), NumPy and Python, if `seed_everything` has set a seed.

    Args:
        step: Steps of the optimizer so far.
        batch_idx: Number of the batch in its epoch, which tells batches of one step apart.
        rank: Of this process: each has masks of its own.
    """
    seed = os.environ.get("PL_GLOBAL_SEED")  # where Lightning's seed_everything leaves it
    if seed is None:
        return
    of_torch, of_numpy, of_python = (
        np.random.SeedSequence([int(seed), step, batch_idx, rank]).generate_state(3).tolist()
    )
    torch.manual_seed(of_torch)
    np.random.seed(of_numpy)
    random.seed(of_python)
