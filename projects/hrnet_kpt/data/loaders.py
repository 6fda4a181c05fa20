"""Data loaders: endless batches for training, one pass for evaluation."""

from __future__ import annotations

import logging
import math
from bisect import bisect
from collections import Counter
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

from ..errors import UserError, join_names
from ..seeding import seeded
from .categories import Classes, resolve_classes
from .images import BadImageError
from .workers import iterate, worker_options

logger = logging.getLogger(__name__)

Record = dict[str, Any]


class BadImages:
    """The policy for images that cannot be used, and those that were skipped.

    Args:
        policy: "fail" raises an error, "skip" accepts up to `limit` files.
        limit: Maximum number of skipped files.
        images: Number of images of the dataset: all of them bad since the last good one is an error.

    Attributes:
        messages: One for each skipped file, as keys.
        image_ids: Ids of the skipped images, as keys.
    """

    def __init__(self, policy: str, limit: int, images: int) -> None:
        if policy not in ("fail", "skip"):
            raise UserError(f"data.on_bad_image={policy!r}: write fail or skip")
        self.policy, self.limit, self.images = policy, limit, images
        self.reset()

    def reset(self) -> None:
        self.messages: dict[str, None] = {}
        self.image_ids: dict[Any, None] = {}
        self.bad_in_a_row: dict[int, str] = {}  # messages by index, since the last good image

    def drop_bad(self, samples: Iterable[Record | BadSample]) -> Iterator[Record]:
        """Yield the samples without BadSamples.

        Raises:
            UserError: If the policy refuses a bad image.
        """
        for sample in samples:
            if not isinstance(sample, BadSample):
                self.bad_in_a_row.clear()
                yield sample
                continue
            message = sample.message
            if self.policy == "fail":
                raise UserError(
                    f"{message}; repair it, remove it from the annotations, or set data.on_bad_image=skip"
                )
            self.image_ids[sample.image_id] = None
            self.bad_in_a_row.setdefault(sample.index, message)
            if message not in self.messages:
                self.messages[message] = None
                logger.warning("Skipped: %s", message)
            if len(self.bad_in_a_row) == self.images:
                raise UserError(
                    no_usable_image(self.images, next(iter(self.bad_in_a_row.values())))
                )
            if len(self.messages) > self.limit:
                raise UserError(
                    f"{len(self.messages)} images cannot be used, more than data.max_bad_images="
                    f"{self.limit}; the last one: {message}"
                )


def no_usable_image(images: int, message: str) -> str:
    """The error message for a dataset of which no image can be used. message: that of the first image."""
    return (
        f"not one of the {images} images can be used; the first one: {message}; is data.train.images or "
        "data.test.images the right folder?"
    )


@dataclass(frozen=True)
class BadSample:
    """Replaces a sample whose image cannot be used."""

    index: int  # in the dataset
    image_id: Any
    message: str


class Samples(Dataset):
    """Mapped dataset dicts; a BadSample for an image that cannot be used."""

    def __init__(self, dataset: Sequence[Record], mapper: Callable[[Record], Record]) -> None:
        if not len(dataset):
            raise UserError("the dataset of dataloader.train or dataloader.test has no images")
        # One block of memory, which worker processes share.
        self.dataset = DatasetFromList(dataset, copy=False)
        self.mapper = mapper

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Record | BadSample:
        # Returned, not raised: torch would wrap the error in the traceback of the worker process.
        record = self.dataset[index]
        try:
            return self.mapper(record)
        except BadImageError as error:
            return BadSample(index, record.get("image_id"), str(error))


