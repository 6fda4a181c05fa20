#!/usr/bin/env python
"""Test and measure this project on a GPU: the tests marked gpu, inference, training steps, and a whole training.

It needs no network. What is done is in gpu.json and gpu.md at any time; what the time limit leaves out is listed there.
"""

import gc
import importlib.util
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from detectron2.config import instantiate

from hrnet_kpt.analysis.benchmark.report import times_text
from hrnet_kpt.analysis.benchmark.run import Options, processor, run_benchmark, time_training
from hrnet_kpt.analysis.inspect.inspection import parse_size
from hrnet_kpt.cli.parser import Parser, run_command
from hrnet_kpt.config import load_config
from hrnet_kpt.data.workers import usable_cores
from hrnet_kpt.engine import train
from hrnet_kpt.errors import UserError, one_line
from hrnet_kpt.io import replace_text, to_json

EXAMPLES = """
examples:
  docs/scripts/gpu.py                           all parts, in at most 8 minutes
  docs/scripts/gpu.py --minutes 30              more of the compiled models
  docs/scripts/gpu.py --parts benchmark
  docs/scripts/gpu.py --dry-run                 all parts with tiny models on the CPU; nothing is compiled
"""
REPOSITORY = Path(__file__).resolve().parents[2]
OLDEST_TORCH = (2, 11)
PARTS = ("tests", "benchmark", "training")
# Of the tests and of the training of the synthetic page, so that one does not use the time of the others.
LIMITS = {"tests": 180.0, "training": 150.0}  # seconds
LEAST = 20.0  # seconds in which a case is begun
NO_TIME = "no time: give more --minutes"
PAGES = {
    "HRNet-W18": "hrnet_w18_kpt.py",
    "HRNet-W32": "hrnet_w32_kpt.py",
    "R50-FPN of detectron2": "r50_fpn_kpt.py",
}
DTYPES = ("float32", "float16", "bfloat16")
BATCHES = (1, 8)
SIZE, DETECTIONS, REPEATS, TRAINING_BATCH, STEPS = "800x1216", 10, 10, 16, 5
SYNTHETIC = "hrnet_w18_small_kpt_synthetic.py"
ITERATIONS = 1600  # half of the page's
# The same of a dry run, and the changes of its models.
DRY_TITLE = "Dry run: tiny models on the CPU, whose times mean nothing"
DRY = {"SIZE": "64x96", "DETECTIONS": 3, "REPEATS": 1, "TRAINING_BATCH": 2, "STEPS": 1}
NARROW = (
    "model.backbone.out_channels=16",
    "model.proposal_generator.post_nms_topk=[30,20]",
    "model.roi_heads.box_head.fc_dims=[16,16]",
    "model.roi_heads.keypoint_head.conv_dims=[8]",
)
TINY_HRNET = (
    "model.backbone.bottom_up.width=4",
    "model.backbone.bottom_up.stage1_channels=8",
    "model.backbone.bottom_up.num_modules=[1,1,1,1]",
    "model.backbone.bottom_up.num_blocks=[1,1,1,1]",
)
TINY_RESNET = (
    "model.backbone.bottom_up.stages.depth=18",
    "~model.backbone.bottom_up.stages.stride_in_1x1",
)


class TimeOver(Exception):
    """The time limit of a case is over."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeOver in the block after `seconds`."""

    def end(*_: Any) -> None:
        raise TimeOver

    handler = signal.signal(signal.SIGALRM, end)
    other = signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *other)
        signal.signal(signal.SIGALRM, handler)


