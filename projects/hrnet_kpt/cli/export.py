"""Export a trained model to ONNX or torch.export: the file is compared with the model."""

import logging
import sys
from argparse import Namespace

from .parser import Parser, run_command

TOOL = "tools/export_model.py"
EXAMPLES = """
An ONNX file of the detector takes an image of any size, and returns boxes and keypoints in its pixels. With
--preprocessing outside or --postprocessing outside, your program resizes and normalizes the image, or decodes the
heatmaps. docs/deployment.md shows both; hrnet_kpt/inference/onnx_runner.py runs either with onnxruntime alone.

examples:
  %(prog)s --config-file output/demo/config.yaml --weights output/demo/model_final.pth \\
      --format onnx --output people.onnx
  %(prog)s --config-file output/demo/config.yaml --weights output/demo/model_final.pth \\
      --format torch_export --part backbone --output backbone.pt2
"""


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add, place = parser.add_argument, ("inside", "outside")
    add("--config-file", required=True, metavar="FILE", help="a path, or a name in configs/")
    add("--weights", required=True, metavar="CKPT", help="a checkpoint, a path or a URL")
    add("--format", default="onnx", choices=("onnx", "torch_export"))
    add("--output", required=True, metavar="FILE", help="an .onnx or .pt2 file")
    add(
        "--part",
        default="detector",
        type=lambda part: "backbone" if part == "trunk" else part,  # its former name
        choices=("detector", "backbone", "heads"),
        help="part of the model to export",
    )
    add("--preprocessing", default="", choices=place, help="resizing, normalization, padding")
    add("--postprocessing", default="", choices=place, help="decoding heatmaps, rescaling")
    dtypes = "of the layers; int8 needs the training images of the config"
    add("--dtype", default="float32", choices=("float32", "float16", "int8"), help=dtypes)
    add(
        "--masks",
        default="maps",
        choices=("maps", "pasted"),
        help="probabilities in each box, or 0 and 1 in the image",
    )
    add(
        "--batch",
        dest="batched",
        action="store_true",
        help="a detector that takes several images of one size at a time",
    )
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> int:
    from ..config import load_config
    from ..inference import Predictor
    from ..inference.export import ExportError, export_model, training_images

    logging.basicConfig(format="warning: %(message)s")
    cfg = load_config(args.config_file, args.overrides)
    images = training_images(cfg) if args.dtype == "int8" else []
    predictor = Predictor(cfg, args.weights, "cpu")
    names = ("format", "part", "preprocessing", "postprocessing", "dtype", "masks", "batched")
    try:
        options = {name: getattr(args, name) for name in names}
        report = export_model(predictor, args.output, **options, calibration=images)
    except ExportError as error:
        print(error, file=sys.stderr)
        return 1
    print(*report, sep="\n")
    return 0
