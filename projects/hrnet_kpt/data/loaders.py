"""Batches for training and evaluation."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, count
from typing import Any

import numpy as np
import torch
from detectron2.data.common import DatasetFromList
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from ..errors import UserError
from .images import BadImageError

logger = logging.getLogger(__name__)

Record = dict[str, Any]


class BadImages:
    """What becomes of images that cannot be used: `policy` "fail" raises, "skip" counts up to `limit` files."""

    def __init__(self, policy: str, limit: int) -> None:
        if policy not in ("fail", "skip"):
            raise UserError(f"data.on_bad_image={policy!r}: write fail or skip")
        self.policy, self.limit = policy, limit
        self.messages: dict[str, None] = {}

    def good(self, samples: Iterator[Record | BadImageError]) -> Iterator[Record]:
        """The samples without those that stand for a bad image; raises UserError as the policy says."""
        for sample in samples:
            if not isinstance(sample, BadImageError):
                yield sample
                continue
            message = str(sample)
            if self.policy == "fail":
                raise UserError(
                    f"{message}; repair it, take it out of the json, or set data.on_bad_image=skip"
                )
            if message not in self.messages:
                self.messages[message] = None
                logger.warning("Skipped: %s", message)
            if len(self.messages) > self.limit:
                raise UserError(
                    f"{len(self.messages)} images cannot be used, more than data.max_bad_images="
                    f"{self.limit}; the last one: {message}"
                )


class Samples(Dataset):
    """Mapped dataset dicts; a BadImageError in place of one whose image cannot be used."""

    def __init__(self, dataset: Sequence[Record], mapper: Callable[[Record], Record]) -> None:
        # One block of memory, which processes that load images share.
        self.dataset = DatasetFromList(dataset, copy=False)
        self.mapper = mapper

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Record | BadImageError:
        # Returned, not raised: torch would wrap it in the traceback of another process.
        try:
            return self.mapper(self.dataset[index])
        except BadImageError as error:
            return error


class EndlessSamples(Samples):
    """Samples of an endless stream: position p is of epoch p // len(dataset), each a shuffle of its own.

    What stands at a position, augmentations included, depends on the seed and on nothing else.
    """

    def __init__(
        self, dataset: Sequence[Record], mapper: Callable[[Record], Record], seed: int
    ) -> None:
        super().__init__(dataset, mapper)
        self.seed = seed
        self.epoch = -1
        self.order: np.ndarray = np.zeros(0, dtype=np.int64)

    def __getitem__(self, position: int) -> Record | BadImageError:
        epoch, place = divmod(position, len(self))
        if epoch != self.epoch:
            generator = np.random.default_rng((self.seed, epoch))
            self.epoch, self.order = epoch, generator.permutation(len(self))
        with seeded(self.seed, position):
            sample = super().__getitem__(int(self.order[place]))
        if not isinstance(sample, BadImageError):
            sample["position"] = position
        return sample


class TrainingLoader:
    """An endless iterable of batches; `bad_images` knows what was skipped.

    A process gets every n-th position of the stream, of n processes. Images of like shape come together: less padding.
    `state_dict` tells where the last batch ended: an iterator made after `load_state_dict` goes on behind it, with the
    batches that would have come. `len` is the number of images of an epoch.
    """

    def __init__(
        self,
        samples: EndlessSamples,
        batch_size: int,
        num_workers: int,
        prefetch_factor: int,
        pin_memory: bool,
        bad: BadImages,
    ) -> None:
        self.samples, self.batch_size, self.num_workers = samples, batch_size, num_workers
        self.prefetch_factor, self.pin_memory = prefetch_factor, pin_memory
        self.bad_images = bad
        self.position = comm.get_rank()  # the next to be read
        self.waiting: list[int] = []  # positions read, of images that wait for others of like shape

    def __len__(self) -> int:
        return len(self.samples)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "waiting": list(self.waiting)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position, self.waiting = state["position"], list(state["waiting"])

    def __iter__(self) -> Iterator[list[Record]]:
        processes = comm.get_world_size()
        loader = DataLoader(
            self.samples,
            sampler=chain(self.waiting, count(self.position, processes)),
            batch_size=None,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_factor if self.num_workers else None,
            pin_memory=self.pin_memory and torch.cuda.is_available(),
            collate_fn=_as_it_is,
            worker_init_fn=_leave_process_group,
            generator=torch.Generator(),  # else it draws from the training's
        )
        batches: dict[bool, list[Record]] = {False: [], True: []}
        with ended(iter(loader)) as samples:
            for sample in self.bad_images.good(samples):
                # What waited is read again, and lies before.
                self.position = max(self.position, sample["position"] + processes)
                batch = batches[sample["width"] > sample["height"]]
                batch.append(sample)
                if len(batch) == self.batch_size:
                    full = batch.copy()
                    batch.clear()
                    self.waiting = sorted(s["position"] for b in batches.values() for s in b)
                    yield full


class EvaluationLoader:
    """An iterable of batches, each image once over all processes; `bad_images` knows what was skipped."""

    def __init__(self, samples: Samples, batch_size: int, num_workers: int, bad: BadImages):
        self.loader = DataLoader(
            samples,
            sampler=InferenceSampler(len(samples)),
            batch_size=batch_size,
            num_workers=num_workers,
            collate_fn=_as_it_is,
            worker_init_fn=_leave_process_group,
            generator=torch.Generator(),
        )
        self.bad_images = bad

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[Record]]:
        with ended(iter(self.loader)) as batches:
            for batch in batches:
                good = list(self.bad_images.good(iter(batch)))
                if good:
                    yield good


def build_train_loader(
    dataset: Sequence[Record],
    mapper: Callable[[Record], Record],
    total_batch_size: int,
    num_workers: int = 0,
    seed: int = -1,
    on_bad_image: str = "fail",
    max_bad_images: int = 100,
    prefetch_factor: int = 2,
    pin_memory: bool = False,
) -> TrainingLoader:
    """Endless batches of shuffled samples, the same for a seed with any number of workers.

    total_batch_size: images an iteration, of all processes together.
    num_workers: processes that load images, for each process that trains; 0 loads in the latter.
    seed: -1 draws one.
    on_bad_image: "fail", or "skip" up to max_bad_images different files.
    prefetch_factor: images that each process that loads them reads ahead.
    pin_memory: put images into page-locked memory, from which a GPU copies faster.

    Raises UserError where the batch cannot be split evenly over the processes.
    """
    processes = comm.get_world_size()
    if prefetch_factor < 1:
        raise UserError(f"dataloader.train.prefetch_factor={prefetch_factor} must be 1 at least")
    if total_batch_size < 1 or total_batch_size % processes:
        raise UserError(
            f"dataloader.train.total_batch_size={total_batch_size} must be a multiple of the "
            f"{processes} processes"
        )
    samples = EndlessSamples(dataset, mapper, seed if seed >= 0 else comm.shared_random_seed())
    bad = BadImages(on_bad_image, max_bad_images)
    batch_size = total_batch_size // processes
    return TrainingLoader(samples, batch_size, num_workers, prefetch_factor, pin_memory, bad)


def build_test_loader(
    dataset: Sequence[Record],
    mapper: Callable[[Record], Record],
    batch_size: int = 1,
    num_workers: int = 0,
    on_bad_image: str = "fail",
    max_bad_images: int = 100,
) -> EvaluationLoader:
    """Batches of every sample once, in order; the arguments are those of build_train_loader."""
    bad = BadImages(on_bad_image, max_bad_images)
    return EvaluationLoader(Samples(dataset, mapper), batch_size, num_workers, bad)


@contextmanager
def ended(iterator: Iterator[Any]) -> Iterator[Iterator[Any]]:
    """A DataLoader's iterator, whose worker processes end with the block.

    Left to the garbage collector, after an error, torch waits 5 seconds for each.
    """
    try:
        yield iterator
    finally:
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()


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


def _as_it_is(batch: Any) -> Any:
    return batch


def _leave_process_group(worker: int) -> None:
    """Ctrl-C, and torchrun, signal whole groups: the iteration that is to be finished still needs its images."""
    os.setpgrp()
