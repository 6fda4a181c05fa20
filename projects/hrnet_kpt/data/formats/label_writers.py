"""Labels written as annotations that other programs import: a folder with their files and the images."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from ...errors import UserError
from .imported import Imported
from .write import write_images

# Each is a name of --labels, and the module of this folder whose write_labels(labels, output) writes it.
WRITERS = {
    "cvat": "cvat_xml",
    "label-studio": "label_studio",
    "labelme": "labelme",
    "coco": "coco",
    "yolo": "yolo",
}
# These have a file of labels for each image.
FILE_PER_IMAGE = {"labelme": ".json", "yolo": ".txt"}


def write_labels(labels: Imported, output: Path, name: str) -> None:
    """Write labels in a format, and `images/` with links to the images, or copies where links cannot be made.

    Args:
        labels: Its only split is "all". A keypoint with v = 0 may have a position.
        output: The folder.
        name: The format, a key of WRITERS.
    """
    output.mkdir(parents=True, exist_ok=True)
    write_images(labels, labels.splits, output / "images", copy=False)
    import_module(f"{__package__}.{WRITERS[name]}").write_labels(labels, output)


def refuse_names(names: Iterable[str], format_name: str) -> None:
    """Refuse images that a format cannot hold together.

    Args:
        names: Paths of the images, relative to a folder.

    Raises:
        UserError: If two images would have one file of labels, or a name is not UTF-8.
    """
    taken: dict[str, str] = {}
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"--labels {format_name}: the name of {name!r} is not UTF-8: rename it"
            ) from error
        if format_name in FILE_PER_IMAGE:
            file = str(Path(name).with_suffix(FILE_PER_IMAGE[format_name]))
            other = taken.setdefault(file, name)
            if other != name:
                raise UserError(
                    f"--labels {format_name}: {other} and {name} would have the same file of labels, {file}: rename "
                    "one, or give them in two calls"
                )
