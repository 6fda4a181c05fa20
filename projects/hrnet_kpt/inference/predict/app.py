"""What tools/predict.py does: images and videos in; images, videos and json out, as they come."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf

from ...config import load_config
from ...data.categories import resolve_classes, resolve_schema
from ...errors import Stopped, UserError
from ...visualization.run_images import SCORE_THRESHOLD
from ...visualization.video import BadVideoError, read_info, require_video_support
from .. import Predictor
from ..predictor import files_of_run
from .coco import coco_ids, write_results
from .images import Visualizations
from .inputs import Input, find_inputs
from .stream import Task, predict_samples, prefetched, read_samples
from .writing import Progress, Records, fingerprint, model_fingerprint, open_records, write_entries

HEADS = "model.roi_heads"
BATCH_SIZE = 4  # on a GPU; 1 on the CPU
AHEAD = 4  # images that are read before they are needed
SHOWN = 20  # skipped inputs in the summary; all are told as they occur


@dataclass(frozen=True)
class Options:
    """What tools/predict.py is asked for; its --help tells what each means. "" and None: not given."""

    inputs: Sequence[str]
    config_file: str = ""
    weights: str = ""
    run: str = ""
    overrides: Sequence[str] = ()
    output: str = ""
    json: str = ""
    annotations: str = ""
    threshold: float | None = None
    batch_size: int | None = None
    device: str = ""
    restart: bool = False


def predict(options: Options) -> list[str]:
    """Predict what is asked for; return a message for each input that was skipped, or a part of it.

    Raises:
        UserError: For what is wrong with the options, before the model is built
        Stopped: After a signal.
    """
    with _stopped_by_signals(), ExitStack() as stack:
        options = _checked(options)
        inputs = find_inputs(options.inputs, options.output)
        first_video = next((item for item in inputs if item.is_video), None)
        if first_video is not None:
            require_video_support(first_video.path)
        cfg = _load(options)
        schema = resolve_schema(instantiate(cfg.data.keypoints))
        classes = resolve_classes(cfg.data.classes)
        model, least = model_fingerprint(cfg, options.weights), options.threshold
        visualizations, drawn = None, set[str]()
        if options.output:
            shown = SCORE_THRESHOLD if least is None else least
            mark = fingerprint(model, shown)
            visualizations = Visualizations(Path(options.output), mark, schema, classes, shown)
            drawn = visualizations.find_done(inputs, options.restart)
        records = ids = None
        if options.json:
            if options.json.endswith(".json"):
                ids = coco_ids(inputs, schema, classes, options.annotations)
                print(f"image ids: {ids.origin}")
            records = open_records(Path(options.json), ids, options.restart, model, least)
            stack.callback(records.close)
        tasks, total = _left(inputs, visualizations is not None, drawn, records)
        before = len(inputs) - len(tasks)
        if before:
            print(f"{before} of {len(inputs)} inputs were done before")
        problems = []
        if tasks:
            predictor = Predictor(cfg, options.weights, options.device)
            device = next(predictor.model.parameters()).device
            size = options.batch_size or (BATCH_SIZE if device.type == "cuda" else 1)
            progress = stack.enter_context(closing(Progress(total)))
            samples = prefetched(
                read_samples(tasks, records, predictor.image_range), max(AHEAD, size)
            )
            entries = prefetched(predict_samples(samples, predictor, size), AHEAD)
            with closing(entries):
                problems = write_entries(entries, visualizations, records, least or 0.0, progress)
        if records is not None and ids is not None:
            write_results(records.path, ids, Path(options.json))
            records.path.unlink()
    counts = (
        f"{len(tasks) - len(problems)} predicted, {before} done before, {len(problems)} skipped"
    )
    print(f"inputs: {counts}; written: {', '.join(filter(None, (options.output, options.json)))}")
    _tell_skipped(problems)
    return problems


def _checked(options: Options) -> Options:
    """The options, each in its place; raises UserError where they are wrong or contradict each other."""
    # --input takes whatever follows.
    overrides = [word for word in options.inputs if _is_override(word)]
    inputs = [word for word in options.inputs if not _is_override(word)]
    if not inputs:
        raise UserError("--input: give images, videos, folders or patterns")
    if not options.output and not options.json:
        raise UserError("give --output FOLDER for images, --json FILE for numbers, or both")
    if options.json and Path(options.json).suffix not in (".json", ".jsonl"):
        raise UserError(
            f"--json {options.json}: its name must end in .json (COCO's results) or .jsonl (a line for each image)"
        )
    if options.annotations and not options.json.endswith(".json"):
        raise UserError("--annotations gives ids to the results of --json FILE.json: give both")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise UserError(f"--score-thresh {options.threshold:g}: give a score from 0 to 1")
    if options.batch_size is not None and options.batch_size < 1:
        raise UserError(f"--batch-size {options.batch_size}: 1 at least")
    if bool(options.run) == bool(options.config_file or options.weights):
        raise UserError("give either --run FOLDER, or both --config-file FILE and --weights FILE")
    config_file, weights = options.config_file, options.weights
    if options.run:
        config_file, weights = files_of_run(options.run)
    if not config_file or not weights:
        raise UserError("give both --config-file FILE and --weights FILE")
    if "://" not in weights and not Path(weights).is_file():
        raise UserError(f"--weights {weights}: there is no such file")
    return dataclasses.replace(
        options,
        inputs=inputs,
        overrides=[*overrides, *options.overrides],
        config_file=config_file,
        weights=weights,
    )


def _is_override(word: str) -> bool:
    return (
        bool(re.match(r"[+~]?\w+(\.\w+)+(=|$)", word)) and "=" in word and not os.path.exists(word)
    )


def _load(options: Options) -> DictConfig:
    cfg = load_config(options.config_file, options.overrides)
    stages = OmegaConf.select(cfg, f"{HEADS}.box_predictors") or ()  # of a cascade
    predictors = ["box_predictor", *(f"box_predictors.{stage}" for stage in range(len(stages)))]
    for key in (f"{HEADS}.{predictor}.test_score_thresh" for predictor in predictors):
        least = OmegaConf.select(cfg, key)
        if options.threshold is not None and least is not None and least > options.threshold:
            OmegaConf.update(cfg, key, options.threshold)
    return cfg


def _left(
    inputs: Sequence[Input], drawing: bool, drawn: set[str], records: Records | None
) -> tuple[list[Task], int]:
    """What is left to do, and how many images and frames that is, as far as headers tell."""
    tasks, total = [], 0
    for item in inputs:
        count, known = 1, (item.name, None) in records if records else True
        if item.is_video:
            try:
                info = read_info(item.path)
                count = info.num_frames or round(info.seconds * info.rate)
                if records:
                    known = 0 < info.num_frames <= records.num_frames(item.name)
            except BadVideoError:  # told when it is its turn
                known = False
        draw = drawing and item.name not in drawn
        if draw or not known:
            tasks.append(Task(item, draw))
            total += count
    return tasks, total


def _tell_skipped(problems: Sequence[str]) -> None:
    if problems:
        print("skipped, wholly or in part:", file=sys.stderr)
        for problem in problems[:SHOWN]:
            print(f"  {problem}", file=sys.stderr)
        if len(problems) > SHOWN:
            print(f"  and {len(problems) - SHOWN} more, told above", file=sys.stderr)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGINT (Ctrl-C) and SIGTERM raise Stopped wherever the work is: the next run mends what is half written."""

    def stop(signum: int, frame: Any) -> None:
        raise Stopped(signum, "stopped; the same command, without --restart, goes on from here")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