class InfiniteDataset(Samples):
    """An infinite stream of samples, epoch after epoch, each shuffled by itself.

    An epoch has image i floor(r_i) times, and once more with the probability r_i - floor(r_i), where r_i is its repeat
    factor. What is at a position, with its augmentations, depends only on the seed.

    Args:
        repeat_factors: At least 1 for each image; None: each image is once in each epoch.
    """

    def __init__(
        self,
        dataset: Sequence[Record],
        mapper: Callable[[Record], Record],
        seed: int,
        repeat_factors: np.ndarray | None = None,
    ) -> None:
        super().__init__(dataset, mapper)
        self.seed = seed
        self.repeat_factors = repeat_factors
        self.starts = [0]  # the first position of each epoch so far, if images are repeated
        self.epoch = -1
        self.order: np.ndarray = np.zeros(0, dtype=np.int64)

    def __getitem__(self, position: int) -> Record | BadSample:
        epoch, index = self._locate(position)
        if epoch != self.epoch:
            generator = np.random.default_rng((self.seed, epoch))
            indices = np.repeat(np.arange(len(self)), self.repeats(epoch))
            self.epoch, self.order = epoch, generator.permutation(indices)
        with seeded(self.seed, position):
            sample = super().__getitem__(int(self.order[index]))
        if not isinstance(sample, BadSample):
            sample["position"] = position
        return sample

    def _locate(self, position: int) -> tuple[int, int]:
        """The epoch of a position, and its index in the epoch."""
        if self.repeat_factors is None:
            return divmod(position, len(self))
        while self.starts[-1] <= position:
            length = int(self.repeats(len(self.starts) - 1).sum())
            self.starts.append(self.starts[-1] + length)
        epoch = bisect(self.starts, position) - 1
        return epoch, position - self.starts[epoch]

    def repeats(self, epoch: int) -> np.ndarray:
        """How often each image is in an epoch."""
        if self.repeat_factors is None:
            return np.ones(len(self), dtype=np.int64)
        whole = np.floor(self.repeat_factors)
        drawn = np.random.default_rng((self.seed, epoch, 1)).random(len(whole))
        return (whole + (drawn < self.repeat_factors - whole)).astype(np.int64)


class TrainingLoader:
    """An endless iterable of batches; `len` is the number of images of an epoch, the mean if images are repeated.

    Of n processes, each reads every n-th position of the stream. Images wider than high and others are in separate
    batches, which need less padding. An iterator made after `load_state_dict` continues with the batch after the last
    one before `state_dict`.
    """

    def __init__(
        self,
        samples: InfiniteDataset,
        batch_size: int,  # of this process
        bad_images: BadImages,
        timeout: float,
        options: Mapping[str, Any],  # of DataLoader
    ) -> None:
        self.samples, self.batch_size, self.options = samples, batch_size, options
        self.bad_images, self.timeout = bad_images, timeout
        self.position = comm.get_rank()  # the next one to read
        self.waiting: list[int] = []  # positions of images that were read and are in no batch yet

    def __len__(self) -> int:
        factors = self.samples.repeat_factors
        return len(self.samples) if factors is None else round(factors.sum())

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
            generator=torch.Generator(),  # the default one would change the random numbers of the training
            **self.options,
        )
        batches: dict[bool, list[Record]] = {False: [], True: []}
        position = self.position
        with iterate(loader, "dataloader.train", self.timeout) as samples:
            for sample in self.bad_images.drop_bad(samples):
                # Waiting images are read again, and have smaller positions.
                position = max(position, sample["position"] + processes)
                batch = batches[sample["width"] > sample["height"]]
                batch.append(sample)
                if len(batch) == self.batch_size:
                    full = batch.copy()
                    batch.clear()
                    # Updated only here: after a stop while a batch is incomplete, its images are read again.
                    self.position = position
                    self.waiting = sorted(s["position"] for b in batches.values() for s in b)
                    yield full


