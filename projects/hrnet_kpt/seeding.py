"""States of the global random generators, derived from the seed and counters, so that none has to be saved."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from detectron2.utils import comm


@contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """Seed all global CPU random generators in this block; restore their states afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    value = int(np.random.SeedSequence(seed).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)
    torch.random.default_generator.manual_seed(value)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def seed_step(seed: int, iteration: int, part: int = 0, rank: int | None = None) -> None:
    """Seed all global random generators, CPU and GPU, for a forward pass.

    Each process has its own random numbers. They are the same after a resume or in a replay of the iteration, whatever
    evaluations or hooks have drawn before.

    Args:
        seed: Seed of the run.
        iteration: Number of the iteration.
        part: Index of the micro-batch when gradients are accumulated.
        rank: Rank of the process; None for this one.
    """
    rank = comm.get_rank() if rank is None else rank
    words = np.random.SeedSequence((seed, rank, iteration, part)).generate_state(2)
    random.seed(int(words[0]))
    np.random.seed(int(words[0]))
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))
