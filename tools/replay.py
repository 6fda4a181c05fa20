#!/usr/bin/env python
"""Replay a training step that diverged, and say where its numbers become Inf or NaN."""

import sys

from hrnet_kpt.command_line import Parser, run_tool

EXAMPLES = """
The exit status is 0 where the step diverges again, and 1 where it does not, on another device for instance.

examples:
  tools/replay.py --input output/w18/diverged_0000123.pth
  tools/replay.py --input output/w18/diverged_0000123.pth --device cuda
"""


def parser() -> Parser:
    parser = Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--input", required=True, metavar="FILE", help="a diverged_*.pth of a run folder")
    add("--device", default="cpu", metavar="NAME", help="cpu, cuda, cuda:1 (default: %(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)

    def work() -> int:
        from hrnet_kpt.engine.divergence.reproducer import replay

        recorded, diagnosis = replay(args.input, args.device)
        print(f"As it was written down:\n\n{recorded}\n")
        if not diagnosis.diverged:
            print(f"On {args.device} now: {diagnosis.what}")
            return 1
        print(f"On {args.device} now: {diagnosis.what}", *diagnosis.lines(), sep="\n")
        return 0

    return run_tool(work, args.debug)


if __name__ == "__main__":
    sys.exit(main())
