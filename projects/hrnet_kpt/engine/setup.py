"""What a run needs before it can start."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from detectron2.config import instantiate
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig, ListConfig

from ..config.keys import value_at
from ..config.settling import is_generated
from ..data.categories import keypoint_indices, resolve_classes, resolve_schema
from ..data.coco import read_json
from ..data.image_range import find_image_range, shown_range
from ..data.images import image_paths
from ..data.mapper import flip_directions
from ..data.masks import read_segmentation
from ..data.schema import says_near_and_off
from ..dataset_checks.annotations import check_set, refuse_errors
from ..dataset_checks.mirror_pairs import check_flip_pairs
from ..dataset_checks.table import annotation_table
from ..errors import UserError
from ..io import UNFINISHED
from .run_logging import LogFile

logger = logging.getLogger(__name__)

LOGGERS = ("fvcore", "detectron2", "hrnet_kpt")


def set_up_run(cfg: DictConfig, warnings: Sequence[str] = (), seed: int | None = None) -> int:
    """Make the output folder, log to its log.txt, and seed every random generator; return the seed of the run.

    warnings: what was found before there was a log.txt.
    seed: of the run that is resumed, which had drawn one; `train.seed` goes before it.

    Raises UserError where the folder cannot be written.
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
        be_deterministic()
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
    """Make the run's folder, if it is not there; raise UserError where nothing can be written into it."""
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


def be_deterministic() -> None:
    """Let torch choose algorithms that give the same bits each time, and warn where a GPU has none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def set_up_logging(output_dir: str | None = None) -> None:
    """Log to standard output and, if a folder is given, to its log.txt; a second call replaces the first.

    Processes other than the first write log.txt.rank1 and so on, and nothing to standard output.
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
    """Raise UserError that names each annotation file and image folder that is neither there nor drawn."""
    missing = []
    for split in splits:
        if is_generated(cfg, cfg.data[split].annotations):
            continue
        for key, exists in (("annotations", os.path.isfile), ("images", os.path.isdir)):
            path = cfg.data[split][key]
            if not exists(path):
                missing.append(f"data.{split}.{key}: {path} does not exist")
    if missing:
        folder = os.environ.get("DETECTRON2_DATASETS", "unset, so ./datasets")
        remedy = (
            "; set the variable DETECTRON2_DATASETS to the folder that holds your data sets (it is "
            f"{folder}), or data.{{train,test}}.{{annotations,images}}; `make demo` needs none"
        )
        raise UserError("\n".join([missing[0] + remedy, *missing[1:]]))


def check_data(cfg: DictConfig, *splits: str) -> list[str]:
    """Raise UserError that names all that is missing from the data, or wrong with their json; return what is only odd.

    No image is opened. What `data.generate` draws is not checked.
    """
    check_data_files(cfg, *splits)
    schema = resolve_schema(instantiate(cfg.data.keypoints))
    classes = resolve_classes(cfg.data.classes)
    odd = []
    # A file that serves both splits is checked once.
    for path, images in dict.fromkeys(
        (cfg.data[s].annotations, cfg.data[s].images) for s in splits
    ):
        if is_generated(cfg, path):
            continue
        trained_on = "train" in splits and path == cfg.data.train.annotations
        content = read_json(path, labelled=trained_on)
        settle_image_range(cfg, [p for p in image_paths(content["images"], images) if p], path)
        forgiven = set()
        if cfg.data.on_bad_image == "skip":
            forgiven.add("image-missing")
        if not schema.names:  # boxes and masks alone
            for entry in (*content["categories"], *content.get("annotations", ())):
                entry.pop("keypoints", None)
        ignored = () if schema.names else {"no-keypoints"}
        # Of no matter for a set that is only trained on.
        evaluated = "test" in splits and path == cfg.data.test.annotations
        table = annotation_table(content, path)
        found = check_set(
            table,
            images,
            trained_on,
            (schema, classes),
            forgiven,
            ignored if evaluated else {*ignored, "limits-exceeded"},
            max_detections=value_at(cfg, "dataloader.evaluator.max_detections"),
            reported=_reported(cfg),
        )
        odd += refuse_errors(found)
        if cfg.data.get("masks"):
            for annotation in content.get("annotations", ()):
                if not annotation.get("iscrowd"):
                    read_segmentation(annotation, path)
        named = {
            category["name"]: [
                schema.names[i] for i in keypoint_indices(category, schema, classes, path)
            ]
            for category in table.categories
        }
        if trained_on and mirror_directions(cfg):
            odd += map(str, check_flip_pairs(table, named, schema.flip_pairs))
    if cfg.data.get("image_range") == "auto":  # all of it is drawn
        cfg.data.image_range = "8-bit"
    return odd


