"""What tools/lazyconfig_train_net.py does with its arguments."""

from __future__ import annotations

import copy
import logging
import os
import runpy
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from ..config import check_config, load_config
from ..config.differences import differences, format_differences
from ..config.doctor.build import build_on_meta
from ..config.doctor.check_fit import check_fit
from ..config.doctor.check_run import resumable
from ..config.findings import Finding, refuse_errors
from ..config.loading import load_with_changes
from ..config.python_source import highlighted, python_source
from ..errors import UserError
from ..weights.fetching import local_weights
from .distributed.launch import Processes, given_processes, launch
from .distributed.worker import choose_backend, is_worker, worker
from .evaluation import evaluate
from .setup import check_data, check_data_files, describe_mirrors, set_up_logging
from .skipped import skipped_file
from .training import train


def run(args: Namespace) -> bool:
    """Train or evaluate, in as many processes as asked for; tell whether images had to be skipped."""
    if is_worker():
        _run_as_worker(args)
        return False  # an elastic agent takes a status other than 0 for a failure
    processes = _processes(args)
    if processes.total == 1:
        set_up_logging()
    else:
        logging.getLogger().addHandler(logging.NullHandler())  # process 0 logs what is read here
    cfg, changes = load_with_changes(args.config_file, args.overrides)
    if processes.total == 1:
        (evaluate if args.eval_only else train)(cfg, args.resume, changes)
    else:
        choose_backend(cfg.train.device, processes.per_machine, "--num-gpus")
        launch(processes, _run_tool_again)
    return skipped_file(cfg).exists()


def _run_tool_again() -> int:
    """Run the tool of this command line in this process; return its exit status."""
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            raise
        return end.code or 0
    return 0


def _run_as_worker(args: Namespace) -> None:
    with worker(args) as this:
        if this.rank == 0:
            set_up_logging()
        cfg, changes = load_with_changes(args.config_file, args.overrides)
        restarted = this.join(cfg.train.device)
        if args.eval_only:
            evaluate(cfg, args.resume, changes)
        else:
            train(cfg, args.resume or restarted, changes)


def _processes(args: Namespace) -> Processes:
    return given_processes(args.num_gpus, args.num_machines, args.machine_rank, args.dist_url)


def check(args: Namespace) -> None:
    """Print what is odd about a config and its data, and the files that are not there; raise UserError with errors.

    Annotations are read, images are looked for and not opened. Where they are there, weights that the run would fetch
    are fetched now.
    """
    set_up_logging()
    cfg = load_config(args.config_file, args.overrides)
    findings = check_config(
        cfg,
        training=not args.eval_only,
        resume=args.resume,
        processes=_processes(args).total,
    )
    warnings = [str(finding) for finding in findings if finding.level == "warning"]
    if not any(finding.level == "error" for finding in findings):
        splits = ("test",) if args.eval_only else ("train", "test")
        try:
            check_data_files(cfg, *splits)
        except UserError as missing:
            warnings += str(missing).splitlines()
        else:
            warnings += check_data(cfg, *splits)
            try:
                findings += _check_fetched_weights(cfg, args)
            except UserError as unreachable:
                warnings.append(str(unreachable))
    for warning in warnings:
        print(f"warning: {warning}")
    refuse_errors(findings)
    if not args.eval_only:
        print(describe_mirrors(cfg))
    print(f"{args.config_file}: no errors, {len(warnings) or 'no'} warnings")


def _check_fetched_weights(cfg: DictConfig, args: Namespace) -> list[Finding]:
    """Fetch weights that the run would fetch, and compare them with the model; raise UserError where that fails."""
    location = cfg.train.init_checkpoint
    if not location or Path(location).is_file() or (args.resume and resumable(cfg)):
        return []
    fetched = copy.deepcopy(cfg)
    fetched.train.init_checkpoint = str(local_weights(location))
    model, _ = build_on_meta(cfg)
    assert model is not None  # else there were errors before
    return [*check_fit(fetched, model, training=not args.eval_only)]


def print_config(name: str, overrides: Sequence[str]) -> None:
    """Print a config as Python that loads again, in colours on a terminal."""
    _warn_on_standard_error()
    source = python_source(load_config(name, overrides))
    in_colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(highlighted(source) if in_colours else source, end="")


def print_differences(base: str, name: str, overrides: Sequence[str]) -> None:
    """Print, a line each, what the config `name` with its overrides changes in the config `base`."""
    _warn_on_standard_error()
    print(format_differences(differences(load_config(base), load_config(name, overrides))))


def _warn_on_standard_error() -> None:
    """Keep standard output for what was asked for, so that it can go into a file."""
    logging.basicConfig(format="warning: %(message)s", level=logging.WARNING)
