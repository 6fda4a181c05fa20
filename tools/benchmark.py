#!/usr/bin/env python
"""Measure what a model costs in time and memory: plain, optimised and compiled, in turns in one process."""

import sys

from hrnet_kpt.command_line import Parser, run_tool

EXAMPLES = """
Overrides come first. Weights are random. Leave the machine alone while it measures.
docs/performance.md tells what was found; docs/scripts/performance.py measures other models beside.

examples:
  tools/benchmark.py --config-file configs/hrnet_w18_kpt.py
  tools/benchmark.py --config-file configs/hrnet_w18_kpt.py --size 480x640 800x1216 --batch-size 1 4 --training ""
  tools/benchmark.py --config-file configs/hrnet_w18_kpt.py --device cuda --dtype float32 float16 bfloat16
"""


def parser() -> Parser:
    parser = Parser(__doc__, EXAMPLES)
    add, several = parser.add_argument, {"nargs": "+", "metavar": "N", "type": int}
    models = ("plain", "optimized", "compiled")
    types = ("float32", "bfloat16", "float16")
    add("--config-file", required=True, metavar="FILE", help="a path, or a name in configs/")
    add("--size", dest="sizes", nargs="+", default=["800x1216"], metavar="HxW", help="of images")
    add("--batch-size", dest="batch_sizes", default=[1], help="images at a time", **several)
    add("--detections", default=[10], help="in an image", **several)
    add("--models", nargs="+", default=models, choices=models, help="plain is measured always")
    add("--dtype", dest="dtypes", nargs="+", default=types[:2], choices=types)
    add("--training", default="512x512", metavar="HxW", help='of a step; "": none')
    add("--training-batch", type=int, default=2, metavar="N", help="images of a step")
    add("--repeats", type=int, default=5, metavar="N", help="measurements of each")
    add("--device", default="cpu", help="cpu, cuda (default: cpu)")
    add("--output", default="output/benchmark", metavar="FOLDER", help="for json and picture")
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = vars(parser().parse_intermixed_args(argv))
    debug = args.pop("debug")

    def work() -> None:
        from hrnet_kpt.analysis.benchmark.report import benchmark_text, write_benchmark
        from hrnet_kpt.analysis.benchmark.run import Options, run_benchmark
        from hrnet_kpt.config import load_config

        cfg = load_config(args.pop("config_file"), args.pop("overrides"))
        output = args.pop("output")
        found = run_benchmark(cfg, Options(**args))
        print(benchmark_text(found), *write_benchmark(found, output), sep="\n")

    return run_tool(work, debug)


if __name__ == "__main__":
    sys.exit(main())
