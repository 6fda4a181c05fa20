"""Check a COCO-format keypoint data set: statistics, defects, samples; repair what has only one correction."""

from argparse import Namespace

from .parser import Parser, run_command

TOOL = "tools/check_dataset.py"
EXAMPLES = """
exit status: 0 no errors, perhaps warnings; 2 errors (with --fix: errors that OUT.json still has)

examples:
  %(prog)s --annotations train.json --images train --draw output/samples
  %(prog)s --annotations train.json --images train --fix train_fixed.json
  %(prog)s --annotations cvat.json --images train --fix train_fixed.json --grow-boxes 0.2
  %(prog)s --annotations train.json --images train --test-annotations test.json --test-images test
"""


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    add("--annotations", required=True, metavar="A.json", help="a COCO-format json")
    add("--images", required=True, metavar="DIR", help="the folder of its images")
    add(
        "--test-annotations",
        metavar="B.json",
        help="the test set: checked, and compared with A.json",
    )
    add("--test-images", metavar="DIR", help="the folder of its images (default: --images)")
    add("--skip-opening-images", action="store_true", help="check only the json and the file names")
    values = "of black and white in images of more than 8 bits (default: read from the images)"
    add("--image-range", nargs=2, type=float, metavar=("LOW", "HIGH"), help=values)
    add(
        "--fix",
        metavar="OUT.json",
        help="write A.json with all defects repaired that have only one correction",
    )
    margin = "with --fix: grow boxes that only span their keypoints, by 0.2 of the longer side, say, or 40px"
    add("--grow-boxes", metavar="MARGIN", help=margin)
    add("--draw", metavar="DIR", help="write samples.png: 16 images and their mirror images")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> None:
    from ..data.image_range import parse_range
    from ..dataset_checks.report import check_dataset

    sets = [(args.annotations, args.images)]
    if args.test_annotations:
        sets.append((args.test_annotations, args.test_images or args.images))
    check_dataset(
        sets,
        open_images=not args.skip_opening_images,
        fix=args.fix,
        draw=args.draw,
        grow=args.grow_boxes,
        image_range=parse_range(args.image_range or "auto"),
    )