class Report:
    """The results, which are written after each case: gpu.json and gpu.md in `folder`."""

    def __init__(self, folder: Path, device: torch.device, dry_run: bool, minutes: float) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--output {folder} cannot be made: {error.strerror}") from error
        self.folder, self.device, self.dry_run = folder, device, dry_run
        self.start, self.end = time.monotonic(), time.monotonic() + 60 * minutes
        self.found: dict[str, Any] = {"dry_run": dry_run, "machine": machine(device)}
        self.found |= {"tests": None, "inference": [], "steps": [], "training": None, "missing": []}

    def left(self) -> float:
        return self.end - time.monotonic()

    def case(self, name: str, work: Callable[[], None], seconds: float = float("inf")) -> None:
        """Run a part of the benchmark; what fails or has no time is listed, and the rest goes on."""
        seconds = min(seconds, self.left())
        print(f"gpu: {name} ({self.left():.0f} s left)", flush=True)
        reason, end = "", time.monotonic() + seconds
        try:
            if seconds < LEAST:
                raise TimeOver
            with time_limit(seconds):
                work()
        except Exception as error:  # the others may work
            over = isinstance(error, TimeOver) or time.monotonic() >= end
            reason = NO_TIME if over else f"failed: {one_line(error)[:200]}"
        if reason:
            self.found["missing"].append({"case": name, "reason": reason})
            print(f"gpu: {name}: {reason}", flush=True)
        if self.device.type == "cuda":
            torch._dynamo.reset()
            gc.collect()
            torch.cuda.empty_cache()
        self.write()

    def write(self) -> None:
        self.found["seconds"] = round(time.monotonic() - self.start, 1)
        replace_text(self.folder / "gpu.json", to_json(self.found, indent=1) + "\n")
        replace_text(self.folder / "gpu.md", table_of(self.found))


def parser() -> Parser:
    found = Parser(__doc__, EXAMPLES, "docs/scripts/gpu.py")
    found.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="default: all")
    found.add_argument("--minutes", type=float, default=8, metavar="N", help="limit (default: 8)")
    found.add_argument("--dry-run", action="store_true", help="with tiny models on the CPU")
    where = "for gpu.json and gpu.md (default: output/gpu, or output/gpu_dry_run)"
    found.add_argument("--output", metavar="FOLDER", help=where)
    return found


def main(argv: list[str] | None = None) -> int:
    return run_command(parser(), argv, run)


def run(args: Namespace) -> int:
    """Run the parts; 1 if a test or a case has failed."""
    if args.minutes <= 0:
        raise UserError(f"--minutes {args.minutes:g}: write more than 0")
    device = torch.device("cpu" if args.dry_run else "cuda")
    refuse_environment(device, args.parts)
    folder = Path(args.output or ("output/gpu_dry_run" if args.dry_run else "output/gpu"))
    report = Report(folder, device, args.dry_run, args.minutes)
    # A compilation on the CPU takes longer than all the rest.
    stance = torch.compiler.set_stance("force_eager") if args.dry_run else nullcontext()
    with stance:
        if "tests" in args.parts:
            report.case("tests", lambda: run_tests(report), LIMITS["tests"])
        if "benchmark" in args.parts:
            time_models(report)
        if "training" in args.parts:
            case = f"training of {SYNTHETIC}"
            report.case(case, lambda: train_page(report), LIMITS["training"])
        if "benchmark" in args.parts:
            time_compiled(report)
    print("", table_of(report.found), f"{folder / 'gpu.json'}, {folder / 'gpu.md'}", sep="\n")
    tests = report.found["tests"] or {"failed": []}
    failed = [one for one in report.found["missing"] if one["reason"].startswith("failed")]
    return int(bool(tests["failed"] or failed))


def refuse_environment(device: torch.device, parts: list[str]) -> None:
    """Raise UserError if torch is too old or has no GPU, or packages of the tests are missing."""
    version = tuple(map(int, re.findall(r"\d+", torch.__version__)[:2]))
    if version < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise UserError(f"torch {torch.__version__} is too old: install {oldest} or newer")
    if device.type == "cuda" and not torch.cuda.is_available():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs alone"
        raise UserError(
            f"torch {torch.__version__}, built {built}, finds no GPU: check nvidia-smi, or add --dry-run to try "
            "everything on the CPU"
        )
    needed = [name for name in ("pytest", "hypothesis") if importlib.util.find_spec(name) is None]
    if "tests" in parts and needed:
        raise UserError(
            f"the tests need {' and '.join(needed)}: pip install {' '.join(needed)}, or add --parts benchmark training"
        )


