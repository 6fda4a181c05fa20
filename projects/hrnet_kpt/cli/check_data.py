"""Check a COCO-format keypoint data set: statistics, defects, samples; repair what has only one correction."""

from argparse import Namespace

from .parser import Parser, run_command

TOOL = "tools/check_dataset.py"
EXAMPLES = """
exit status: 0 no errors, perhaps warnings; 2 errors (with --fix: errors that OUT.json still has)

examples:
  %(prog)s --annotations datasets/cats --draw output/samples
  %(prog)s --annotations train.json --images train --draw output/samples
  %(prog)s --annotations train.json --images train --fix train_fixed.json
  %(prog)s --annotations cvat.json --images train --fix train_fixed.json --grow-boxes 0.2
  %(prog)s --annotations train.json --images train --test-annotations test.json --test-images test
"""


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    annotations = "a COCO-format json, or an imported folder: train.json, test.json and images"
    add("--annotations", required=True, metavar="A.json", help=annotations)
    add("--images", metavar="DIR", help="the folder of its images (default: that of --annotations)")
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

    check_dataset(
        _sets(args),
        open_images=not args.skip_opening_images,
        fix=args.fix,
        draw=args.draw,
        grow=args.grow_boxes,
        image_range=parse_range(args.image_range or "auto"),
    )


def _sets(args: Namespace) -> list[tuple[str, str]]:
    """Json and image folder of the training set, and of the test set if there is one."""
    import os

    from ..data.formats.recognize import annotation_file
    from ..errors import UserError

    folder = args.annotations
    is_folder = os.path.isdir(folder)
    if not is_folder and not args.images:
        raise UserError(f"--images is missing: the folder of the images of {folder}")
    images = args.images or folder
    sets = [(annotation_file(folder, "train", "all"), images)]
    test = args.test_annotations
    if is_folder and not test and os.path.isfile(os.path.join(folder, "test.json")):
        test = annotation_file(folder, "test")
    if test:
        sets.append((test, args.test_images or images))
    return sets
