"""tools/predict.py: checks of its options, what is left to do, and the loop over the inputs."""

from __future__ import annotations

import math
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from detectron2.config import instantiate
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf

from ...config import load_config
from ...data.categories import resolve_classes, resolve_schema
from ...errors import Stopped, UserError
from ...visualization.run_images import SCORE_THRESHOLD
from ...visualization.video import BadVideoError, read_info, require_video_support
from .. import Predictor
from ..predictor import files_of_run
from .coco import coco_ids, write_results
from .inputs import Input, find_inputs, split_overrides
from .live_reader import PATIENCE, LiveReader
from .preannotations import label_records, write_found
from .records import (
    Records,
    fingerprint,
    join_parts,
    model_fingerprint,
    open_records,
    refuse_existing,
)
from .stream import Task, predict_samples, prefetched, read_samples
from .tracking import require_tracking, track_samples
from .visualizations import PROGRAM, Visualizations
from .window import Window
from .writing import Progress, write_entries

HEADS = "model.roi_heads"
BATCH_SIZE = 4  # on a GPU; 1 on the CPU
PREFETCH = 4  # images
MAX_SKIPPED = 20  # inputs in the summary


def predict(options: Namespace) -> list[str]:
    """Run tools/predict.py with the options of its parser; return a message for each input with a problem.

    Of several processes, each predicts its share of the inputs, and the first one writes the results of all.

    Raises:
        UserError: If an option is wrong, before the model is built.
        Stopped: After a signal.
    """
    with _stopped_by_signals() as signals, ExitStack() as stack:
        _check(options)
        all_inputs = find_inputs(options.inputs, options.output)
        live = all_inputs[0].live
        signals.resumable = live is None
        if live is not None and comm.get_world_size() > 1:
            raise UserError("--input is live: give it to one process, without torchrun")
        if live is None and options.patience is not None:
            raise UserError("--reconnect is for live video: leave it out")
        inputs = all_inputs[comm.get_rank() :: comm.get_world_size()]
        first_video = next((item for item in all_inputs if item.is_video), None)
        if first_video is not None:
            require_video_support(first_video.path)
        elif options.track:
            raise UserError("--track needs a video: images have no order; leave it out")
        if options.labels:
            of_labels = label_records(Path(options.output), options.labels, all_inputs)
        cfg = _load(options)
        schema = resolve_schema(instantiate(cfg.data.keypoints))
        classes = resolve_classes(cfg.data.classes)
        model, threshold = model_fingerprint(cfg, options.weights), options.threshold
        if options.track:
            model = fingerprint(model, "track", options.smooth)
        visualizations, drawn = None, set[str]()
        if (options.output and not options.labels) or options.show:
            shown = SCORE_THRESHOLD if threshold is None else threshold
            folder = Path(options.output) if options.output else None
            mark = fingerprint(model, shown)
            visualizations = Visualizations(folder, mark, schema, classes, shown)
            drawn = visualizations.find_done(inputs, options.restart)
        window = reader = None
        if options.show:
            window = Window(f"{live.shown if live else PROGRAM}: q closes")
            stack.callback(window.close)
        if live is not None:
            if options.json and not options.restart:
                refuse_existing(Path(options.json))
            reader = LiveReader(live, PATIENCE if options.patience is None else options.patience)
            stack.callback(reader.stop)
            reader.start()
            signals.live = reader
            if window is not None:
                window.on_close = reader.stop
        records = ids = None
        if options.json:
            if options.json.endswith(".json"):
                ids = coco_ids(all_inputs, schema, classes, options.annotations)
                _print(f"image ids: {ids.origin}")
            records = open_records(Path(options.json), ids, options.restart, model, threshold)
        if options.labels:
            kind = options.labels
            records = open_records(of_labels, None, options.restart, model, threshold, kind)
        if records is not None:
            stack.callback(records.close)
        tasks, total = _tasks(inputs, visualizations is not None, drawn, records)
        done = sum(comm.all_gather(len(inputs) - len(tasks)))
        if done:
            _print(f"{done} of {len(all_inputs)} inputs were done before")
        problems = []
        if tasks:
            predictor = Predictor(cfg, options.weights, options.device)
            device = next(predictor.model.parameters()).device
            size = options.batch_size or (BATCH_SIZE if device.type == "cuda" else 1)
            samples = read_samples(tasks, records, predictor.image_range, options.track, reader)
            if reader is None:  # frames of a live source do not wait
                samples = prefetched(samples, max(PREFETCH, size))
            entries = predict_samples(samples, predictor, size, threshold or 0.0)
            if options.track:
                entries = track_samples(entries, schema, options.smooth)
            entries = prefetched(
                entries, 1 if reader else PREFETCH, window.update if window else None
            )
            with closing(Progress(total)) as progress, closing(entries):
                problems = write_entries(entries, visualizations, records, progress, window)
        problems = [message for of_process in comm.all_gather(problems) for message in of_process]
        if records is not None and comm.is_main_process():
            join_parts(records.path, all_inputs)
            if ids is not None:
                write_results(records.path, ids, Path(options.json))
                records.path.unlink()
            if options.labels:
                labels = Path(options.output), options.labels, options.visible, options.hidden
                print(*write_found(records.path, all_inputs, schema, classes, *labels), sep="\n")
                records.path.unlink()
    predicted = len(all_inputs) - done - len(problems)
    counts = f"{predicted} predicted, {done} done before, {len(problems)} skipped"
    written = ", ".join(filter(None, (options.output, options.json)))
    _print(f"inputs: {counts}; written: {written or 'nothing'}")
    if reader is not None:
        print(reader.summary())
    if problems and comm.is_main_process():
        more = len(problems) - MAX_SKIPPED
        lines = problems[:MAX_SKIPPED] + ([f"and {more} more, see above"] if more > 0 else [])
        print("skipped, wholly or in part:", *lines, sep="\n  ", file=sys.stderr)
    if signals.received:
        raise Stopped(signals.received, "stopped; the files are complete")
    return problems


