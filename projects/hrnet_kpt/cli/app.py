"""Show a page in the browser that finds keypoints in images and videos."""

import logging
from argparse import Namespace

from .parser import Parser, run_command

TOOL = "tools/app.py"
EXAMPLES = """
Drop an image or a video on the page, or use the webcam. Nobody else can reach the page unless --host is given.
Uploads are in a temporary folder, and deleted after an hour and at the end. See docs/app.md.
exit status: 2 invalid input; 130, 143 stopped by a signal (Ctrl-C)

examples:
  %(prog)s --run output/demo
  %(prog)s --run output/demo --host 0.0.0.0 --port 8000
"""


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    add("--run", required=True, metavar="FOLDER", help="a run folder")
    add(
        "--host",
        default="127.0.0.1",
        metavar="H",
        help="address to listen on (default: this machine only)",
    )
    add("--port", type=int, metavar="P", help="(default: the first free one from 7860 on)")
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> None:
    from ..inference.page.server import serve

    logging.basicConfig(format="warning: %(message)s")
    serve(args)
