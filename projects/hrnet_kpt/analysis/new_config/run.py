"""Write the config for a data set and a machine."""

from __future__ import annotations

import math
import shlex
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ...config.keys import escape
from ...config.load import find_page, load_with_changes
from ...data.coco import read_json
from ...dataset_checks.finding import Finding, format_count
from ...dataset_checks.images import Opened, check_images, check_leaks
from ...dataset_checks.swapped_sides import check_sides
from ...dataset_checks.table import annotation_table
from ...engine.prepare import prepare_run
from ...errors import UserError, join_names, refuse_errors
from ...io import parse_once
from ...weights.read import local_weights
from . import choose
from .choose import Choice, Times
from .machine import Machine, this_machine
from .sources import find_data
from .step_times import step_times
from .survey import Survey, survey_data
from .write import config_source, refuse_to_overwrite, write_source

BOX_PAGE = "hrnet_w18_box.py"
MAX_OPENED = 2000  # images: more are not opened by the check of the data


def new_config(
    data: str | Path,
    output: str | Path,
    *,
    test: str | Path | None = None,
    images: str | Path | None = None,
    format: str | None = None,
    minutes: float | None = None,
    device: str | None = None,
    base: str | None = None,
    overwrite: bool = False,
    time_again: bool = False,
    report: Callable[[str], object] = print,
) -> Path:
    """Check a data set, and write a config file for it, in which each value has its reason.

    Args:
        data: A folder with train.json and test.json, a COCO-format json, or a data set in another layout.
        output: The config file to write; its name ends in .py.
        test: The json of the test set, if `data` is a json.
        images: The folder of the images; None: where they are found.
        format: The layout of `data`, as of tools/import_data.py; None: recognized.
        minutes: The time of a training; None: as many iterations as the number of images asks for.
        device: "cpu" or "cuda"; None: a GPU if there is one.
        base: The page, a config file; None: by machine.
        overwrite: Replace a file that was not written by this function, or was changed since.
        time_again: Measure the time of iterations even if it is known from an earlier call.
        report: Called with lines about the data and the file.

    Returns:
        The path of the file.

    Raises:
        UserError: If the data or an argument are wrong; nothing is written then.
    """
    path = Path(output)
    refuse_to_overwrite(path, overwrite)
    if minutes is not None and not (0 < minutes < math.inf):
        raise UserError(f"--minutes {minutes:g}: give the minutes that a training may take")
    machine = this_machine(device)
    page, reason = _choose_page(machine, base)
    cfg, _ = load_with_changes(find_page(page))
    with_keypoints = "keypoint_head" in cfg.model.roi_heads
    with parse_once(), TemporaryDirectory() as folder:
        files = find_data(
            str(data),
            None if test is None else str(test),
            None if images is None else str(images),
            format,
            path.with_name(f"{path.stem}_data"),
            report,
        )
        survey = survey_data(files["train"], files["test"], with_keypoints)
        if with_keypoints and not survey.keypoints:
            raise UserError(
                f"{files['train'][0]}: no category has a list of `keypoints`: add their names; for boxes alone, add "
                f"--base {BOX_PAGE}"
            )
        for line in describe_data(survey):
            report(line)
        choices = [_paths(files, path), *_choose_model(survey, machine, cfg)]
        apply(cfg, choices)
        cfg.train.output_dir = folder  # the checks must not find an earlier run
        cfg.train.ema.enabled = True  # as choose_schedule will set it: it takes time, too
        start = time.perf_counter()
        run = prepare_run(cfg, report=lambda warning: report(f"warning: {warning}"))
        start_seconds = time.perf_counter() - start
        _open_images(files, report)
        times = None
        if minutes is not None:
            times = step_times(run, start_seconds, survey, machine, time_again)
    batch = cfg.dataloader.train.total_batch_size
    schedule = choose.choose_schedule(survey, batch, minutes, times)
    options = {
        "data": data,
        "test": test,
        "images": images,
        "format": format,
        "minutes": minutes,
        "device": device,
    }
    facts = [
        title(survey),
        f"Written by: {command(**options, base=base, output=output)}",
        f"Data: {' '.join(describe_data(survey))}",
        f"Machine: {_describe(machine, times)}",
    ]
    write_source(path, config_source(facts, page, reason, [*choices, *schedule]))
    report(f"{path}: {Path(page).name} with values for these data, each with its reason")
    report(schedule[0].reason)
    return path


