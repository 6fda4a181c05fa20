"""The checks of config and data before a run starts, and the checkpoint that it resumes."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.config import instantiate
from detectron2.utils import comm
from omegaconf import DictConfig, ListConfig
from torch import nn

from ..config.checks import resolve_and_check
from ..config.checks.build import build_on_meta
from ..config.checks.run import check_fit, resumable
from ..config.findings import Finding
from ..config.keys import value_at
from ..config.resolve import is_generated
from ..data.categories import keypoint_indices, resolve_classes, resolve_schema
from ..data.coco import read_json
from ..data.image_range import find_image_range, format_range
from ..data.images import image_paths
from ..data.masks import read_segmentation
from ..dataset_checks.annotations import check_set
from ..dataset_checks.mirror_pairs import check_flip_pairs
from ..dataset_checks.table import annotation_table
from ..errors import UserError, refuse_errors
from ..inference.build import build_model
from ..weights.read import local_weights
from ..weights.run_checkpoints import newest_checkpoint, result_checkpoint
from .setup import check_data_files, mirror_directions

logger = logging.getLogger(__name__)


@dataclass
class PreparedRun:
    """A run that is ready to start.

    Attributes:
        cfg: A copy of the config with each `auto` resolved.
        warnings: Warnings about the config and the data, one line each.
        checkpoint: Path and content of the checkpoint to resume from, or to evaluate, tensors on the CPU; None if there
            is none. Set it to None once model and trainer are restored: it takes as much memory as both.
    """

    cfg: DictConfig
    warnings: list[str] = field(default_factory=list)
    checkpoint: tuple[Path, dict[str, Any]] | None = None

    @property
    def start_iter(self) -> int:
        """The first iteration to be trained."""
        return int(self.checkpoint[1]["iteration"]) + 1 if self.checkpoint else 0

    @property
    def seed(self) -> int | None:
        """The seed of the resumed run."""
        return self.checkpoint[1].get("seed") if self.checkpoint else None


def prepare_run(
    cfg: DictConfig,
    *,
    training: bool = True,
    resume: bool = False,
    processes: int | None = None,
    check_only: bool = False,
    report: Callable[[str], object] | None = None,
) -> PreparedRun:
    """Resolve each `auto` in a copy of the config, check the copy and its data, and read the checkpoint to resume.

    In an `io.parse_once` block, the loaders and the evaluator do not parse the annotations again. All processes of a
    run call this together; the first one checks the data for all.

    Args:
        training: True for training, False for evaluation.
        resume: Resume from the newest checkpoint in `cfg.train.output_dir`, if there is one; or evaluate the weights
            that the run has left.
        processes: Number of processes of the run; by default that of the current process group.
        check_only: No run follows. No checkpoint is read, missing data are a warning, and weights that the run would
            download are downloaded and compared.
        report: Called with each warning, before errors of the same check are raised.

    Raises:
        UserError: If there are errors; one line each: first those of the config, then those of the data.
    """
    processes = processes or comm.get_world_size()
    cfg, findings = resolve_and_check(cfg, training=training, resume=resume, processes=processes)
    run = PreparedRun(cfg)

    def warn(lines: Iterable[str]) -> None:
        for line in lines:
            run.warnings.append(line)
            if report:
                report(line)

    warn(str(finding) for finding in findings if finding.level == "warning")
    refuse_errors(findings)
    splits = ("train", "test") if training else ("test",)
    if check_only:
        try:
            check_data_files(cfg, *splits)
        except UserError as missing:
            warn(str(missing).splitlines())
            return run
        warn(check_data(cfg, *splits))
        try:
            findings = _check_fetched_weights(cfg, training, resume)
        except UserError as unreachable:
            warn([str(unreachable)])
        else:
            refuse_errors(findings)
        return run
    if resume:
        read = newest_checkpoint if training else result_checkpoint
        run.checkpoint = read(Path(cfg.train.output_dir))
    if len(set(comm.all_gather(run.start_iter))) > 1:
        raise UserError(
            f"train.output_dir={cfg.train.output_dir}: not every process finds the same checkpoint there: all "
            "machines must share the folder"
        )
    warn(check_data_once(cfg, *splits))
    return run


def build_run_model(run: PreparedRun, whole: bool = False) -> nn.Module:
    """The model of the run, with the weights of its checkpoint, else of `train.init_checkpoint`; see `build_model`."""
    path, content = run.checkpoint or (run.cfg.train.init_checkpoint, None)
    return build_model(run.cfg, str(path), whole or content is not None, content)


def check_data_once(cfg: DictConfig, *splits: str) -> list[str]:
    """`check_data` in the first process, for all of them: each returns its warnings, or raises its UserError."""
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
        cfg.data.image_range = image_range  # the first process has resolved `auto`
    return warnings


def check_data(cfg: DictConfig, *splits: str) -> list[str]:
    """Check the annotations and that the image files exist, without opening them; resolve data.image_range in place.

    Data that `data.generate` writes are not checked.

    Returns:
        The warnings.

    Raises:
        UserError: If anything is missing or wrong; one line each.
    """
    check_data_files(cfg, *splits)
    warnings = []
    # A file that serves both splits is checked once.
    for path, images in dict.fromkeys(
        (cfg.data[s].annotations, cfg.data[s].images) for s in splits
    ):
        if not is_generated(cfg, path):
            trained_on = "train" in splits and path == cfg.data.train.annotations
            evaluated_on = "test" in splits and path == cfg.data.test.annotations
            warnings += _check_annotations(cfg, path, images, trained_on, evaluated_on)
    if cfg.data.get("image_range") == "auto":  # all images are generated
        cfg.data.image_range = "8-bit"
    return warnings


def _check_annotations(
    cfg: DictConfig, path: str, images: str, trained_on: bool, evaluated_on: bool
) -> list[str]:
    schema = resolve_schema(instantiate(cfg.data.keypoints))
    classes = resolve_classes(cfg.data.classes)
    content = read_json(path, labelled=trained_on)
    resolve_image_range(cfg, [p for p in image_paths(content["images"], images) if p], path)
    ignored = set()
    if not schema.names:  # boxes and masks alone
        content = _without_keypoints(content)
        ignored.add("no-keypoints")
    if not evaluated_on:
        ignored.add("limits-exceeded")
    predictor = value_at(cfg, "model.roi_heads.box_predictor")
    table = annotation_table(content, path)
    found = check_set(
        table,
        images,
        trained_on,
        (schema, classes),
        {"image-missing"} if cfg.data.on_bad_image == "skip" else set(),
        ignored,
        max_detections=value_at(cfg, "dataloader.evaluator.max_detections"),
        # detectron2's default is 100.
        reported=predictor.get("test_topk_per_image", 100) if predictor else None,
    )
    warnings = refuse_errors(found)
    if cfg.data.get("masks"):
        for annotation in content.get("annotations", ()):
            if not annotation.get("iscrowd"):
                read_segmentation(annotation, path)
    names_by_category = {
        category["name"]: [
            schema.names[i] for i in keypoint_indices(category, schema, classes, path)
        ]
        for category in table.categories
    }
    if trained_on and mirror_directions(cfg):
        warnings += map(str, check_flip_pairs(table, names_by_category, schema.flip_pairs))
    return warnings


def _without_keypoints(content: dict[str, Any]) -> dict[str, Any]:
    # A copy: `parse_once` hands the original to the loaders, too.
    lists = {
        name: [{key: entry[key] for key in entry if key != "keypoints"} for entry in content[name]]
        for name in ("categories", "annotations")
        if content.get(name)
    }
    return {**content, **lists}


def resolve_image_range(cfg: DictConfig, paths: Sequence[str], where: str) -> None:
    """Replace data.image_range=auto, in place, by the range of these images.

    Args:
        paths: The image files.
        where: The annotation file, for messages.

    Raises:
        UserError: If the range is ambiguous, or the training images have 8 bits and these have more.
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
            f"data.image_range={format_range(found)}"
        )
    cfg.data.image_range = found if isinstance(found, str) else list(found)
    if found != "8-bit":
        logger.info(
            "data.image_range=%s, read from the images: these values become 0 and 255",
            format_range(found),
        )


def _check_fetched_weights(cfg: DictConfig, training: bool, resume: bool) -> list[Finding]:
    """Download the weights as the run would, and compare them with the model; raise UserError if that fails."""
    location = cfg.train.init_checkpoint
    if not location or Path(location).is_file() or (resume and resumable(cfg)):
        return []
    fetched = copy.deepcopy(cfg)
    fetched.train.init_checkpoint = str(local_weights(location))
    model, _ = build_on_meta(cfg)
    assert model is not None  # otherwise there were errors before
    return [*check_fit(fetched, model, training)]
