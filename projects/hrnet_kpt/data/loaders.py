"""Batches for training and evaluation."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import numpy as np
import torch
from detectron2.data.common import DatasetFromList
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from ..errors import UserError
from ..seeding import seeded
from .images import BadImageError
from .workers import POLL, SharedSample, as_it_is, loaded

logger = logging.getLogger(__name__)

Record = dict[str, Any]


class BadImages:
    """What becomes of images that cannot be used.

    Args:
        policy: "fail" raises, "skip" counts up to `limit` files.
        limit: see there.
        images: how many the dataset has: where all of them are bad since the last good one, that is an error.
    """

    def __init__(self, policy: str, limit: int, images: int) -> None:
        if policy not in ("fail", "skip"):
            raise UserError(f"data.on_bad_image={policy!r}: write fail or skip")
        self.policy, self.limit, self.images = policy, limit, images
        self.forget()

    def forget(self) -> None:
        """Count from 0 again."""
        self.messages: dict[str, None] = {}
        self.image_ids: dict[Any, None] = {}  # of all that were skipped
        self.bad_in_a_row: dict[int, str] = {}  # message by index, since the last good image

    def drop_bad(self, samples: Iterable[Record | BadSample]) -> Iterator[Record]:
        """The samples without those that stand for a bad image.

        Raises:
            UserError: as the policy says.
        """
        for sample in samples:
            if not isinstance(sample, BadSample):
                self.bad_in_a_row.clear()
                yield sample
                continue
            message = sample.message
            if self.policy == "fail":
                raise UserError(
                    f"{message}; repair it, take it out of the json, or set data.on_bad_image=skip"
                )
            self.image_ids[sample.image_id] = None
            self.bad_in_a_row.setdefault(sample.index, message)
            if message not in self.messages:
                self.messages[message] = None
                logger.warning("Skipped: %s", message)
            if len(self.bad_in_a_row) == self.images:
                raise UserError(none_usable(self.images, next(iter(self.bad_in_a_row.values()))))
            if len(self.messages) > self.limit:
                raise UserError(
                    f"{len(self.messages)} images cannot be used, more than data.max_bad_images="
                    f"{self.limit}; the last one: {message}"
                )


def none_usable(images: int, message: str) -> str:
    """What to say where not one image can be used; message: of the first."""
    return (
        f"not one of the {images} images can be used; the first one: {message}; is data.train.images or "
        "data.test.images the right folder?"
    )


@dataclass(frozen=True)
class BadSample:
    """In place of a sample whose image cannot be used; its index in the dataset, its id, and why."""

    index: int
    image_id: Any
    message: str


class Samples(Dataset):
    """Mapped dataset dicts; a BadSample in place of one whose image cannot be used."""

    def __init__(self, dataset: Sequence[Record], mapper: Callable[[Record], Record]) -> None:
        if not len(dataset):
            raise UserError("the dataset of dataloader.train or dataloader.test has no images")
        # One block of memory, which processes that load images share.
        self.dataset = DatasetFromList(dataset, copy=False)
        self.mapper = mapper

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Record | BadSample:
        # Returned, not raised: torch would wrap it in the traceback of another process.
        record = self.dataset[index]
        try:
            return self.mapper(record)
        except BadImageError as error:
            return BadSample(index, record.get("image_id"), str(error))


class InfiniteDataset(Samples):
    """An infinite stream of samples: position p is of epoch p // len(dataset), each a shuffle of its own.

    What stands at a position, augmentations included, depends on the seed and on nothing else.
    """

    def __init__(
        self, dataset: Sequence[Record], mapper: Callable[[Record], Record], seed: int
    ) -> None:
        super().__init__(dataset, mapper)
        self.seed = seed
        self.epoch = -1
        self.order: np.ndarray = np.zeros(0, dtype=np.int64)

    def __getitem__(self, position: int) -> Record | BadSample:
        epoch, index = divmod(position, len(self))
        if epoch != self.epoch:
            generator = np.random.default_rng((self.seed, epoch))
            self.epoch, self.order = epoch, generator.permutation(len(self))
        with seeded(self.seed, position):
            sample = super().__getitem__(int(self.order[index]))
        if not isinstance(sample, BadSample):
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
        samples: InfiniteDataset,
        batch_size: int,
        num_workers: int,
        prefetch_factor: int,
        pin_memory: bool,
        bad: BadImages,
        timeout: float,
    ) -> None:
        self.samples, self.batch_size, self.num_workers = samples, batch_size, num_workers
        self.prefetch_factor, self.pin_memory = prefetch_factor, pin_memory
        self.bad_images, self.timeout = bad, timeout
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
            generator=torch.Generator(),  # else it draws from the training's
            **worker_options(self.num_workers),
        )
        batches: dict[bool, list[Record]] = {False: [], True: []}
        position = self.position
        with loaded(loader, "dataloader.train", self.timeout) as samples:
            for sample in self.bad_images.drop_bad(samples):
                # What waited is read again, and lies before.
                position = max(position, sample["position"] + processes)
                batch = batches[sample["width"] > sample["height"]]
                batch.append(sample)
                if len(batch) == self.batch_size:
                    full = batch.copy()
                    batch.clear()
                    # Only now: a stop in a wait for the rest of a batch goes on before it.
                    self.position = position
                    self.waiting = sorted(s["position"] for b in batches.values() for s in b)
                    yield full


class EvaluationLoader:
    """An iterable of batches, each image once over all processes; `bad_images` knows what was skipped of the last pass.

    Each pass is like the first one.
    """

    def __init__(
        self, samples: Samples, batch_size: int, num_workers: int, bad: BadImages, timeout: float
    ) -> None:
        self.loader = DataLoader(
            samples,
            sampler=InferenceSampler(len(samples)),
            batch_size=batch_size,
            num_workers=num_workers,
            **worker_options(num_workers),
        )
        self.bad_images, self.timeout = bad, timeout

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[Record]]:
        self.bad_images.forget()
        self.loader.generator = torch.Generator()
        with loaded(self.loader, "dataloader.test", self.timeout) as batches:
            for batch in batches:
                usable = list(self.bad_images.drop_bad(batch))
                if usable:
                    yield usable


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
    timeout: float = 600,
) -> TrainingLoader:
    """Endless batches of shuffled samples, the same for a seed with any number of workers.

    Args:
        dataset: dataset dicts.
        mapper: makes a sample of one.
        total_batch_size: images an iteration, of all processes together.
        num_workers: processes that load images, for each process that trains; 0 loads in the latter.
        seed: -1 draws one.
        on_bad_image: "fail", or "skip" up to max_bad_images different files.
        max_bad_images: see there.
        prefetch_factor: images that each process that loads them reads ahead.
        pin_memory: put images into page-locked memory, from which a GPU copies faster.
        timeout: seconds without an image from the processes that load them after which the run fails; 0: none.

    Raises:
        UserError: the batch cannot be split evenly over the processes; its iterators raise it where an image, or all of
            them, cannot be used, and where a process that loads them ends or is blocked.
    """
    processes = comm.get_world_size()
    if prefetch_factor < 1:
        raise UserError(f"dataloader.train.prefetch_factor={prefetch_factor} must be 1 at least")
    if total_batch_size < 1 or total_batch_size % processes:
        raise UserError(
            f"dataloader.train.total_batch_size={total_batch_size} must be a multiple of the "
            f"{processes} processes"
        )
    samples = InfiniteDataset(dataset, mapper, seed if seed >= 0 else comm.shared_random_seed())
    bad = BadImages(on_bad_image, max_bad_images, len(samples))
    batch_size = total_batch_size // processes
    return TrainingLoader(
        samples, batch_size, num_workers, prefetch_factor, pin_memory, bad, timeout
    )


def build_test_loader(
    dataset: Sequence[Record],
    mapper: Callable[[Record], Record],
    batch_size: int = 1,
    num_workers: int = 0,
    on_bad_image: str = "fail",
    max_bad_images: int = 100,
    timeout: float = 600,
) -> EvaluationLoader:
    """Batches of every sample once, in order; the arguments are those of build_train_loader."""
    samples = Samples(dataset, mapper)
    bad = BadImages(on_bad_image, max_bad_images, len(samples))
    return EvaluationLoader(samples, batch_size, num_workers, bad, timeout)


def worker_options(num_workers: int) -> dict[str, Any]:
    """Arguments of a DataLoader for so many processes that load images."""
    if not num_workers:
        return {"collate_fn": as_it_is}
    return {
        "collate_fn": SharedSample,
        "timeout": POLL,
        "worker_init_fn": _leave_process_group,
    }


def _leave_process_group(worker: int) -> None:
    """Ctrl-C, and torchrun, signal whole groups: the iteration that is to be finished still needs its images."""
    os.setpgrp()
