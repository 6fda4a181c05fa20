"""Import a data set of any usual layout: COCO, Roboflow, YOLO, CVAT, DeepLabCut, SLEAP, Label Studio, labelme."""

from argparse import Namespace

from .parser import Parser, run_command

TOOL = "tools/import_data.py"
EXAMPLES = """
writes DIR/train.json, DIR/test.json and DIR/images. The split of the source is kept; one without a split becomes
DIR/all.json, or is split with --test-share. Train with configs/own.py data.root=DIR.

examples:
  %(prog)s --input cats.v3i.coco --output datasets/cats
  %(prog)s --input cats/photographs --output datasets/cats --test-share 0.2
  %(prog)s --input cats/project --output datasets/cats --format deeplabcut --test-share 0.2 --series folder
"""


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    add("--input", required=True, metavar="PATH", help="the folder of the data set, or its json")
    add("--output", required=True, metavar="DIR", help="the folder to write, new or empty")
    formats = "coco, roboflow, yolo, cvat, cvat-xml, deeplabcut, sleap, label-studio, labelme (default: recognized)"
    add("--format", metavar="NAME", help=formats)
    share = "fraction of the images for the test set, if the source has no split"
    add("--test-share", type=float, metavar="S", help=share)
    series = (
        "with --test-share: images that stay together: `folder`; `image`: none; a character: names that are equal up "
        "to the first one (default: folders, else names that are equal up to the number at their end)"
    )
    add("--series", default="", metavar="NAME", help=series)
    add("--copy", action="store_true", help="copy the images instead of linking them")
    names = "labels of points that are keypoints, in order, where the format has only points"
    add("--keypoints", nargs="+", default=(), metavar="NAME", help=names)
    add("--ignore", nargs="+", default=(), metavar="NAME", help="labels of points to leave out")
    margin = "grow boxes that are only the extent of their keypoints, by 0.2 of the longer side, say, or 40px"
    add("--grow-boxes", default="", metavar="MARGIN", help=margin)
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> None:
    import shlex
    from pathlib import Path

    from ..data.formats.imported import Options
    from ..data.formats.recognize import read_source
    from ..data.formats.split import make_splits
    from ..data.formats.write import write

    source, output = Path(args.input), Path(args.output)
    options = Options(args.keypoints, args.ignore, args.grow_boxes)
    imported = read_source(source, output, args.format, options, print)
    splits, remarks = make_splits(imported.splits, args.test_share, args.series)
    print(*write(imported, splits, output, source, remarks, args.copy), sep="\n")
    folder = shlex.quote(str(output))
    if "all" in splits:
        print("next: the same command with --test-share 0.2, for a training and a test set")
        return
    print(f"next: hrnet-kpt check-data --annotations {folder} --draw {folder}_samples")
    config = shlex.quote(f"{output.resolve().name}.py")
    print(f"      hrnet-kpt new-config --data {folder} --minutes 30 --output {config}")