def machine(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {
        "processor": processor(),
        "cores": usable_cores(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "gpu": properties.name,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        }
    return found


def run_tests(report: Report) -> None:
    """Run the tests marked gpu in a process of their own: a failed assertion on a GPU ends all that follows."""
    package, others = str(REPOSITORY / "projects"), os.environ.get("PYTHONPATH")
    variables = {
        "HRNET_KPT_TEST_DEVICE": report.device.type,
        "PYTHONPATH": os.pathsep.join([package, others] if others else [package]),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tests.xml"
        options = ["-q", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={path}", "tests/gpu"]
        subprocess.run(
            [sys.executable, "-m", "pytest", *options],
            cwd=REPOSITORY,
            env={**os.environ, **variables},
        )
        if not path.is_file():
            raise RuntimeError("pytest has written no report, see its output")
        report.found["tests"] = outcomes(path)


def outcomes(path: Path) -> dict[str, Any]:
    """The tests in a report of pytest: number of passed ones, and names and first lines of the others."""
    found: dict[str, Any] = {"passed": 0, "failed": [], "skipped": [], "seconds": 0.0}
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        found["seconds"] += float(case.get("time", 0))
        kind = next((k for k in ("failure", "error", "skipped") if case.find(k) is not None), "")
        if kind:
            [line, *_] = (case.find(kind).get("message") or "?").splitlines()  # type: ignore[union-attr]
            found["skipped" if kind == "skipped" else "failed"].append(f"{name}: {line}")
        else:
            found["passed"] += 1
    return found


def setting(dry_run: bool, name: str) -> Any:
    """A constant of this file, or its value in a dry run."""
    return DRY[name] if dry_run else globals()[name]


@cache
def load_page(name: str, dry_run: bool) -> Any:
    small = (*NARROW, *(TINY_RESNET if name.startswith("R50") else TINY_HRNET))
    return load_config(PAGES[name], small if dry_run else ())


def time_models(report: Report) -> None:
    """Time inference without compilation, and training steps."""
    for index, name in enumerate(PAGES):
        dtypes = DTYPES[index : index + 1] if report.dry_run else DTYPES
        report.case(
            f"inference of {name}",
            lambda: time_inference(report, name, ["optimized"], dtypes, BATCHES),  # noqa: B023
        )
    # Every fourth has each precision and each model once.
    for dtype, name in [*product(DTYPES, PAGES)][:: 4 if report.dry_run else 1]:
        report.case(
            f"training step of {name}, {dtype}",
            lambda: time_steps(report, name, dtype),  # noqa: B023
        )


def time_compiled(report: Report) -> None:
    """Time compiled models, the most interesting first: each takes a minute or more before its first image."""
    cases = product(("bfloat16", "float16", "float32"), BATCHES, PAGES, ("graphs", "compiled"))
    for dtype, batch, name, kind in [*cases][:: 25 if report.dry_run else 1]:
        report.case(
            f"inference of {name}, {kind}, {dtype}, batch {batch}",
            lambda: time_inference(report, name, [kind], [dtype], [batch]),  # noqa: B023
        )


def time_inference(report: Report, name: str, kinds: list[str], dtypes: Any, batches: Any) -> None:
    """Add a row for each model, and, with those that are not compiled, for the plain one in float32."""
    options = Options(
        sizes=[setting(report.dry_run, "SIZE")],
        batch_sizes=[1] if report.dry_run else batches,
        detections=[setting(report.dry_run, "DETECTIONS")],
        models=kinds,
        dtypes=dtypes,
        device=str(report.device),
        repeats=setting(report.dry_run, "REPEATS"),
        training="",
        training_batch=1,
    )
    for case in run_benchmark(load_page(name, report.dry_run), options)["inference"]:
        for model, result in case["results"].items():
            if result["kind"] != "plain" or "optimized" in kinds:
                row = {"model": name, "dtype": model.split()[-1], "batch_size": case["batch_size"]}
                report.found["inference"].append({**row, **result})


def time_steps(report: Report, name: str, dtype: str) -> None:
    """Add a row for a training step, with the largest of batch, batch / 2, batch / 4, ... that memory has room for."""
    cfg, size = load_page(name, report.dry_run), parse_size(setting(report.dry_run, "SIZE"))
    amp_dtype = None if dtype == "float32" else getattr(torch, dtype)
    batch, steps = setting(report.dry_run, "TRAINING_BATCH"), setting(report.dry_run, "STEPS")
    while True:
        try:
            case = time_training(cfg, size, batch, steps, report.device, amp_dtype)
            break
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            batch //= 2
        gc.collect()
        torch.cuda.empty_cache()
    rate = batch / case["step"]["median"]
    row = {"model": name, "dtype": dtype, **case, "images_per_second": rate}
    report.found["steps"].append(row)


def train_page(report: Report) -> None:
    """Train and evaluate the synthetic page, with processes for its images on the other cores."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            f"train.device={report.device}",
            f"train.output_dir={folder}/run",
            f"train.max_iter={ITERATIONS}",
            "train.eval_period=0",
            "train.seed=1",
            f"dataloader.train.num_workers={min(8, usable_cores() - 1)}",
        ]
        if report.dry_run:
            sizes = ("num_train=8", "num_test=4", "image_size=96")
            overrides += [*NARROW, *TINY_HRNET, "train.max_iter=3", f"data.root={folder}/data"]
            overrides += ["dataloader.train.num_workers=0", *(f"data.generate.{s}" for s in sizes)]
        cfg = load_config(SYNTHETIC, overrides)
        instantiate(cfg.data.generate)
        found: dict[str, Any] = {"page": SYNTHETIC}
        report.found["training"] = found
        start = time.monotonic()
        try:
            results = train(cfg)
            found |= {task: {"AP": values["AP"]} for task, values in results.items()}
        finally:  # also if it has no time
            found["seconds"] = round(time.monotonic() - start, 1)
            found |= speed_of(Path(folder) / "run", cfg.dataloader.train.total_batch_size)


def speed_of(folder: Path, batch: int) -> dict[str, Any]:
    """Number of iterations, and medians of seconds and images per second, of a run folder."""
    path = folder / "metrics.json"
    lines = path.read_text().splitlines() if path.is_file() else []
    rows = [row for row in map(json.loads, lines) if "time" in row]
    if not rows:
        return {}
    step, wait = (median(row[name] for row in rows) for name in ("time", "data_time"))
    return {
        "iterations": rows[-1]["iteration"] + 1,
        "images of an iteration": batch,
        "seconds of an iteration": step,
        "seconds of it waiting for data": wait,
        "images/s": batch / step,
    }


def table_of(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    dry, tests, size = found["dry_run"], found["tests"], setting(found["dry_run"], "SIZE")
    facts = (f"{name.replace('_', ' ')} {value}" for name, value in found["machine"].items())
    lines = [f"# {DRY_TITLE if dry else 'On a GPU'}", ""]
    lines += [f"{', '.join(facts)}. {found.get('seconds', 0):.0f} seconds in all."]

    def add(title: str, content: list[str]) -> None:
        if content:
            lines.extend(["", f"## {title}", "", *content])

    if tests:
        counts = (tests["passed"], len(tests["failed"]), len(tests["skipped"]), tests["seconds"])
        content = ["{} passed, {} failed, {} skipped, {:.0f} s".format(*counts)]
        content += [f"* {kind}: {one}" for kind in ("failed", "skipped") for one in tests[kind]]
        add("Tests", content)
    detections = setting(dry, "DETECTIONS")
    add(f"Inference, {size}, {detections} detections", rows_of(found["inference"], "whole"))
    add(f"Training steps, {size}", rows_of(found["steps"], "step"))
    training = (found["training"] or {}).items()
    add("Training of the synthetic page", [f"* {name}: {shown(value)}" for name, value in training])
    reasons = dict.fromkeys(one["reason"] for one in found["missing"])
    cases = {
        reason: [one["case"] for one in found["missing"] if one["reason"] == reason]
        for reason in reasons
    }
    add("Not measured", [f"* {reason}: {'; '.join(names)}" for reason, names in cases.items()])
    return "\n".join(lines) + "\n"


def rows_of(found: list[dict[str, Any]], time_key: str) -> list[str]:
    """A table of models; memory is the peak beyond the weights."""
    names = ["model", *(["kind"] if time_key == "whole" else []), "dtype", "batch_size"]
    head = [*names, "ms, median (min to max)", "images/s", "MiB"]
    rows = [head, ["---"] * len(head)] if found else []
    for row in found:
        memory = "-" if row["memory"] is None else f"{row['memory']:.0f}"
        rate = f"{row['images_per_second']:.1f}"
        rows.append([*(str(row[name]) for name in names), times_text(row[time_key]), rate, memory])
    return [f"| {' | '.join(row).replace('_', ' ')} |" for row in rows]


def shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number:.1f}" for name, number in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
