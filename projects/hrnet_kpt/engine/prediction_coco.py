"""Predictions as COCO-format results: https://cocodataset.org/#format-results."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.categories import Classes
from ..data.ground_truth import load_ground_truth
from ..data.images import match_names
from ..data.schema import KeypointSchema
from ..errors import UserError
from ..files import to_json
from .prediction_inputs import Input
from .prediction_records import RESTART, Records

HALF = 0.5  # pixel: COCO's keypoints are pixel indices


@dataclass(frozen=True)
class CocoIds:
    """What numbers stand for in COCO-format results.

    images: id of each image by name. videos: names of those whose frames go on counting after the images.
    categories: id of each class by name. keypoints: the names of each class's keypoints in the category's order.
    origin: where the ids are from, in words.
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

    Raises UserError for an image that the json does not list.
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


def write_results(records: Path, ids: CocoIds, path: Path) -> int:
    """Turn a file of records into a json with a list of results, a line each; return how many there are.

    Results of classes that `ids` does not have are left out. The file is replaced in one step.
    """
    unfinished, count, frame = path.with_name(f".{path.name}.unfinished"), 0, len(ids.images)
    try:
        with records.open("rb") as lines, unfinished.open("w", encoding="utf-8") as file:
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
                    file.write(",\n" if count else "\n")
                    file.write(to_json(result))
                    count += 1
            file.write("\n]\n")
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"--json {path} cannot be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def read_back(path: Path, ids: CocoIds, records: Records) -> None:
    """Fill a file of records from the finished json of an earlier run.

    Images in which nothing was found have left no trace in it.
    """
    names = {category: name for name, category in ids.categories.items()}
    current: dict[str, Any] = {}
    for result in _written(path, records.fingerprint):
        where: dict[str, Any] = {key: result[key] for key in ("frame", "time") if key in result}
        head = {"image": result["file_name"], **where}
        if head != {key: current.get(key) for key in head}:
            if current:
                records.append(current)
            current = {**head, "objects": []}
        current["objects"].append(_object(result, names[result["category_id"]], ids))
    if current:
        records.append(current)


def check_finished(path: Path, fingerprint: str) -> None:
    """Raise UserError where a json is not of write_results, or of another fingerprint unless that is ""."""
    next(_written(path, fingerprint), None)


def _written(path: Path, fingerprint: str) -> Iterator[dict[str, Any]]:
    """The results in a json of write_results, of this fingerprint unless that is ""."""
    with path.open("rb") as file:
        if file.readline() != b"[\n":
            raise UserError(
                f"{path} is there already, and not of tools/predict.py: give another name"
            )
        for line in file:
            if line == b"]\n" or not line.strip():
                return
            try:
                result = json.loads(line.rstrip(b",\n"))
                found = result["fingerprint"]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path} is there already, and not of tools/predict.py: give another name"
                ) from error
            if fingerprint and found != fingerprint:
                raise UserError(f"{path} holds results of other weights or settings: {RESTART}")
            yield result


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
        x1, y1, x2, y2 = found["box"]
        result = {
            "image_id": image,
            "category_id": ids.categories[name],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": found["score"],
        }
        if "keypoints" in found and len(ids.keypoints[name]):
            points = [found["keypoints"][keypoint] for keypoint in ids.keypoints[name]]
            result["keypoints"] = [v for x, y, score in points for v in (x - HALF, y - HALF, score)]
        if "mask" in found:
            result["segmentation"] = found["mask"]
        yield {**result, "file_name": record["image"], **end}


def _object(result: Mapping[str, Any], name: str, ids: CocoIds) -> dict[str, Any]:
    """The inverse of `_results`."""
    x, y, width, height = result["bbox"]
    found = {"class": name, "score": result["score"], "box": [x, y, x + width, y + height]}
    if "keypoints" in result:
        values = iter(result["keypoints"])
        points = (
            [px + HALF, py + HALF, score] for px, py, score in zip(*[values] * 3, strict=True)
        )
        found["keypoints"] = dict(zip(ids.keypoints[name], points, strict=True))
    if "segmentation" in result:
        found["mask"] = result["segmentation"]
    return found
