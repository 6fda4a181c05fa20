"""Predict keypoints in images and videos: draw them, write them as json, or both."""

import logging
from argparse import Namespace
from datetime import timedelta

from .parser import SKIPPED_SOME, Parser, run_command

TOOL = "tools/predict.py"
EXAMPLES = """
The same command resumes an interrupted prediction; a complete .json is kept. See docs/prediction.md.
Live video cannot be resumed: Ctrl-C, or q in the window of --show, ends it with whole files. See docs/video.md.
Under torchrun, each process predicts its share of the inputs: see docs/prediction.md.
exit status: 0 done; 2 invalid input; 3 done, but some inputs could not be read; 130, 143 stopped by a signal

examples:
  %(prog)s --run output/demo --input photos --output output/images
  %(prog)s --config-file hrnet_w18_kpt.py --weights w18.pth --input "*.jpg" clip.mp4 --json found.jsonl
  %(prog)s --run output/demo --input clip.mp4 --track --smooth --output output/clips --json found.jsonl
  %(prog)s --run output/demo --input rtsp://192.168.0.20/stream1 --show --json found.jsonl
  %(prog)s --run output/demo --input val2017 --json results.json --annotations val2017.json
  %(prog)s --run output/demo --input photos --labels cvat --output output/labels
"""

LABELS = "cvat", "label-studio", "labelme", "coco", "yolo"
WAITING = timedelta(days=30)  # of a process for those with longer videos


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="a path, or a name in configs/")
    add("--weights", default="", metavar="FILE", help="a checkpoint of the whole model")
    add("--run", default="", metavar="FOLDER", help="a run; replaces --config-file and --weights")
    inputs = "images, videos, folders with their subfolders, patterns, @FILE with a list of paths"
    inputs += (
        "; or live video: rtsp://..., http://..., tcp://..., udp://..., /dev/video0, a pipe, -"
    )
    add("--input", dest="inputs", required=True, nargs="+", metavar="PATH", help=inputs)
    add("--output", default="", metavar="FOLDER", help="for images and videos, named as the inputs")
    formats = ".json: COCO's results; .jsonl: a line for each image or frame"
    add("--json", default="", metavar="FILE", help=formats)
    ids = "COCO-format json that has the ids of images and classes for --json FILE.json"
    add("--annotations", default="", metavar="FILE", help=ids)
    lowest = "min score (default: 0.5 in images; in json the config's test_score_thresh)"
    add("--score-thresh", dest="threshold", type=float, metavar="S", help=lowest)
    kinds = "write labels to be corrected into --output, see docs/labelling.md"
    add("--labels", default="", choices=LABELS, help=kinds)
    lowest = "with --labels: min confidence of keypoints with v = 2 (default: %(default)s)"
    add("--visible", type=float, default=0.7, metavar="C", help=lowest)
    lowest = "with --labels: min confidence of keypoints with v = 1 (default: %(default)s)"
    add("--hidden", type=float, default=0.3, metavar="C", help=lowest)
    add("--track", action="store_true", help="videos: an id for each object (needs trackers)")
    add("--smooth", action="store_true", help="with --track: keypoints without jitter")
    add("--show", action="store_true", help="a window with the images; q closes it")
    again = "live: how long to try to connect again (default: 60; 0: the stream ends)"
    add("--reconnect", dest="patience", type=float, metavar="SECONDS", help=again)
    add("--batch-size", type=int, metavar="N", help="(default: 1 on a CPU, 4 on a GPU)")
    add("--device", default="", help="cuda, mps, cpu (default: the config's)")
    add("--restart", action="store_true", help="overwrite existing outputs")
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> int:
    from ..data.formats.recognize import annotation_file
    from ..engine.distributed.worker import is_worker, worker
    from ..inference.predict.app import predict

    args.annotations = annotation_file(args.annotations, "test", "all")
    logging.basicConfig(format="warning: %(message)s")
    if not is_worker():
        return SKIPPED_SOME if predict(args) else 0
    with worker() as this:
        this.join(args.device or "cuda", WAITING)
        predict(args)
    return 0  # torchrun would report another status as the failure of a process
