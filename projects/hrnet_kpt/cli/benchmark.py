"""Measure what a model costs in time and memory: plain, optimised and compiled, in turns in one process."""

from argparse import Namespace
from typing import Any

from .parser import Parser, run_command

TOOL = "tools/benchmark.py"
EXAMPLES = """
Overrides come first. Weights are random. Leave the machine alone while it measures.
docs/performance.md tells what was found; docs/scripts/performance.py measures other models beside.

examples:
  %(prog)s --config-file hrnet_w18_kpt.py
  %(prog)s --config-file hrnet_w18_kpt.py --size 480x640 800x1216 --batch-size 1 4 --training ""
  %(prog)s --config-file hrnet_w18_kpt.py --device cuda --dtype float32 float16 bfloat16
"""


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    several: dict[str, Any] = {"nargs": "+", "metavar": "N", "type": int}
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
    add("--output", default="output/benchmark", metavar="FOLDER", help="for the json and the plot")
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> None:
    from ..analysis.benchmark.report import benchmark_text, write_benchmark
    from ..analysis.benchmark.run import Options, run_benchmark
    from ..config import load_config

    options = vars(args)
    cfg = load_config(options.pop("config_file"), options.pop("overrides"))
    output = options.pop("output")
    del options["debug"]
    found = run_benchmark(cfg, Options(**options))
    print(benchmark_text(found), *write_benchmark(found, output), sep="\n")
