"""The json files and image folders of the data for a new config, imported from other layouts where necessary."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ...data.coco import read_json
from ...data.images import find_images
from ...errors import UserError

TEST_SHARE = 0.2  # of the images, where the source has no test set


def find_data(
    data: str,
    test: str | None,
    images: str | None,
    imported: Path,
    report: Callable[[str], object],
) -> dict[str, tuple[str, str]]:
    """The absolute paths of annotations and images, by split: "train" and "test".

    Args:
        data: A folder with train.json and test.json, which is used as it is; or a COCO-format json; or a folder or
            file in another layout, which is imported.
        test: The test set, a COCO-format json, if `data` is a json.
        images: The folder of the images of both; None: where they are found.
        imported: The folder for an imported data set.
        report: Called with lines about the import.

    Raises:
        UserError: If there are no such data.
    """
    source = Path(data)
    if not source.exists():
        raise UserError(f"--data {data}: there is no such file or folder")
    if images is not None and not Path(images).is_dir():
        raise UserError(f"--images {images}: there is no such folder")
    if test is not None and not Path(test).is_file():
        raise UserError(f"--test {test}: there is no such file")
    if test is not None and source.is_dir():
        raise UserError(f"--test {test}: --data {data} is a folder; give the json of its training set")
    pair = (source / "train.json", source / "test.json")
    if source.is_dir() and all(path.is_file() for path in pair):
        files = {"train": pair[0], "test": pair[1]}
    elif test is not None:
        files = {"train": source, "test": Path(test)}
    else:
        files = import_data(source, images, imported, report)
        images = None
    return {
        split: (os.path.abspath(path), os.path.abspath(images or image_folder(path)))
        for split, path in files.items()
    }


def image_folder(annotations: Path) -> Path:
    """The folder in which the images of a json have exactly the names that it gives; else the json's own folder.

    It may be the json's folder, one below it, or one below its parent. Names that match no file in any of them are
    reported by the checks.
    """
    names = [image.get("file_name") for image in read_json(annotations, labelled=False)["images"]]
    for root in (annotations.parent, annotations.parent.parent):
        found = find_images(names, str(root))
        if not names or None in found.paths:
            continue
        if not found.respelled:
            return root
        folders = {
            Path(path[: -len(name)]) if path.endswith(f"/{name}") else root
            for name, path in zip(names, found.paths, strict=True)
            if path
        }
        return folders.pop() if len(folders) == 1 else root
    return annotations.parent


def import_data(
    source: Path, images: str | None, output: Path, report: Callable[[str], object]
) -> dict[str, Path]:
    """Import a data set in another layout, or without a test set, into a folder with train.json and test.json."""
    raise UserError(
        f"--data {source}: there are no train.json and test.json in it: give the json of the training set, and --test"
    )
