"""Predictions as COCO-format results: https://cocodataset.org/#format-results."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.categories import Classes
from ...data.coco import to_result
from ...data.images import match_names
from ...data.schema import KeypointSchema
from ...errors import UserError
from ...evaluation.ground_truth import load_ground_truth
from ...io import atomic_write, to_json
from .inputs import Input, refuse_os_errors


@dataclass(frozen=True)
class CocoIds:
    """The ids in COCO-format results.

    Attributes:
        images: Id of each image by name.
        videos: Names of the videos. The ids of their frames continue those of the images.
        categories: Id of each class by name.
        keypoints: The names of each class's keypoints, in the category's order.
        origin: Where the image ids come from, for the user.
    """

    images: Mapping[str, Any]
    videos: frozenset[str]
    categories: Mapping[str, Any]
    keypoints: Mapping[str, Sequence[str]]
    origin: str


def coco_ids(
    inputs: Sequence[Input],
    schema: KeypointSchema,
    classes: Classes,
    annotations: str | None = None,
) -> CocoIds:
    """The ids of a COCO-format json, by its file names and categories.

    Without a json, image ids are the numbers that are the file names, such as 785 for 000000000785.jpg, if all inputs
    have different ones; else 1, 2, 3 in the order of the inputs. Category ids then count from 1.

    Raises:
        UserError: If the json does not list an input, or lists it ambiguously.
    """
    if annotations:
        truth = load_ground_truth(annotations, schema, classes)
        listed = {entry["file_name"]: entry["id"] for entry in truth.coco.imgs.values()}
        keypoints = {
            name: [schema.names[index] for index in truth.keypoint_indices[category]]
            for name, category in truth.class_categories.items()
        }
        images, respelled = _listed_ids(inputs, listed, annotations)
        counts = Counter(images.values())
        repeated = [name for name, image in images.items() if counts[image] > 1][:2]
        if repeated:
            raise UserError(f"{annotations} has one image for the inputs {' and '.join(repeated)}")
        origin = f"those of {annotations}"
        if respelled:
            origin += f", {respelled} of {len(images)} by another spelling of the file name"
        return CocoIds(images, frozenset(), truth.class_categories, keypoints, origin)
    names = [item.name for item in inputs if not item.is_video]
    stems = [Path(name).stem for name in names]
    numbers = [int(stem) for stem in stems if stem.isascii() and stem.isdigit()]
    origin = "the numbers in the file names"
    if len(set(numbers)) < len(inputs):
        numbers, origin = list(range(1, len(names) + 1)), "1, 2, 3 in the order of the inputs"
    return CocoIds(
        images=dict(zip(names, numbers, strict=True)),
        videos=frozenset(item.name for item in inputs if item.is_video),
        categories={name: number for number, name in enumerate(classes, start=1)},
        keypoints=classes,
        origin=origin,
    )


def write_results(records: Path, ids: CocoIds, path: Path) -> None:
    """Convert a file of records into a json with a list of results, one per line.

    Results of classes and images that `ids` does not have are left out.
    """
    separator, frame = "\n", len(ids.images)
    with (
        refuse_os_errors("--json", path),
        records.open("rb") as lines,
        atomic_write(path) as unfinished,
        unfinished.open("w", encoding="utf-8") as file,
    ):
        file.write("[")
        for line in lines:
            record = json.loads(line)
            if record["image"] in ids.videos:
                image = frame = frame + 1
            elif record["image"] in ids.images:
                image = ids.images[record["image"]]
            else:
                continue  # an input of an earlier run only
            for result in _results(record, image, ids):
                file.write(f"{separator}{to_json(result)}")
                separator = ",\n"
        file.write("\n]\n")


def is_of_write_results(path: Path) -> bool:
    """Whether a json was written by `write_results`."""
    with path.open("rb") as file:
        return file.readline() == b"[\n" and (
            (first := file.readline()) == b"]\n" or b', "fingerprint": "' in first
        )


def _listed_ids(
    inputs: Sequence[Input], listed: Mapping[str, Any], annotations: str
) -> tuple[dict[str, Any], int]:
    """The image id of each input by its name, and how many inputs have another spelling of an entry's `file_name`.

    An input is the entry whose `file_name` is the end of the input's path, else the one that match_names finds.
    """
    ids = {item.name: _id_by_path(item.path, listed) for item in inputs}
    left = [item for item in inputs if ids[item.name] is None]
    taken = set(ids.values())
    names = [name for name, image in listed.items() if image not in taken]
    matches = match_names(names, [item.path.absolute().as_posix() for item in left])
    candidates: dict[str, list[Any]] = {item.name: [] for item in left}
    for name, match in zip(names, matches, strict=True):
        files = match.files if match else ()
        for file in files:
            # An entry that fits several inputs is ambiguous for each of them.
            candidates[left[file].name] += [listed[name]] * len(files)
    for item in left:
        images = candidates[item.name]
        if item.is_video or len(images) != 1:
            problem = f"{'several images' if images else 'no image'} can be {item.path.name}"
            if item.is_video:
                problem = "a video has no image id"
            raise UserError(f"--annotations {annotations}: {problem} (--input {item.path})")
        ids[item.name] = images[0]
    return ids, len(left)


def _id_by_path(path: Path, listed: Mapping[str, Any]) -> Any:
    """The id of the entry whose `file_name` is the end of the path; None if there is none."""
    parts = path.absolute().parts
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((listed[end] for end in ends if end in listed), None)


def _results(record: Mapping[str, Any], image: Any, ids: CocoIds) -> Iterator[dict[str, Any]]:
    end = {key: record[key] for key in ("frame", "time", "fingerprint") if key in record}
    for found in record["objects"]:
        name = found["class"]
        if name not in ids.categories:
            continue
        points = found.get("keypoints", {})
        result = to_result(
            image,
            ids.categories[name],
            found["score"],
            found["box"],
            [points[keypoint] for keypoint in ids.keypoints[name]] if points else (),
            found.get("mask"),
        )
        track = {"track_id": found["id"]} if "id" in found else {}
        yield {**result, **track, "file_name": record["image"], **end}
