"""Benchmark a model: time and memory of inference, plain, optimized and compiled, and of a training step."""

import logging
from argparse import Namespace
from typing import Any

from ..errors import UserError
from .parser import Parser, run_command

TOOL = "tools/benchmark.py"
GRAPHS = "graphs"  # for a GPU
MODELS = ("plain", "optimized", "compiled", GRAPHS)
EXAMPLES = """
Overrides go before the flags. Weights are random. Run nothing else on the machine meanwhile.
docs/performance.md has results; docs/scripts/performance.py compares with other models.

examples:
  %(prog)s --config-file hrnet_w18_kpt.py
  %(prog)s --config-file hrnet_w18_kpt.py --size 480x640 800x1216 --batch-size 1 4 --training ""
  %(prog)s --config-file hrnet_w18_kpt.py --device cuda --dtype float16 bfloat16 --models optimized compiled graphs
  %(prog)s --deploy output/demo
"""


def parser(
    prog: str = TOOL,
    description: str | None = __doc__,
    examples: str = EXAMPLES,
    models: tuple[str, ...] = MODELS,
    deploy: bool = True,
) -> Parser:
    parser = Parser(description, examples, prog)
    add = parser.add_argument
    several: dict[str, Any] = {"nargs": "+", "metavar": "N", "type": int}
    types = ("float32", "bfloat16", "float16")
    page = "a path, or a name in configs/"
    add("--config-file", required=not deploy, metavar="FILE", help=page)
    if deploy:
        what = "instead: compare runtimes and precisions with the model of a run folder, on its test images"
        add("--deploy", metavar="RUN", help=what)
    add("--size", dest="sizes", nargs="+", default=["800x1216"], metavar="HxW", help="of images")
    add("--batch-size", dest="batch_sizes", default=[1], help="images per call", **several)
    add("--detections", default=[10], help="per image", **several)
    what = f"plain is always measured; {GRAPHS}: compiled, with CUDA graphs (default: all others)"
    others = [name for name in models if name != GRAPHS]
    add("--models", nargs="+", default=others, choices=models, help=what)
    add("--dtype", dest="dtypes", nargs="+", default=types[:2], choices=types)
    add("--training", default="512x512", metavar="HxW", help='of a training step; "": none')
    add("--training-batch", type=int, default=2, metavar="N", help="images of a training step")
    add("--repeats", type=int, default=5, metavar="N", help="measurements of each model")
    add("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    add("--output", default="output/benchmark", metavar="FOLDER", help="for the json and the plot")
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> None:
    if bool(args.deploy) == bool(args.config_file):
        raise UserError("give --config-file or --deploy, and not both")
    if args.deploy:
        run_deployment(args)
        return
    from ..analysis.benchmark.report import benchmark_text, write_benchmark
    from ..analysis.benchmark.run import Options, run_benchmark
    from ..config import load_config

    cfg = load_config(args.config_file, args.overrides)
    options = Options(**{name: getattr(args, name) for name in Options.__annotations__})
    found = run_benchmark(cfg, options)
    print(benchmark_text(found), *write_benchmark(found, args.output), sep="\n")


def run_deployment(args: Namespace) -> None:
    from ..analysis.benchmark.deploy import deploy_text, run_deploy, write_deploy

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    found = run_deploy(args.deploy, args.output)
    print(deploy_text(found), *write_deploy(found, args.output), sep="\n")
