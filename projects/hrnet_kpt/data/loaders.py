"""Batches for training and evaluation."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.data.common import AspectRatioGroupedDataset, DatasetFromList
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

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
            return super().__getitem__(int(self.order[place]))


class Positions(Sampler):
    """The positions of the stream that are this process's: every n-th one of n processes."""

    def __iter__(self) -> Iterator[int]:
        position = comm.get_rank()
        while True:
            yield position
            position += comm.get_world_size()


class TrainingLoader:
    """An endless iterable of batches; `bad_images` knows what was skipped."""

    def __init__(self, samples: EndlessSamples, batch_size: int, num_workers: int, bad: BadImages):
        self.samples, self.batch_size, self.num_workers = samples, batch_size, num_workers
        self.bad_images = bad

    def __iter__(self) -> Iterator[list[Record]]:
        loader = DataLoader(
            self.samples,
            sampler=Positions(),
            batch_size=None,
            num_workers=self.num_workers,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # else it draws from the training's
        )
        with ended(iter(loader)) as samples:
            # Images of like shape together: less padding.
            yield from AspectRatioGroupedDataset(self.bad_images.good(samples), self.batch_size)


class EvaluationLoader:
    """An iterable of batches, each image once over all processes; `bad_images` knows what was skipped."""

    def __init__(self, samples: Samples, batch_size: int, num_workers: int, bad: BadImages):
        self.loader = DataLoader(
            samples,
            sampler=InferenceSampler(len(samples)),
            batch_size=batch_size,
            num_workers=num_workers,
            collate_fn=_as_it_is,
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
) -> TrainingLoader:
    """Endless batches of shuffled samples, the same for a seed with any number of workers.

    total_batch_size: images an iteration, of all processes together.
    num_workers: processes that load images, for each process that trains; 0 loads in the latter.
    seed: -1 draws one.
    on_bad_image: "fail", or "skip" up to max_bad_images different files.

    Raises UserError where the batch cannot be split evenly over the processes.
    """
    processes = comm.get_world_size()
    if total_batch_size < 1 or total_batch_size % processes:
        raise UserError(
            f"dataloader.train.total_batch_size={total_batch_size} must be a multiple of the "
            f"{processes} processes"
        )
    samples = EndlessSamples(dataset, mapper, seed if seed >= 0 else comm.shared_random_seed())
    bad = BadImages(on_bad_image, max_bad_images)
    return TrainingLoader(samples, total_batch_size // processes, num_workers, bad)


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
