"""Train or evaluate a model from a LazyConfig file, or look at the config."""

from argparse import Namespace

from .parser import SKIPPED_SOME, Parser, run_command

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
    add("--resume", action="store_true", help="go on from the run folder's last checkpoint")
    add("--eval-only", action="store_true", help="evaluate, do not train")
    add("--num-gpus", type=int, metavar="N", help="processes, each with a GPU if there is one (1)")
    add("--num-machines", type=int, metavar="N", help="machines, each of which runs this (1)")
    add("--machine-rank", type=int, metavar="N", help="number of this machine, from 0 (0)")
    add("--dist-url", default="auto", metavar="URL", help="tcp://HOST:PORT of machine 0")
    look = parser.add_mutually_exclusive_group().add_argument
    look("--check", action="store_true", help="say what is wrong with the config, do not run")
    look("--print-config", action="store_true", help="print the config as Python, do not run")
    look("--diff", metavar="FILE", help="print what the config changes in another, do not run")
    add("overrides", nargs="*", metavar="key=value", help="replace; +key=value adds, ~key deletes")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> int:
    from ..engine import command

    if args.print_config:
        command.print_config(args.config_file, args.overrides)
    elif args.diff:
        command.print_differences(args.diff, args.config_file, args.overrides)
    elif args.check:
        command.check(args)
    elif command.run(args):
        return SKIPPED_SOME
    return 0
