"""DeepLabCut projects: config.yaml, and labels and images in labeled-data/VIDEO."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ...errors import UserError, join_names
from .deeplabcut_labels import Labels, read_labels
from .imported import Imported, Options
from .keypoint_objects import choose_keypoints, set_boxes

NAME = "deeplabcut"
TITLE = "DeepLabCut project"
CONFIG = "config.yaml"
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
ANIMAL, UNIQUE = "animal", "unique"


@dataclass(frozen=True)
class Project:
    """What config.yaml says about labels.

    Attributes:
        scorer: Whose labels are used where several people labelled an image.
        keypoints: Names by category: ANIMAL, and UNIQUE for the bodyparts that are there once in an image.
        bones: Pairs of names.
    """

    scorer: str
    keypoints: dict[str, list[str]]
    bones: list[tuple[str, str]]


def recognize(path: Path) -> str:
    """What tells that the path is a DeepLabCut project or its config.yaml; "" if it is something else."""
    try:
        file = path / CONFIG if path.is_dir() else path
        if file.suffix not in (".yaml", ".yml"):
            return ""
        with file.open("rb") as stream:
            head = stream.read(100_000)
    except (OSError, ValueError):
        return ""
    if all(re.search(rb"^%b\s*:" % key, head, re.M) for key in (b"scorer", b"bodyparts")):
        return f"{file.name} with scorer and bodyparts"
    return ""


def read(path: Path, options: Options) -> Imported:
    """Read a project folder, or its config.yaml. Images of a video are in one folder; there are no splits.

    Coordinates are taken as they are: labels are set in matplotlib or napari, where the center of the first pixel is
    0, 0 (imshow's default extent; https://github.com/napari/napari/issues/310), as for COCO's keypoints. They are
    rounded to 0.01 pixels. An individual is an object, and so are the unique bodyparts of an image. An image whose row
    is empty stays, as an image without objects.

    Raises:
        UserError: If a file is missing or malformed; with its name and line.
    """
    file = path / CONFIG if path.is_dir() else path
    project = _read_config(file)
    data = Imported(file.parent)
    _add_categories(data, project, choose_keypoints(project.keypoints, options, str(file)))
    folders = _video_folders(file.parent)
    done: set[Path] = set()
    for folder in folders:
        for labels in _label_files(folder, project.scorer):
            _read_labels(data, labels, project, done, file)
    images = {
        path for folder in folders for path in folder.iterdir() if path.suffix.lower() in IMAGES
    }
    if images - done:
        data.left_out["images in labeled-data without a row of labels"] = len(images - done)
    if not data.files:
        reasons = "; ".join(f"{what}: {count}" for what, count in data.left_out.items())
        raise UserError(
            f"{file.parent / 'labeled-data'}: no image with a row in a CollectedData file"
            + (f" ({reasons})" if reasons else "")
        )
    set_boxes(data, options)
    return data


# ------------------------------------------------------------------------------- config.yaml


def _read_config(file: Path) -> Project:
    try:
        # BaseLoader leaves every scalar a string: bodyparts may be called 1, on or no.
        config = yaml.load(file.read_bytes().decode("utf-8-sig"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        raise UserError(f"{file}{line}: not valid YAML: {problem}") from error
    if not isinstance(config, dict):
        raise UserError(f"{file}: no keys such as bodyparts: not the config.yaml of a project")
    if str(config.get("multianimalproject", "")).lower() in ("true", "yes", "on"):
        keys = {ANIMAL: "multianimalbodyparts", UNIQUE: "uniquebodyparts"}
    else:
        keys = {ANIMAL: "bodyparts"}
    keypoints = {category: _names(config, key, file) for category, key in keys.items()}
    names = [name for part in keypoints.values() for name in part]
    if not names:
        raise UserError(f"{file}: {' and '.join(keys.values())}: no names of bodyparts")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(
            f"{file}: {' and '.join(keys.values())}: twice the name {join_names(repeated)}"
        )
    bones: list[tuple[str, str]] = []
    for chain in _list(config, "skeleton", file):
        if not isinstance(chain, list) or not all(isinstance(name, str) for name in chain):
            raise UserError(f"{file}: skeleton: {str(chain)[:60]} is not a list of bodyparts")
        bones += pairwise(chain)
    return Project(str(config.get("scorer", "")), keypoints, bones)


def _list(config: dict[str, Any], key: str, file: Path) -> list[Any]:
    value = config.get(key) or []
    if not isinstance(value, list):
        raise UserError(f"{file}: {key} is {str(value)[:60]!r}, not a list")
    return value


def _names(config: dict[str, Any], key: str, file: Path) -> list[str]:
    names = _list(config, key, file)
    for name in names:
        if not isinstance(name, str) or not name:
            raise UserError(f"{file}: {key}: {str(name)[:60]!r} is not a name")
    return names


def _add_categories(data: Imported, project: Project, keypoints: dict[str, list[str]]) -> None:
    used = set()
    for id_, (name, names) in enumerate(keypoints.items(), 1):
        skeleton = []
        for bone in project.bones:
            if set(bone) <= set(names):
                used.add(bone)
                skeleton.append([names.index(end) + 1 for end in bone])
        data.categories.append({"id": id_, "name": name, "keypoints": names, "skeleton": skeleton})
    unused = sum(bone not in used for bone in project.bones)
    if unused:
        data.left_out["lines of the skeleton between bodyparts that are not there"] = unused


# ------------------------------------------------------------------------------ labeled-data


def _video_folders(root: Path) -> list[Path]:
    try:
        folders = sorted(folder for folder in (root / "labeled-data").iterdir() if folder.is_dir())
    except OSError as error:
        raise UserError(
            f"{root / 'labeled-data'} cannot be read: {error.strerror}; labels and images of a project are there"
        ) from error
    # check_labels draws the labels into copies of the images.
    return [folder for folder in folders if not folder.name.endswith("_labeled")]


def _label_files(folder: Path, scorer: str) -> list[Path]:
    """One file of each scorer, the csv rather than the h5; that of the given scorer first."""
    files = {path.stem: path for path in sorted(folder.glob("CollectedData_*.h5"))}
    files.update({path.stem: path for path in folder.glob("CollectedData_*.csv")})
    first = f"CollectedData_{scorer}"
    return [files[stem] for stem in sorted(files, key=lambda stem: (stem != first, stem))]


def _read_labels(
    data: Imported, file: Path, project: Project, done: set[Path], config: Path
) -> None:
    """Add the images and objects of one table of labels. done: the images that have labels."""
    labels = read_labels(file)
    objects = _objects(labels, project, data, file, config)
    for row, parts in enumerate(labels.images):
        # Rows may have the paths of another computer, or of a folder that was renamed.
        places = [file.parents[1].joinpath(*parts[-2:]), file.parent / parts[-1]]
        path = next((p for p in places if ".." not in parts and os.path.isfile(p)), None)
        if path is None:
            data.left_out["labelled images that are not there"] += 1
            continue
        if path in done:
            data.left_out["second labels of an image, by the same scorer or another one"] += 1
            continue
        done.add(path)
        image = data.add_image("all", path)
        for category, points in objects:
            if (points[row, :, 2] > 0).any():
                data.add_object("all", image, category, None, points[row])
                if data.categories[category - 1]["name"] == UNIQUE:
                    data.assumed[f"unique bodyparts are an object of the class {UNIQUE!r}"] += 1


def _objects(
    labels: Labels,
    project: Project,
    data: Imported,
    file: Path,
    config: Path,
) -> list[tuple[int, np.ndarray]]:
    """The category and the keypoints (rows, K, 3) of each object that an image may have."""
    found = labels.points()
    scorers = list(dict.fromkeys(scorer for scorer, _, _ in found))
    chosen = project.scorer if project.scorer in scorers else scorers[0]
    known = {name for names in project.keypoints.values() for name in names}
    if known.isdisjoint(part for _, _, part in found):
        raise UserError(
            f"{file}: labels {join_names(list(dict.fromkeys(part for _, _, part in found)))}, "
            f"but the bodyparts of {config} are {join_names(sorted(known))}"
        )
    objects: dict[tuple[str, int], np.ndarray] = {}
    for (scorer, individual, part), xy in found.items():
        complete = np.isfinite(xy).all(axis=1)
        count = int(complete.sum())
        halves = int(np.isfinite(xy).any(axis=1).sum()) - count
        places = [
            (category["id"], category["keypoints"].index(part))
            for category in data.categories
            if part in category["keypoints"]
        ]
        if scorer != chosen:
            reason = f"points of another scorer in the file of {chosen}"
        elif part not in known:
            reason = f"points called {part}, which is not a bodypart of {config.name}"
        elif not places:
            reason = f"points called {part}"
        else:
            if halves:
                data.left_out["points with one coordinate"] += halves
            ((category, index),) = places
            shape = (len(xy), len(data.categories[category - 1]["keypoints"]), 3)
            points = objects.setdefault((individual, category), np.zeros(shape))
            rounded = [round(value, 2) for value in xy[complete].ravel().tolist()]
            points[complete, index, :2] = np.reshape(rounded, (-1, 2))
            points[complete, index, 2] = 2
            continue
        if count:
            data.left_out[reason] += count
    return [(category, points) for (_, category), points in objects.items()]
