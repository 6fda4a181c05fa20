"""The set-up of a run: folder, log, seed, data that are generated; and its list of skipped images."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from ..config.keys import value_at
from ..config.resolve import is_generated
from ..data.categories import resolve_schema
from ..data.formats.recognize import remedy
from ..data.mapper import flip_directions
from ..data.schema import is_near_off_pair
from ..errors import UserError
from ..io import UNFINISHED, replace_text
from .run_logging import LogFile

logger = logging.getLogger(__name__)

LOGGERS = ("fvcore", "detectron2", "hrnet_kpt")


def set_up_run(cfg: DictConfig, warnings: Sequence[str] = (), seed: int | None = None) -> int:
    """Make the output folder, log to its log.txt, and seed all random number generators.

    Args:
        warnings: Lines to log, from before there was a log.txt.
        seed: The seed of the resumed run, for `train.seed=-1`.

    Returns:
        The seed of the run.

    Raises:
        UserError: If the folder cannot be written.
    """
    output_dir = cfg.train.output_dir
    rank = comm.get_rank()
    if rank == 0:
        make_folder(output_dir)
    comm.synchronize()
    set_up_logging(output_dir)
    if cfg.train.seed >= 0:
        seed = cfg.train.seed
    elif seed is None:
        seed = comm.shared_random_seed()
    seed_all_rng(seed + rank)
    if cfg.train.get("deterministic"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it for that
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    logger.info(
        "Python %s, torch %s, %d CPU threads; process %d of %d; seed %d; output in %s",
        platform.python_version(),
        torch.__version__,
        torch.get_num_threads(),
        rank,
        comm.get_world_size(),
        seed,
        output_dir,
    )
    for warning in warnings:
        logger.warning(warning)
    return seed


def make_folder(output_dir: str) -> None:
    """Make the run's folder if it does not exist; raise UserError if it cannot be written."""
    probe = Path(output_dir) / f"{UNFINISHED}probe"
    try:
        os.makedirs(output_dir, exist_ok=True)
        probe.write_bytes(b"?" * 4096)
    except OSError as error:
        raise UserError(
            f"train.output_dir={output_dir} cannot be written: {error.strerror}; make room, or name another folder"
        ) from error
    finally:
        with suppress(OSError):
            probe.unlink()


def set_up_logging(output_dir: str | None = None) -> None:
    """Log to standard output and, if a folder is given, to its log.txt; replaces the handlers of a previous call.

    The other processes write log.txt.rank1 and so on, and nothing to standard output.
    """
    rank = comm.get_rank()
    file = None
    if output_dir:
        file = LogFile(Path(output_dir) / ("log.txt" if rank == 0 else f"log.txt.rank{rank}"))
        plain = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"
        file.setFormatter(logging.Formatter(plain, datefmt="%m/%d %H:%M:%S"))
    setup_logger.cache_clear()
    for name in LOGGERS:
        own = logging.getLogger(name)
        for handler in own.handlers[:]:
            own.removeHandler(handler)
            if isinstance(handler, LogFile):
                handler.close()
        setup_logger(None, rank, name=name, abbrev_name=name)
        if file:
            own.addHandler(file)


def check_data_files(cfg: DictConfig, *splits: str) -> None:
    """Raise UserError that names each annotation file and image folder that does not exist and is not generated."""
    missing = []
    root = str(cfg.data.get("root", ""))
    for split in splits:
        if is_generated(cfg, cfg.data[split].annotations):
            continue
        for key, exists in (("annotations", os.path.isfile), ("images", os.path.isdir)):
            path = cfg.data[split][key]
            if not exists(path):
                missing.append(f"data.{split}.{key}: {path} does not exist")
    if missing and root and cfg.data.train.annotations == os.path.join(root, "train.json"):
        raise UserError("\n".join([f"{missing[0]}: {remedy(root)}", *missing[1:]]))
    if missing:
        folder = os.environ.get("DETECTRON2_DATASETS", "unset, so ./datasets")
        set_folder = (
            "; set the variable DETECTRON2_DATASETS to the folder that holds your data sets (it is "
            f"{folder}), or data.{{train,test}}.{{annotations,images}}; `hrnet-kpt demo` needs none"
        )
        raise UserError("\n".join([missing[0] + set_folder, *missing[1:]]))


# Findings about mirrored images, which are logged again right before the training starts.
MIRROR_FINDINGS = ("flip-pairs-unknown", "flips-missing", "classes-mirrored", "corners-mirrored")


def mirror_directions(cfg: DictConfig) -> set[str] | None:
    """The directions in which training flips images, see `mapper.flip_directions`; None for a mapper of the user's."""
    mapper = instantiate(value_at(cfg, "dataloader.train.mapper"))
    augmentations = getattr(mapper, "augmentations", None)
    return None if augmentations is None else flip_directions(augmentations.augs)


def describe_mirrors(cfg: DictConfig) -> str:
    """Which keypoints a flip of the image swaps, in one line."""
    directions = mirror_directions(cfg)
    if directions is None:
        return "dataloader.train.mapper is your own: which keypoints its flips swap is unknown"
    if not directions:
        return "images are not mirrored"
    pairs = resolve_schema(instantiate(cfg.data.keypoints)).flip_pairs
    line = f"{' and '.join(sorted(directions))} mirroring swaps "
    line += ", ".join("/".join(pair) for pair in pairs) or "no keypoints"
    if any(is_near_off_pair(pair) for pair in pairs):
        line += (
            " (near and off are taken as left and right; if near means nearer to the camera, set "
            "'data.keypoints={flip_pairs:[]}')"
        )
    return line


def log_mirrors(cfg: DictConfig, warnings: Sequence[str]) -> None:
    """Log which keypoints a flip swaps and, again, the warnings about flips."""
    logger.info(describe_mirrors(cfg))
    for warning in warnings:
        if any(f"{name}: " in warning for name in MIRROR_FINDINGS):
            logger.warning(warning)


def generate_data(cfg: DictConfig, *splits: str) -> None:
    """Call `data.generate` if it writes the data set of one of the splits."""
    if any(is_generated(cfg, cfg.data[split].annotations) for split in splits):
        if comm.get_local_rank() == 0:
            logger.info("Data set in %s; generated first if it does not exist", cfg.data.root)
            instantiate(cfg.data.generate)
        comm.synchronize()


def skipped_file(cfg: DictConfig) -> Path:
    """The run folder's list of skipped images, one line each; there is no such file without any."""
    return Path(cfg.train.output_dir) / "skipped_images.txt"


def report_skipped(cfg: DictConfig, loader: Any) -> None:
    """Log how many images `loader` skipped in all processes, and add them to the run folder's list."""
    # A loader of the user's own may not have it.
    bad = getattr(loader, "bad_images", None)
    gathered = comm.gather(list(bad.messages) if bad else [])
    messages = sorted({message for part in gathered for message in part})
    if not messages:
        return
    path = skipped_file(cfg)
    known = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    replace_text(path, "".join(f"{line}\n" for line in dict.fromkeys([*known, *messages])))
    logger.warning("%d images cannot be used and were skipped: %s", len(messages), path)
