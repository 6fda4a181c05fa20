"""Replay a training step that diverged: it reports the module whose values become Inf or NaN."""

from argparse import Namespace

from .parser import Parser, run_command

TOOL = "tools/replay.py"
EXAMPLES = """
exit status: 0 the step diverges again; 1 it does not, for instance on another device; 2 invalid input

examples:
  %(prog)s --input output/w18/diverged_0000123.pth
  %(prog)s --input output/w18/diverged_0000123.pth --device cuda
"""


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    add("--input", required=True, metavar="FILE", help="a diverged_*.pth of a run folder")
    add(
        "--device",
        default="cpu",
        metavar="NAME",
        help="cpu, cuda, cuda:1, mps (default: %(default)s)",
    )
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> int:
    from ..engine.divergence.reproducer import replay

    recorded, diagnosis = replay(args.input, args.device)
    print(f"As recorded in training:\n\n{recorded}\n")
    print(f"On {args.device} now: {diagnosis.what}")
    if not diagnosis.diverged:
        return 1
    print(*diagnosis.lines(), sep="\n")
    return 0
