"""The json files and image folders of the data for a new config, imported from other layouts where necessary."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ...data.coco import read_json
from ...data.formats.imported import Options
from ...data.formats.recognize import read_source
from ...data.formats.split import make_splits
from ...data.formats.write import write
from ...data.images import find_images
from ...errors import UserError

TEST_SHARE = 0.2  # of the images, where the source has no test set


def find_data(
    data: str,
    test: str | None,
    images: str | None,
    format_name: str | None,
    imported: Path,
    report: Callable[[str], object],
) -> dict[str, tuple[str, str]]:
    """The absolute paths of annotations and images, by split: "train" and "test".

    Args:
        data: A folder with train.json and test.json, which is used as it is; or a COCO-format json; or a folder or
            file in another layout, which is imported.
        test: The test set, a COCO-format json, if `data` is a json.
        images: The folder of the images of both; None: where they are found.
        format_name: The layout, as of tools/import_data.py; None: recognized.
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
        raise UserError(
            f"--test {test}: --data {data} is a folder; give the json of its training set"
        )
    pair = (source / "train.json", source / "test.json")
    if format_name is None and all(path.is_file() for path in pair):
        files = {"train": pair[0], "test": pair[1]}
    elif test is not None:
        files = {"train": source, "test": Path(test)}
    elif images is not None:
        raise UserError(
            f"--images {images} is for jsons: give --data TRAIN.json and --test TEST.json"
        )
    else:
        files = import_data(source, format_name, imported, report)
    return {
        split: (os.path.abspath(path), os.path.abspath(images or image_folder(path)))
        for split, path in files.items()
    }


def image_folder(annotations: Path) -> Path:
    """The folder in which the images of a json have the names that it gives; else the json's own folder.

    Tried are the json's folder, its folders `images` and that with the name of the json, and the same of its parent;
    then all folders below the json's one. Images that are in none are reported by the checks.
    """
    names = [image.get("file_name") for image in read_json(annotations, labelled=False)["images"]]
    for root in (annotations.parent, annotations.parent.parent):
        for folder in (
            root,
            root / annotations.stem,
            root / "images" / annotations.stem,
            root / "images",
        ):
            if all(isinstance(name, str) and (folder / name).is_file() for name in names):
                return folder
    paths = find_images(names, str(annotations.parent)).paths
    folders = {
        path[: -len(name)] if path is not None and path.endswith(f"/{name}") else ""
        for name, path in zip(names, paths, strict=True)
    }
    # A folder of its own, or the search finds them again.
    return Path(*folders) if len(folders) == 1 and "" not in folders else annotations.parent


def import_data(
    source: Path, format_name: str | None, output: Path, report: Callable[[str], object]
) -> dict[str, Path]:
    """Import a data set into a folder with train.json, test.json and images; a source without splits is split."""
    imported = read_source(source, output, format_name, Options(), report)
    share = TEST_SHARE if len(imported.splits) == 1 else None
    splits, remarks = make_splits(imported.splits, share)
    for line in write(imported, splits, output, source, remarks):
        report(line)
    return {split: output / f"{split}.json" for split in ("train", "test")}