def _reported(cfg: DictConfig) -> int | None:
    """How many detections of an image the model reports; None where that is not known."""
    predictor = value_at(cfg, "model.roi_heads.box_predictor")
    return predictor.get("test_topk_per_image", 100) if predictor else None  # detectron2's default


def check_data_once(cfg: DictConfig, *splits: str) -> list[str]:
    """`check_data` by the first process, for all of them: each returns its warnings, or raises its UserError."""
    warnings: list[str] = []
    problem = ""
    if comm.is_main_process():
        try:
            warnings = check_data(cfg, *splits)
        except UserError as error:
            problem = str(error)
    image_range = cfg.data.get("image_range")
    image_range = list(image_range) if isinstance(image_range, ListConfig) else image_range
    warnings, problem, image_range = comm.all_gather((warnings, problem, image_range))[0]
    if problem:
        raise UserError(problem)
    if image_range is not None:
        cfg.data.image_range = image_range  # `auto` was resolved by the first process alone
    return warnings


def settle_image_range(cfg: DictConfig, paths: Sequence[str], where: str) -> None:
    """Replace, in place, `auto` in data.image_range by what these images have.

    Raises UserError where that is unclear, or images are deeper than those before.
    """
    if cfg.data.get("image_range") not in ("auto", "8-bit"):
        return
    found, problem = find_image_range(paths)
    if problem:
        raise UserError(f"{where}: {problem}")
    if cfg.data.image_range == "8-bit":
        if isinstance(found, str) or found == (0, 255):
            return
        raise UserError(
            f"{where}: images have more than 8 bits, but data.image_range=8-bit, as of the training images: set "
            f"data.image_range={shown_range(found)}"
        )
    cfg.data.image_range = found if isinstance(found, str) else list(found)
    if found != "8-bit":
        logger.info(
            "data.image_range=%s, read from the images: these values become 0 and 255",
            shown_range(found),
        )


# What is wrong with mirrored images: said again right before a training starts.
MIRROR_FINDINGS = ("flip-pairs-unknown", "flips-missing", "classes-mirrored", "corners-mirrored")


def mirror_directions(cfg: DictConfig) -> set[str] | None:
    """Along which axes training mirrors images, see `mapper.flip_directions`; None for a mapper of the user's own."""
    mapper = instantiate(value_at(cfg, "dataloader.train.mapper"))
    augmentations = getattr(mapper, "augmentations", None)
    return None if augmentations is None else flip_directions(augmentations.augs)


def describe_mirrors(cfg: DictConfig) -> str:
    """What a mirrored image swaps, in a line."""
    directions = mirror_directions(cfg)
    if directions is None:
        return "dataloader.train.mapper is none of ours: what mirrored images swap is not known"
    if not directions:
        return "images are not mirrored"
    pairs = resolve_schema(instantiate(cfg.data.keypoints)).flip_pairs
    swapped = ", ".join("/".join(pair) for pair in pairs) or "no keypoints"
    near_off = any(says_near_and_off(pair) for pair in pairs)
    return f"{' and '.join(sorted(directions))} mirroring swaps {swapped}" + (
        " (near and off are taken as left and right; if near means nearer to the camera, set "
        "'data.keypoints={flip_pairs:[]}')"
        if near_off
        else ""
    )


def log_mirrors(cfg: DictConfig, warnings: Sequence[str]) -> None:
    """Log what a mirrored image swaps and, as warnings, what of it seems wrong."""
    logger.info(describe_mirrors(cfg))
    for warning in warnings:
        if any(f"{name}: " in warning for name in MIRROR_FINDINGS):
            logger.warning(warning)


def generate_data(cfg: DictConfig, *splits: str) -> None:
    """Let `data.generate` draw the data set if one of the splits is one of its own."""
    if any(is_generated(cfg, cfg.data[split].annotations) for split in splits):
        if comm.get_local_rank() == 0:
            logger.info("Data set in %s; drawn first if it is not there", cfg.data.root)
            instantiate(cfg.data.generate)
        comm.synchronize()
