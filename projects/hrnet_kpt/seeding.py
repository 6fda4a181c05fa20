"""States of the global random generators, drawn from numbers: nothing of them has to be saved."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from detectron2.utils import comm


@contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """Give every global random generator of the CPU a state of its own for a while."""
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
    """Set every global random generator, CPU and GPU, to the state that a forward pass starts from.

    Each process gets numbers of its own. An iteration draws the same ones after a resume, or replayed alone, as in a
    run that was never stopped, whatever evaluations or hooks have drawn before: nothing has to be saved.

    Args:
        seed: the run's.
        part: of an iteration that accumulates gradients, from 0.
        rank: of the process; None for this one.
    """
    rank = comm.get_rank() if rank is None else rank
    words = np.random.SeedSequence((seed, rank, iteration, part)).generate_state(2)
    random.seed(int(words[0]))
    np.random.seed(int(words[0]))
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))