class EvaluationLoader:
    """An iterable of batches: each image once over all processes, the same in each pass.

    `bad_images` records the skipped images of the last pass.
    """

    def __init__(
        self,
        samples: Samples,
        batch_size: int,
        num_workers: int,
        bad_images: BadImages,
        timeout: float,
    ) -> None:
        self.loader = DataLoader(
            samples,
            sampler=InferenceSampler(len(samples)),
            batch_size=batch_size,
            **worker_options(num_workers),
        )
        self.bad_images, self.timeout = bad_images, timeout

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[Record]]:
        self.bad_images.reset()
        self.loader.generator = torch.Generator()
        with iterate(self.loader, "dataloader.test", self.timeout) as batches:
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
    prefetch_factor: int | None = None,
    pin_memory: bool = True,
    timeout: float = 600,
    repeat_threshold: float = 0,
    classes: Classes | str = "auto",
) -> TrainingLoader:
    """Build the loader of endless, shuffled batches; for one seed they are the same with any number of workers.

    Args:
        total_batch_size: Images per iteration over all processes.
        num_workers: Worker processes per training process; 0 loads the images in the training process.
        seed: -1 draws one.
        on_bad_image: "fail", or "skip" up to max_bad_images files.
        prefetch_factor: Images that each worker loads in advance; None: two batches over all workers, at least 2 each.
        pin_memory: Put images into page-locked memory, from which copies to a GPU are faster, if there is one.
        timeout: Seconds without an image from the workers after which the run fails; 0 waits forever.
        repeat_threshold: Images of classes that are in a smaller fraction of the images than this are repeated, see
            `repeat_factors`; 0: none.
        classes: See `resolve_classes`; for the log.

    Raises:
        UserError: If the batch cannot be split evenly over the processes. Iterators raise it if an image, or all of
            them, cannot be used, and if a worker ends or is blocked.
    """
    processes = comm.get_world_size()
    if prefetch_factor is not None and prefetch_factor < 1:
        raise UserError(f"dataloader.train.prefetch_factor={prefetch_factor} must be at least 1")
    if total_batch_size < 1 or total_batch_size % processes:
        raise UserError(
            f"dataloader.train.total_batch_size={total_batch_size} must be a multiple of the "
            f"{processes} processes"
        )
    batch_size = total_batch_size // processes
    factors = None
    if repeat_threshold:
        factors, by_class = repeat_factors(dataset, repeat_threshold)
        log_repeats(by_class, factors, repeat_threshold, list(resolve_classes(classes)))
    seed = seed if seed >= 0 else comm.shared_random_seed()
    samples = InfiniteDataset(dataset, mapper, seed, factors)
    bad = BadImages(on_bad_image, max_bad_images, len(samples))
    options = worker_options(num_workers) | {"pin_memory": pin_memory and torch.cuda.is_available()}
    if num_workers:
        two_batches = math.ceil(2 * batch_size / num_workers)
        options["prefetch_factor"] = prefetch_factor or max(2, two_batches)
    return TrainingLoader(samples, batch_size, bad, timeout, options)


def repeat_factors(
    dataset: Sequence[Record], threshold: float
) -> tuple[np.ndarray, dict[int, float]]:
    """How often images are repeated so that rare classes are seen more often, as for LVIS.

    A class that is in the fraction f of the images has the factor max(1, sqrt(threshold / f)), an image the largest
    factor of its classes: https://arxiv.org/abs/1908.03195, appendix B.2.

    Args:
        dataset: Dataset dicts.
        threshold: Fraction of the images.

    Returns:
        The factor of each image, and of each class by its `category_id`.
    """
    if not 0 < threshold <= 1:
        raise UserError(
            f"dataloader.train.repeat_threshold={threshold} must be a fraction from 0 to 1"
        )
    present = [{a["category_id"] for a in record.get("annotations", ())} for record in dataset]
    images = Counter(chain.from_iterable(present))
    by_class = {
        class_: max(1.0, math.sqrt(threshold * len(dataset) / count))
        for class_, count in sorted(images.items())
    }
    factors = [max((by_class[class_] for class_ in own), default=1.0) for own in present]
    return np.array(factors), by_class


def log_repeats(
    by_class: Mapping[int, float], factors: np.ndarray, threshold: float, names: Sequence[str]
) -> None:
    """Log the factors of the classes that are repeated, the rarest first, and the length of an epoch."""
    repeated = sorted(((factor, c) for c, factor in by_class.items() if factor > 1), reverse=True)
    listed = [
        f"{names[class_] if class_ < len(names) else class_} {factor:.2f} times"
        for factor, class_ in repeated
    ]
    what = (
        f"the images with {join_names(listed, 30)}"
        if listed
        else "no image, as no class is in fewer"
    )
    logger.info(
        "dataloader.train.repeat_threshold=%g repeats %s: an epoch has %.1f images in the mean, of %d",
        threshold,
        what,
        factors.sum(),
        len(factors),
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
    """Build the loader of every sample once, in order; the arguments are those of build_train_loader."""
    samples = Samples(dataset, mapper)
    bad = BadImages(on_bad_image, max_bad_images, len(samples))
    return EvaluationLoader(samples, batch_size, num_workers, bad, timeout)
