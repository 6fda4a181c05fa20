"""Train or evaluate the model of a config, or check, print or compare the config."""

from __future__ import annotations

import logging
import os
import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from .parser import SKIPPED_SOME, Parser, run_command, run_tool

if TYPE_CHECKING:
    from ..engine.distributed.launch import Processes

TOOL = "tools/lazyconfig_train_net.py"
EXAMPLES = """
examples:
  %(prog)s --config-file hrnet_w18_kpt.py \\
      dataloader.train.total_batch_size=4 train.reference_batch_size=16 train.output_dir=output/w18
  %(prog)s --config-file hrnet_w18_kpt.py --check model.backbone.out_channels=128
  %(prog)s --config-file hrnet_w18_kpt.py --eval-only \\
      train.init_checkpoint=output/w18/model_final.pth
"""


def parser(prog: str = TOOL, description: str | None = __doc__, examples: str = EXAMPLES) -> Parser:
    parser = Parser(description, examples, prog)
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="a path, or a name in configs/")
    add("--resume", action="store_true", help="continue from the run folder's last checkpoint")
    add("--eval-only", action="store_true", help="evaluate, do not train")
    add("--num-gpus", type=int, metavar="N", help="processes on this machine, one for each GPU (1)")
    add("--num-machines", type=int, metavar="N", help="machines; each runs this command (1)")
    add("--machine-rank", type=int, metavar="N", help="index of this machine, from 0 (0)")
    add("--dist-url", default="auto", metavar="URL", help="tcp://HOST:PORT of machine 0")
    look = parser.add_mutually_exclusive_group().add_argument
    look("--check", action="store_true", help="check the config and its data, do not run")
    look("--print-config", action="store_true", help="print the config as Python, do not run")
    look("--diff", metavar="FILE", help="print the differences from another config, do not run")
    add("overrides", nargs="*", metavar="key=value", help="override; +key=value adds, ~key deletes")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> int:
    from ..engine.distributed.worker import is_worker

    # Warnings go to stderr, so that stdout can be redirected to a file.
    if args.print_config or args.diff:
        logging.basicConfig(format="warning: %(message)s", level=logging.WARNING)
    if args.print_config:
        _print_config(args)
    elif args.diff:
        _print_differences(args)
    elif args.check:
        _check(args)
    elif is_worker():
        _run_as_worker(args)  # torch's elastic agent treats a status other than 0 as a failure
    elif _train_or_evaluate(args):
        return SKIPPED_SOME
    return 0


def run_in_worker(args: Namespace) -> int:
    """Run the command in a process that `launch` started."""
    return run_tool(lambda: run(args), args.debug)


def _train_or_evaluate(args: Namespace) -> bool:
    """Train or evaluate in one process or several; return whether images were skipped."""
    from ..config.load import load_with_changes
    from ..engine import evaluate, train
    from ..engine.distributed.launch import launch
    from ..engine.distributed.worker import choose_backend
    from ..engine.setup import set_up_logging, skipped_file

    processes = _processes(args)
    if processes.total == 1:
        set_up_logging()
    else:
        logging.getLogger().addHandler(logging.NullHandler())  # process 0 loads and logs it again
    cfg, changes = load_with_changes(args.config_file, args.overrides)
    if processes.total == 1:
        (evaluate if args.eval_only else train)(cfg, args.resume, changes)
    else:
        choose_backend(cfg.train.device, processes.per_machine, "--num-gpus")
        launch(processes, run_in_worker, args)
    return skipped_file(cfg).exists()


def _run_as_worker(args: Namespace) -> None:
    from ..config.load import load_with_changes
    from ..engine import evaluate, train
    from ..engine.distributed.worker import worker
    from ..engine.setup import set_up_logging

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
    from ..engine.distributed.launch import processes_from_flags

    return processes_from_flags(args.num_gpus, args.num_machines, args.machine_rank, args.dist_url)


def _check(args: Namespace) -> None:
    """Print the warnings of the config check; raise UserError with its errors.

    Annotations are read, images must exist and are not opened, and public weights are downloaded.
    """
    from ..config.load import load_with_changes
    from ..engine.prepare import prepare_run
    from ..engine.setup import describe_mirrors, set_up_logging
    from ..io import parse_once

    set_up_logging()
    cfg, _ = load_with_changes(args.config_file, args.overrides)
    with parse_once():
        run = prepare_run(
            cfg,
            training=not args.eval_only,
            resume=args.resume,
            processes=_processes(args).total,
            check_only=True,
            report=lambda warning: print(f"warning: {warning}"),
        )
    if not args.eval_only:
        print(describe_mirrors(run.cfg))
    count = len(run.warnings)
    print(f"{args.config_file}: no errors, {count or 'no'} warning{'s' * (count != 1)}")


def _print_config(args: Namespace) -> None:
    """Print the config as Python that can be loaded again, highlighted on a terminal."""
    from ..config import load_config
    from ..config.python_source import highlighted, python_source

    source = python_source(load_config(args.config_file, args.overrides))
    in_colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(highlighted(source) if in_colours else source, end="")


def _print_differences(args: Namespace) -> None:
    """Print the differences from the config of `--diff`, a line each."""
    from ..config import load_config
    from ..config.diff import differences, format_differences

    changed = load_config(args.config_file, args.overrides)
    print(format_differences(differences(load_config(args.diff), changed)))