def _choose_page(machine: Machine, base: str | None) -> tuple[str, str]:
    """The page, as a name in `configs/` or an absolute path, and the reason."""
    if base is not None:
        return (str(Path(base).resolve()) if Path(base).is_file() else base), "The page of --base."
    has_weights = False
    if machine.device == "cuda":
        cfg, _ = load_with_changes(find_page(choose.PRETRAINED_PAGE))
        with suppress(UserError):
            has_weights = bool(local_weights(cfg.train.init_checkpoint))
    return choose.choose_page(machine, has_weights)


def _paths(files: dict[str, tuple[str, str]], output: Path) -> Choice:
    settings: dict[str, Any] = {}
    for split, (file, images) in files.items():
        settings[f"data.{split}"] = {"annotations": escape(file), "images": escape(images)}
    settings["train.output_dir"] = escape(f"output/{output.stem}")
    return Choice("", settings)


def _choose_model(survey: Survey, machine: Machine, page: DictConfig) -> list[Choice]:
    """All choices that need no times."""
    nodes = page.dataloader.train.mapper.augmentations
    augmentations = [_name(node._target_) for node in nodes]
    batch, rate = page.dataloader.train.total_batch_size, page.optimizer.lr
    generator = page.model.proposal_generator.anchor_generator
    return [
        choose.choose_input(survey, machine.device, augmentations),
        *choose.choose_augmentations(survey, augmentations),
        choose.choose_anchors(survey, machine.device, len(generator.strides)),
        choose.choose_counts(survey),
        *choose.choose_inference(survey, page.inference.keypoint_decoding),
        choose.choose_device(machine),
        choose.choose_batch(survey, machine, batch, rate, "Adam" in _name(page.optimizer._target_)),
        *choose.choose_repeats(survey),
        choose.choose_evaluation(survey),
    ]


def _name(target: Any) -> str:
    return target.rpartition(".")[2] if isinstance(target, str) else target.__name__


def apply(cfg: DictConfig, choices: Sequence[Choice]) -> None:
    """Set the values in a config, in place."""
    for choice in choices:
        for key, value in choice.settings.items():
            OmegaConf.update(cfg, key, value, force_add=True)


def _open_images(files: dict[str, tuple[str, str]], report: Callable[[str], object]) -> None:
    """The checks that a run leaves out: they open every image, and compare those of both sets."""
    tables = {
        split: annotation_table(read_json(files[split][0]), files[split][0]) for split in files
    }
    found: list[Finding] = check_sides(tables["train"])
    count = sum(len(table.images) for table in tables.values())
    if count > MAX_OPENED:
        report(f"the {count} images were not opened: hrnet-kpt check-data does it")
    else:
        opened: dict[str, list[Opened]] = {}
        for split, table in tables.items():
            findings, opened[split] = check_images(table, files[split][1])
            found += findings
        found += check_leaks(opened["test"], files["test"][0], opened["train"], files["train"][0])
    for finding in found:
        if finding.level == "warning":
            report(f"warning: {finding}")
    refuse_errors(found)


def title(survey: Survey) -> str:
    names = join_names([*survey.class_objects], 2)
    points = f"with {format_count(len(survey.keypoints), 'keypoint')}, " if survey.keypoints else ""
    return f"A detector of {names}, {points}learned from {format_count(survey.images, 'image')}."


def describe_data(survey: Survey) -> list[str]:
    """What the data are, in sentences."""
    sizes = Counter((int(w), int(h)) for w, h in survey.image_sizes.tolist()).most_common()
    (width, height), _ = sizes[0]
    others = f" (and {format_count(len(sizes) - 1, 'other size')})" if len(sizes) > 1 else ""
    classes = join_names([f"{name} {n}" for name, n in survey.class_objects.items()], 2)
    points = join_names([*survey.keypoints], 2)
    pairs = format_count(len(survey.flip_pairs), "flip pair")
    sentences = [
        f"{format_count(survey.images, 'training image')} of {width} x {height}{others} with "
        f"{format_count(survey.objects, 'object')} ({classes}); {format_count(survey.test_images, 'test image')} with "
        f"{survey.test_objects}.",
        f"{format_count(len(survey.keypoints), 'keypoint')} ({points}), {pairs}."
        if points
        else "No keypoints.",
    ]
    if survey.unlabeled:
        sentences.append(f"Unlabeled: {survey.unlabeled}.")
    return sentences


def _describe(machine: Machine, times: Times | None) -> str:
    timed = "; not timed, without --minutes"
    if times is not None:
        timed = f"; timed: {times.iteration:g} s an iteration"
    return f"{machine.describe()}{timed}."


def command(**options: Any) -> str:
    """The command line with these options."""
    words = ["hrnet-kpt", "new-config"]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)
