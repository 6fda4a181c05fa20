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
from .inputs import Input


@dataclass(frozen=True)
class CocoIds:
    """What numbers stand for in COCO-format results.

    Attributes:
        images: Id of each image by name.
        videos: Names of those whose frames go on counting after the images.
        categories: Id of each class by name.
        keypoints: The names of each class's keypoints in the category's order.
        origin: Where the ids are from, in words.
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
    """The ids of a COCO-format json by its file names and categories.

    Without one, the numbers that are the images' names, as 785 of 000000000785.jpg, if all have such and no two the
    same; else 1, 2, 3 in their order. Classes then count from 1.

    Raises:
        UserError: For an image that the json does not list.
    """
    if annotations:
        truth = load_ground_truth(annotations, schema, classes)
        listed = {entry["file_name"]: entry["id"] for entry in truth.coco.imgs.values()}
        keypoints = {
            name: [schema.names[slot] for slot in truth.slots[category]]
            for name, category in truth.class_categories.items()
        }
        images, respelled = _listed_ids(inputs, listed, annotations)
        counts = Counter(images.values())
        repeated = [name for name, image in images.items() if counts[image] > 1][:2]
        if repeated:
            raise UserError(f"{annotations} has one image for the inputs {' and '.join(repeated)}")
        origin = f"those of {annotations}"
        if respelled:
            origin += f", {respelled} of {len(images)} by another spelling of the file's name"
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
    """Turn a file of records into a json with a list of results, a line each.

    Results of classes that `ids` does not have are left out.
    """
    separator, frame = "\n", len(ids.images)
    try:
        with (
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
                    continue  # no longer among the inputs
                for result in _results(record, image, ids):
                    file.write(f"{separator}{to_json(result)}")
                    separator = ",\n"
            file.write("\n]\n")
    except OSError as error:
        raise UserError(f"--json {path} cannot be written: {error.strerror}") from error


def is_of_write_results(path: Path) -> bool:
    """Whether a json is one of `write_results`."""
    with path.open("rb") as file:
        return file.readline() == b"[\n" and (
            (first := file.readline()) == b"]\n" or b', "fingerprint": "' in first
        )


def _listed_ids(
    inputs: Sequence[Input], listed: Mapping[str, Any], annotations: str
) -> tuple[dict[str, Any], int]:
    """The id of each input by its name, and how many inputs have another spelling of an entry's `file_name`.

    An entry is meant whose `file_name` is the end of the image's path, else one that match_names finds.
    """
    ids = {item.name: _listed_id(item, listed) for item in inputs}
    left = [item for item in inputs if ids[item.name] is None]
    taken = set(ids.values())
    names = [name for name, image in listed.items() if image not in taken]
    matches = match_names(names, [item.path.absolute().as_posix() for item in left])
    fitting: dict[str, list[Any]] = {item.name: [] for item in left if not item.is_video}
    for name, match in zip(names, matches, strict=True):
        if match is not None:
            for file in match.files:
                if left[file].name in fitting:
                    # An entry that fits several inputs is no one's.
                    fitting[left[file].name] += [listed[name]] * len(match.files)
    for item in left:
        images = fitting.get(item.name, [])
        if len(images) != 1:
            what = (
                "a video has no image id"
                if item.is_video
                else f"{'several images' if images else 'no image'} can be meant by {item.path.name}"
            )
            raise UserError(f"--annotations {annotations}: {what} in it (--input {item.path})")
        ids[item.name] = images[0]
    return ids, len(left)


def _listed_id(item: Input, listed: Mapping[str, Any]) -> Any:
    """The id of the entry whose `file_name` is the end of the image's path; None if there is none."""
    parts = item.path.absolute().parts
    for start in range(len(parts)):
        image = listed.get("/".join(parts[start:]))
        if image is not None:
            return image
    return None


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
        yield {**result, "file_name": record["image"], **end}
