"""Random numbers that depend on where a training is, and not on how it got there."""

from __future__ import annotations

import random

import numpy as np
import torch
from detectron2.utils import comm


def seed_step(seed: int, iteration: int, part: int = 0, rank: int | None = None) -> None:
    """Set every global random generator, CPU and GPU, to the state that a forward pass starts from.

    seed: the run's. part: of an iteration that accumulates gradients, from 0. rank: of the process; None for this one.

    Each process gets numbers of its own. An iteration draws the same ones after a resume, or replayed alone, as in a
    run that was never stopped, whatever evaluations or hooks have drawn before: nothing has to be saved.
    """
    rank = comm.get_rank() if rank is None else rank
    words = np.random.SeedSequence((seed, rank, iteration, part)).generate_state(2)
    random.seed(int(words[0]))
    np.random.seed(int(words[0]))
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))
