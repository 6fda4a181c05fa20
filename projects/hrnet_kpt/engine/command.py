"""What tools/lazyconfig_train_net.py does with its arguments."""

from __future__ import annotations

import copy
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from ..config import check_config, load_config
from ..config.diff import differences, format_differences
from ..config.doctor import settle_and_check
from ..config.doctor.build import build_on_meta
from ..config.doctor.check_run import check_fit, resumable
from ..config.findings import Finding, refuse_errors
from ..config.loading import load_with_changes
from ..config.python_source import highlighted, python_source
from ..errors import UserError
from ..weights.fetching import local_weights
from . import torchrun
from .evaluation import evaluate
from .launching import Processes, given_processes, launch
from .setup import check_data, check_data_files, describe_mirrors, set_up_logging
from .skipped import skipped_file
from .training import train


def run(args: Namespace) -> bool:
    """Train or evaluate, in as many processes as asked for; tell whether images had to be skipped."""
    if torchrun.is_worker():
        _run_under_torchrun(args)
        return False  # torchrun takes a status other than 0 for a failure
    set_up_logging()
    processes = _processes(args)
    cfg, changes = load_with_changes(args.config_file, args.overrides)
    if processes.total > 1:  # here an error is found before processes are started
        training, resume = not args.eval_only, args.resume
        settle_and_check(cfg, training=training, resume=resume, processes=processes.total)
    function = evaluate if args.eval_only else train
    launch(function, (cfg, args.resume, changes), cfg.train.device, processes)
    return skipped_file(cfg).exists()


def _run_under_torchrun(args: Namespace) -> None:
    with torchrun.worker(args) as worker:
        if worker.place.rank == 0:
            set_up_logging()
        cfg, changes = load_with_changes(args.config_file, args.overrides)
        restarted = worker.join(cfg.train.device)
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