def _print(line: str) -> None:
    if comm.is_main_process():
        print(line)


def _check(options: Namespace) -> None:
    """Check the options, move overrides out of the inputs, and find the files of a run, in place."""
    # --input takes all words that follow, overrides too.
    options.inputs, overrides = split_overrides(options.inputs)
    options.overrides = [*overrides, *options.overrides]
    if not options.output and not options.json and not options.show:
        raise UserError(
            "give --output FOLDER for images, --json FILE for results, --show, or several of them"
        )
    if options.json and Path(options.json).suffix not in (".json", ".jsonl"):
        raise UserError(
            f"--json {options.json}: its name must end in .json (COCO-format results) or .jsonl (a line for each image)"
        )
    if options.labels:
        if not options.output or options.json or options.show:
            raise UserError(
                "--labels needs --output FOLDER for the labels, no --json and no --show"
            )
        if not 0 <= options.hidden <= options.visible <= 1:
            raise UserError(
                f"--hidden {options.hidden:g} and --visible {options.visible:g}: give confidences from 0 to 1, the "
                "first one at most as high as the second"
            )
        if options.threshold is None:
            options.threshold = SCORE_THRESHOLD
    if options.annotations and not options.json.endswith(".json"):
        raise UserError("--annotations has the ids for --json FILE.json: give both")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise UserError(f"--score-thresh {options.threshold:g}: give a score from 0 to 1")
    if options.batch_size is not None and options.batch_size < 1:
        raise UserError(f"--batch-size {options.batch_size}: give 1 or more")
    if options.patience is not None and not 0 <= options.patience < math.inf:
        raise UserError(f"--reconnect {options.patience:g}: give seconds, 0 or more")
    if options.smooth and not options.track:
        raise UserError("--smooth follows the keypoints of tracked objects: add --track")
    if options.track:
        require_tracking()
    if bool(options.run) == bool(options.config_file or options.weights):
        raise UserError("give either --run FOLDER, or both --config-file FILE and --weights FILE")
    if options.run:
        options.config_file, options.weights = files_of_run(options.run)
    if not options.config_file or not options.weights:
        raise UserError("give both --config-file FILE and --weights FILE")
    if "://" not in options.weights and not Path(options.weights).is_file():
        raise UserError(f"--weights {options.weights}: there is no such file")


def _load(options: Namespace) -> DictConfig:
    cfg = load_config(options.config_file, options.overrides)
    stages = OmegaConf.select(cfg, f"{HEADS}.box_predictors") or ()  # of a cascade
    predictors = ["box_predictor", *(f"box_predictors.{stage}" for stage in range(len(stages)))]
    for key in (f"{HEADS}.{predictor}.test_score_thresh" for predictor in predictors):
        configured = OmegaConf.select(cfg, key)
        if None not in (configured, options.threshold) and configured > options.threshold:
            OmegaConf.update(cfg, key, options.threshold)
    return cfg


def _tasks(
    inputs: Sequence[Input], draw: bool, drawn: set[str], records: Records | None
) -> tuple[list[Task], int]:
    """The inputs that are not done, and the number of their images and frames, as far as headers have it."""
    tasks, total = [], 0
    for item in inputs:
        count, recorded = 1, records is None or (item.name, None) in records
        if item.live:
            count, recorded = 0, False
        elif item.is_video:
            try:
                info = read_info(item.path)
                count = info.num_frames or round(info.seconds * info.rate)
                if records is not None:
                    recorded = 0 < info.num_frames <= records.num_frames(item.name)
            except BadVideoError:  # read_samples reports it
                recorded = False
        draw_item = draw and item.name not in drawn
        if draw_item or not recorded:
            tasks.append(Task(item, draw_item))
            total += count
    return tasks, total


class _Signals:
    """The handler of SIGINT (Ctrl-C) and SIGTERM.

    It raises Stopped, at any point: the next run repairs files that are half written. The first signal during live
    video ends the stream instead.
    """

    def __init__(self) -> None:
        self.live: LiveReader | None = None
        self.resumable = True
        self.received = 0

    def __call__(self, signum: int, frame: Any) -> None:
        if self.live is None or self.received:
            advice = "; the same command without --restart continues" if self.resumable else ""
            raise Stopped(signum, f"stopped{advice}")
        self.received = signum
        self.live.stop()


@contextmanager
def _stopped_by_signals() -> Iterator[_Signals]:
    signals = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, signals) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
