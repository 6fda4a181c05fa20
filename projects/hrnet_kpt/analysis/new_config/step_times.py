"""Seconds of an iteration and of an evaluation on this machine, measured once and kept in a cache."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from detectron2.config import instantiate
from detectron2.engine import HookBase
from detectron2.modeling import GeneralizedRCNN
from omegaconf import DictConfig

from ...config.serialize import plain_config
from ...data.coco import read_json
from ...engine.evaluation import build_evaluation, run_evaluation
from ...engine.hooks import LRScheduler
from ...engine.optim import build_optimizer
from ...engine.prepare import PreparedRun, build_run_model
from ...engine.training import build_trainer
from ...io import replace_text
from ...seeding import seeded
from ..benchmark.models import limit_detections
from .choose import Times
from .machine import Machine
from .survey import Survey

logger = logging.getLogger(__name__)

# Before the timed iterations: memory is allocated, and the workers' queues are filled. If images are kept in memory,
# all of them are read first, unless that takes more than MAX_READING_ITERATIONS.
WARM_UP_ITERATIONS, MAX_READING_ITERATIONS = 3, 60
MIN_SECONDS, MIN_ITERATIONS = 10.0, 5
# Fraction of the time: on an idle machine it was 0.75, the rest waiting for images; less is due to other processes.
MIN_WORKING = 0.6
EVALUATED_IMAGES = 24
ENDLESS = 100_000  # iterations
# What the time of a step depends on.
TIMED = ("model", "dataloader", "optimizer", "inference")
TIMED_KEYS = ("amp", "channels_last", "ema", "accumulation_steps", "eval_train_images")


def step_times(
    run: PreparedRun,
    start_seconds: float,
    survey: Survey,
    machine: Machine,
    measure_again: bool = False,
) -> Times:
    """The seconds of a run's parts: from the cache, else measured, which takes up to a minute.

    Args:
        run: The run; its schedule does not matter.
        start_seconds: What its preparation took.
        measure_again: Measure in any case, and replace what the cache has.
    """
    file = cache_file()
    cache = _read(file)
    key = cache_key(run.cfg, survey, machine)
    if measure_again or key not in cache:
        times = [*measure(run, survey), start_seconds]
        cache[key] = [float(f"{seconds:.3g}") for seconds in times]
        _write(file, cache)
    return Times(*cache[key])


def cache_file() -> Path:
    """~/.cache/hrnet_kpt/step_times.json, or below XDG_CACHE_HOME."""
    return Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "hrnet_kpt/step_times.json"
    )


def cache_key(cfg: DictConfig, survey: Survey, machine: Machine) -> str:
    """A hash of all that the times depend on: the machine, the numbers and sizes of images, model and loaders."""
    plain = plain_config(cfg)
    parts = [
        machine.describe(),
        {name: plain[name] for name in TIMED},
        {key: plain["train"].get(key) for key in TIMED_KEYS},
        [survey.images, survey.test_images, survey.image_sizes.tolist()],
        [len(survey.keypoints), len(survey.class_objects)],
    ]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def _read(file: Path) -> dict[str, list[float]]:
    """The cache; empty if there is none, or it is damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {key: [float(v) for v in found[key]] for key in found if len(found[key]) == 3}
    except (OSError, ValueError, TypeError):
        return {}


def _write(file: Path, cache: dict[str, list[float]]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_text(file, json.dumps(cache, indent=1))
    except OSError as error:
        logger.warning("%s cannot be written (%s): times are measured again next time", file, error)


class Stopwatch(HookBase):
    """Ends a training when its iterations have been timed long enough.

    Args:
        warm_up: Number of iterations that are not timed.

    Attributes:
        seconds: Of each iteration.
        working: Seconds that the main thread had a CPU core, of each iteration.
    """

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.seconds: list[float] = []
        self.working: list[float] = []
        self.last = (0.0, 0.0)

    def before_step(self) -> None:
        self.last = time.perf_counter(), time.thread_time()

    def after_step(self) -> None:
        self.seconds.append(time.perf_counter() - self.last[0])
        self.working.append(time.thread_time() - self.last[1])
        timed = self.seconds[self.warm_up :]
        if len(timed) >= MIN_ITERATIONS and sum(timed) >= MIN_SECONDS:
            self.trainer.max_iter = self.trainer.iter + 1


def measure(run: PreparedRun, survey: Survey) -> tuple[float, float]:
    """Seconds of an iteration and of an evaluation with the run's trainer, loaders, model and evaluator.

    An iteration's time is the median. An evaluation is of at most EVALUATED_IMAGES test images, with as many
    detections in each as there are objects; its time is scaled to the images of a whole one. Files are written
    to a temporary folder.
    """
    cfg = copy.deepcopy(run.cfg)
    cfg.train.update(seed=0, max_iter=ENDLESS)
    evaluated_images = survey.test_images + cfg.train.eval_train_images
    with TemporaryDirectory() as folder, seeded(0), _no_logs():
        cfg.train.output_dir = folder
        count = _shorten_test_set(cfg, Path(folder))
        model = build_run_model(run)
        trainer = build_trainer(
            cfg, model, instantiate(cfg.dataloader.train), build_optimizer(cfg, model)
        )
        stopwatch = Stopwatch(warm_up_iterations(cfg, survey.images))
        trainer.register_hooks([stopwatch, LRScheduler(scheduler=instantiate(cfg.lr_multiplier))])
        trainer.train(0, ENDLESS)
        if isinstance(trainer.evaluated, GeneralizedRCNN):
            limit_detections(trainer.evaluated, math.ceil(survey.test_objects / survey.test_images))
        loader, evaluator = build_evaluation(cfg)
        start = time.perf_counter()
        run_evaluation(cfg, trainer.evaluated, loader, evaluator)
        evaluation = (time.perf_counter() - start) * evaluated_images / count
    if run.cfg.train.device == "cpu":
        _warn_if_busy(sum(stopwatch.working) / sum(stopwatch.seconds))
    return median(stopwatch.seconds[stopwatch.warm_up :]), evaluation


def warm_up_iterations(cfg: DictConfig, images: int) -> int:
    """The iterations before those that are timed. images: number of training images."""
    loader = cfg.dataloader.train
    epoch = math.ceil(images / loader.total_batch_size)
    reads = loader.mapper.get("cache_mib", 0) > 0 and epoch <= MAX_READING_ITERATIONS
    return max(WARM_UP_ITERATIONS, epoch if reads else 0)


def _warn_if_busy(working: float) -> None:
    """working: The fraction of the time that the training had a CPU core."""
    if working < MIN_WORKING:
        logger.warning(
            "this machine is busy: the training had a CPU core for %.0f %% of the time; if that changes, the measured "
            "times are wrong: repeat this with --time-again then",
            100 * working,
        )


@contextmanager
def _no_logs() -> Iterator[None]:
    """No reports of an evaluation that means nothing."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _shorten_test_set(cfg: DictConfig, folder: Path) -> int:
    """Let the config evaluate the first images of its test set only; return their number."""
    content = read_json(cfg.data.test.annotations, labelled=False)
    images = content["images"][:EVALUATED_IMAGES]
    ids = {image["id"] for image in images}
    annotations = [a for a in content.get("annotations", ()) if a.get("image_id") in ids]
    path = folder / "test.json"
    replace_text(path, json.dumps({**content, "images": images, "annotations": annotations}))
    cfg.data.test.annotations = str(path)
    return len(images)
