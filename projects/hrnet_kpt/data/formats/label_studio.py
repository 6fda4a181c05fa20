"""Label Studio's exports "JSON" and "JSON-MIN".

An object is a rectangle (RectangleLabels) with the keypoints (KeyPointLabels) that were moved into it in the list of
regions; other keypoints belong to the rectangle around them. A keypoint with the choice "hidden" (Choices, perRegion)
is labelled as occluded. Polygons and ellipses are replaced by the rectangle around them. Label Studio's own COCO export
puts all keypoints of an image into one object.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from xml.sax.saxutils import quoteattr

from ...errors import UserError
from ...io import read_json_file, replace_text, to_json
from ..images import IMAGE_EXTENSIONS
from .grouping import (
    MAX_FILES,
    MAX_SIDE,
    Box,
    LabelledImage,
    Point,
    add_images,
    select_keypoints,
)
from .imported import Imported, LabelledObject, Options
from .json_files import json_files, read_head, refuse_malformed

NAME = "label-studio"
TITLE = "Label Studio (JSON or JSON-MIN)"
POINT_WIDTH = 0.5  # percent, of a keypoint's dot
HIDDEN = "hidden"  # the choice of a keypoint with v = 1
GEOMETRY = ("x", "y", "width", "height", "rotation", "radiusX", "radiusY", "points", "rle")
# Keys of tasks, annotations and regions that no other program writes.
TASK_KEYS = (
    *("was_cancelled", "completed_by", "original_width", "file_upload", "annotation_id"),
    *("annotator", "lead_time", "completions"),
)
VIDEO_EXTENSIONS = (".mp4", ".webm", ".ogg", ".mov", ".avi", ".mkv")


def recognize(path: Path) -> str:
    """What tells that a json file, or one in a folder, is an export of Label Studio; "" if nothing does."""
    for file in islice(json_files(path), MAX_FILES):
        key = _task_key(file)
        if key:
            return f'{file.name} is a list of tasks with "{key}"'
    return ""


def _task_key(file: Path) -> str:
    """The first key of a task or a region in a json file; "" if it is no export of Label Studio."""
    head = read_head(file)
    return next((key for key in TASK_KEYS if f'"{key}"' in head), "")


def read(path: Path, options: Options) -> Imported:
    """Read the tasks of an export; their images are below the folder.

    Args:
        path: The exported json file, or a folder that has it in it or in a subfolder.

    Raises:
        UserError: If there is no export, or several, or one is not as Label Studio writes it; if the options name
            keypoints and points have other labels; if no image is found.
    """
    export = path if path.is_file() else _find_export(path)
    imported = Imported(root=export.parent if path.is_file() else path)
    images: list[LabelledImage] = []
    tasks = read_tasks(export)
    if not any(map(annotations_of, tasks)):
        for task in tasks:
            if task.get("predictions"):
                task["annotations"] = task["predictions"]
                imported.assumed[
                    "tasks whose predictions are read, since no task is annotated"
                ] += 1
    for task in tasks:
        where = f"{export}: task {task.get('id')}"
        with refuse_malformed(where, "Label Studio"):
            images += read_task(task, where, imported)
    labels = [point.label for image in images for point in image.points]
    add_images(imported, images, select_keypoints(labels, options, imported), options)
    return imported


def _find_export(folder: Path) -> Path:
    exports = [file for file in json_files(folder) if _task_key(file)]
    if not exports:
        raise UserError(
            f"{folder}: there is no json file in it that Label Studio exported as JSON or JSON-MIN: name the file"
        )
    if len(exports) > 1:
        names = ", ".join(file.relative_to(folder).as_posix() for file in exports[:3])
        raise UserError(
            f"{folder}: {len(exports)} json files are exports of Label Studio ({names}): name the one to read"
        )
    return exports[0]


def read_tasks(path: Path) -> list[dict[str, Any]]:
    """The tasks of an export; those of JSON-MIN are converted to the structure of JSON.

    Raises:
        UserError: If the file is something else.
    """
    content = read_json_file(path, lines=True)
    content = [content] if isinstance(content, dict) else content
    if not isinstance(content, list) or not all(isinstance(task, dict) for task in content):
        raise UserError(f"{path}: not a Label Studio export, which is a list of tasks")
    if any("annotations" in task and "images" in task for task in content):
        raise UserError(
            f"{path}: a COCO-format file: export as JSON, whose tasks have their regions"
        )
    tasks = [task for task in content if "data" in task]
    if tasks and len(tasks) < len(content):
        raise UserError(f"{path}: some of the tasks have no `data`: export as JSON")
    if tasks:
        return tasks
    by_id: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(content):
        # One row per annotation: columns of the data as strings, regions as lists by the name of their tag.
        regions = [
            {"from_name": name, "value": value}
            for name, values in row.items()
            if isinstance(values, list)
            for value in values
            if isinstance(value, dict)
        ]
        data = {name: value for name, value in row.items() if isinstance(value, str)}
        id_ = str(row.get("id", f"in row {number}"))
        task = by_id.setdefault(id_, {"id": id_, "data": data})
        times = {key: row[key] for key in ("updated_at", "created_at") if key in row}
        task.setdefault("annotations", []).append({"result": regions, **times})
    return list(by_id.values())


def read_task(task: dict[str, Any], where: str, imported: Imported) -> list[LabelledImage]:
    """The image of a task, in a list; an empty one if the task is not labelled."""
    annotation = choose_annotation(task, imported)
    if annotation is None:
        return []
    regions = merge_regions(annotation.get("result") or [], where, imported)
    name = image_name(task, where)
    if name.lower().endswith(VIDEO_EXTENSIONS):
        imported.left_out["tasks about videos: label frames"] += 1
        return []
    sized = [region for region in regions if region["size"]]
    if len(sized) < len(regions):
        imported.left_out["regions without the size of their image"] += len(regions) - len(sized)
    size = sized[0]["size"] if sized else None
    return [LabelledImage(name, size, *read_regions(sized, imported))]


def annotations_of(task: dict[str, Any]) -> list[dict[str, Any]]:
    return task.get("annotations") or task.get("completions") or []  # the name before 1.0


def choose_annotation(task: dict[str, Any], imported: Imported) -> dict[str, Any] | None:
    """The annotation of a task to use; None if there is none.

    Of several, those that are marked as ground truth come first, then those with regions, then the newest.
    """
    written = annotations_of(task)
    kept = [a for a in written if not (a.get("was_cancelled") or a.get("skipped"))]
    if not kept:
        why = "tasks that were skipped" if written else "tasks that are not labelled yet"
        imported.left_out[why] += 1
        return None
    if len(kept) < len(written):
        imported.left_out["annotations that were skipped, of tasks with others"] += 1
    if len(kept) > 1:
        imported.left_out[
            "annotations of tasks with several: ground truth, what is not empty, and the newest come first"
        ] += len(kept) - 1

    def rank(annotation: dict[str, Any]) -> tuple[bool, bool, str]:
        time = annotation.get("updated_at") or annotation.get("created_at") or ""
        return bool(annotation.get("ground_truth")), bool(annotation.get("result")), str(time)

    return max(reversed(kept), key=rank)  # the last of equal ones


def merge_regions(
    results: list[dict[str, Any]], where: str, imported: Imported
) -> list[dict[str, Any]]:
    """The regions of an annotation: id, parent, type, size of the image, geometry, labels.

    A region has one result per tag: the rectangle, its label, a comment.
    """
    regions: dict[Any, dict[str, Any]] = {}
    parents: dict[Any, Any] = {}
    for number, result in enumerate(results):
        value = result.get("value")
        if result.get("type") == "relation":
            parents[result.get("from_id")] = result.get("to_id")
            parents.setdefault(result.get("to_id"), result.get("from_id"))
            continue
        if not isinstance(value, dict) or not any(key in value for key in GEOMETRY):
            imported.left_out["answers about whole images"] += 1
            continue
        turned = result.get("image_rotation") or value.get("image_rotation")
        if turned:
            raise UserError(
                f"{where}: the image and its regions were rotated by {turned} degrees in Label Studio: rotate it back "
                "there, or rotate the file and label it again"
            )
        region = regions.setdefault(
            result.get("id") or value.get("id") or f"region {number}",
            {"labels": [], "parent": None, "size": None, "kind": "region", "hidden": False},
        )
        region["parent"] = region["parent"] or result.get("parentID")
        sides = [{**value, **result}.get(f"original_{side}") for side in ("width", "height")]
        region["size"] = size_of(sides) if all(sides) else region["size"]
        region["kind"] = result.get("type") or region["kind"]
        for key, content in value.items():
            if key in GEOMETRY:
                region.setdefault(key, content)
            elif key == "choices" and isinstance(content, list):
                region["hidden"] = region["hidden"] or HIDDEN in content
            elif key.endswith("labels") and isinstance(content, list):
                region["labels"] += [label for label in content if label not in region["labels"]]
    for id_, region in regions.items():
        region["id"] = id_
        region["parent"] = region["parent"] or parents.get(id_)
    return list(regions.values())


def size_of(sides: list[Any]) -> tuple[int, int]:
    width, height = (int(side) for side in sides)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ValueError(f"the image's size is {width} x {height}")
    return width, height


def read_regions(
    regions: list[dict[str, Any]], imported: Imported
) -> tuple[list[Box], list[Point]]:
    """The boxes and points of an image, in pixels."""
    boxes, points = [], []
    for region in regions:
        corners = corners_of(region, imported)
        if not corners:
            imported.left_out[f"regions of type {region['kind']}"] += 1
            continue
        if not region["labels"]:
            imported.left_out["regions without a label"] += 1
            continue
        if len(region["labels"]) > 1:
            imported.assumed["regions with several labels: the first one"] += 1
        label, group = region["labels"][0], region["parent"]
        if len(corners) == 1:
            points.append(Point(label, *corners[0], group, region["hidden"]))
        else:
            xs, ys = zip(*corners, strict=True)
            boxes.append(Box(label, min(xs), min(ys), max(xs), max(ys), region["id"]))
    return boxes, points


def corners_of(region: dict[str, Any], imported: Imported) -> list[tuple[float, float]]:
    """The corners of a region, or its point, in pixels; empty for other regions.

    Coordinates of regions are percentages of the image. Rectangles are rotated clockwise about their upper left corner.
    """
    width, height = (side / 100 for side in region["size"])
    if "rle" in region:
        return []
    if "points" in region:
        imported.assumed["polygons: the rectangle around them"] += 1
        return [(x * width, y * height) for x, y in region["points"]]
    if "x" not in region or "y" not in region:
        return []
    x, y, angle = region["x"] * width, region["y"] * height, math.radians(region.get("rotation", 0))
    cosine, sine = math.cos(angle), math.sin(angle)
    if "radiusX" in region:
        imported.assumed["ellipses: the rectangle around them"] += 1
        a, b = region["radiusX"] * width, region["radiusY"] * height
        # Half the sides of the rectangle around a rotated ellipse.
        p, q = math.hypot(a * cosine, b * sine), math.hypot(a * sine, b * cosine)
        return [(x - p, y - q), (x + p, y + q)]
    if "height" not in region:
        return [(x, y)]
    if angle:
        imported.assumed["rotated rectangles: the upright one around them"] += 1
    w, h = region["width"] * width, region["height"] * height
    return [
        (x + u * w * cosine - v * h * sine, y + u * w * sine + v * h * cosine)
        for u in (0, 1)
        for v in (0, 1)
    ]


def image_name(task: dict[str, Any], where: str) -> str:
    """The path of a task's image in Label Studio's storage.

    Raises:
        UserError: If no field of the task's data is an image.
    """
    data = task["data"]
    texts = [v for v in [data.get("image"), *data.values()] if isinstance(v, str)]
    names = [path_in(text) for text in texts]
    if task.get("file_upload"):  # the JSON file, if tasks were uploaded in one
        names.append(task["file_upload"])
    images = [name for name in names if name.lower().endswith(IMAGE_EXTENSIONS)]
    if images:
        return images[0]
    addresses = [name for name, text in zip(names, texts, strict=False) if "/" in text]
    if addresses:
        return addresses[0]
    if any(isinstance(value, list) for value in data.values()):
        raise UserError(f"{where} has several images: label one image in a task")
    raise UserError(
        f"{where}: no field of its data is an image: {', '.join(data) or 'it is empty'}"
    )


def path_in(address: str) -> str:
    """The path in an address: after ?d= for local files, else without scheme, host and bucket."""
    if "?d=" in address:
        return unquote(address.partition("?d=")[2]).replace("\\", "/").lstrip("/")
    if "://" in address:
        return unquote(address.partition("://")[2].partition("?")[0].partition("/")[2])
    if address.startswith("/data/upload/"):
        return unquote(address.rpartition("/")[2])
    return address


def write_labels(labels: Imported, output: Path) -> None:
    """Write `tasks.json`, tasks with predictions, and `label_config.xml`, the labeling interface of their project.

    The address of an image is that of a local file, below the folder as the document root.
    """
    tasks = []
    for image, objects in labels.objects_of_images():
        size = {"original_width": image["width"], "original_height": image["height"]}
        head = {"to_name": "image", **size, "image_rotation": 0}
        regions = [
            {**head, **region}
            for number, found in enumerate(objects, 1)
            for region in _regions(found, f"{image['id']}-{number}", size)
        ]
        address = f"/data/local-files/?d={quote('images/' + image['file_name'])}"
        predictions = [{"model_version": "hrnet_kpt", "result": regions}]
        tasks.append({"id": image["id"], "data": {"image": address}, "predictions": predictions})
    replace_text(output / "tasks.json", to_json(tasks))
    keypoints = [name for category in labels.categories for name in category["keypoints"]]
    classes = [category["name"] for category in labels.categories]
    replace_text(output / "label_config.xml", _interface(classes, list(dict.fromkeys(keypoints))))


def _regions(found: LabelledObject, id_: str, size: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """The rectangle of an object, its labelled keypoints, and the choices of the hidden ones."""
    percent_x, percent_y = 100 / size["original_width"], 100 / size["original_height"]
    x0, y0, x1, y1 = found.box
    value: dict[str, Any] = {"x": x0 * percent_x, "y": y0 * percent_y, "rotation": 0}
    value |= {"width": (x1 - x0) * percent_x, "height": (y1 - y0) * percent_y}
    rectangle = {"id": id_, "from_name": "box", "type": "rectanglelabels"}
    yield {**rectangle, "value": {**value, "rectanglelabels": [found.name]}}
    for number, (name, (x, y, v)) in enumerate(found.keypoints.items(), 1):
        if not v:
            continue
        place = {"x": x * percent_x, "y": y * percent_y, "width": POINT_WIDTH}
        region = {"id": f"{id_}-{number}", "parentID": id_}
        value = {**place, "keypointlabels": [name]}
        yield {**region, "from_name": "keypoint", "type": "keypointlabels", "value": value}
        if v == 1:
            value = {**place, "choices": [HIDDEN]}
            yield {**region, "from_name": "visibility", "type": "choices", "value": value}


def _interface(classes: list[str], keypoints: list[str]) -> str:
    """The labeling interface: an Image, RectangleLabels, KeyPointLabels and the choice HIDDEN of a region."""

    def labels(tag: str, name: str, values: list[str]) -> list[str]:
        # model_index: of a keypoint in Label Studio's own exports.
        inner = [
            f'    <Label value={quoteattr(value)} model_index="{index}"/>'
            for index, value in enumerate(values)
        ]
        return [f'  <{tag} name="{name}" toName="image">', *inner, f"  </{tag}>"]

    lines = ["<View>", '  <Image name="image" value="$image"/>']
    lines += labels("RectangleLabels", "box", classes)
    if keypoints:
        lines += labels("KeyPointLabels", "keypoint", keypoints)
        lines.append('  <Choices name="visibility" toName="image" perRegion="true">')
        lines += [f'    <Choice value="{HIDDEN}"/>', "  </Choices>"]
    return "\n".join([*lines, "</View>", ""])
