"""CVAT's own XML, "CVAT for images 1.1": `annotations.xml`, and the images in `images/`.

An object is a skeleton with the rectangle that it is grouped with, or a rectangle alone. Coordinates count from the
corner of the image. A point of a skeleton that is occluded has v = 1, one that is outside is not labelled.
See https://docs.cvat.ai/docs/dataset_management/formats/format-cvat.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from ...errors import UserError, join_names
from ...io import atomic_write, replace_text, to_json
from ..categories import keypoint_names
from ..coco import to_coco
from .coco import SPLIT_NAMES
from .grouping import MAX_SIDE, LabelledImage, find_files
from .imported import Imported, LabelledObject, Options
from .json_files import refuse_malformed
from .keypoint_objects import choose_keypoints, set_boxes

NAME = "cvat-xml"
TITLE = "CVAT for images 1.1"
MAX_FILES = 20  # xml files of a folder, which are looked into
HEAD = 4096  # bytes
# Behind a class's name: the label of the rectangles that its skeletons are grouped with.
BOX = " box"
TEMPLATE = 100  # width and height of a skeleton's template, in CVAT's units


@dataclass
class CvatImage(LabelledImage):
    """An image, its objects, which have a box of None if it is to be made, and its subset."""

    objects: list[tuple[str, Any, dict[str, tuple[float, float, int]]]] = field(
        default_factory=list
    )
    split: str = ""


def recognize(path: Path) -> str:
    """The xml of an export in a folder, or the file; "" if there is none."""
    return join_names([file.name for file in _exports(path)], 4)


def read(path: Path, options: Options) -> Imported:
    """Read an export with images. A skeleton without a rectangle gets the extent of its points as box, and a margin.

    Raises:
        UserError: If there is no xml, or several, or it is malformed; if the options name keypoints that no skeleton
            has; if no image is found.
    """
    files = _exports(path)
    if len(files) != 1:
        found = join_names([file.name for file in files]) or "none"
        raise UserError(
            f"{path}: give the annotations.xml that CVAT exported as CVAT for images 1.1: there is {found}"
        )
    (file,) = files
    imported = Imported(path if path.is_dir() else path.parent)
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError, LookupError, ValueError) as error:
        raise UserError(f"{file}: not a readable xml: {error}") from error
    if root.find("track") is not None:
        raise UserError(f"{file}: it has tracks: export the task again, as CVAT for images 1.1")
    with refuse_malformed(file, "CVAT"):
        images = [_read_image(element, imported) for element in root.iter("image")]
        classes = _classes(root, images)
        _join_labels(images, classes)
    used = {name for image in images for name, _, _ in image.objects}
    classes = {name: names for name, names in classes.items() if name in used}
    if any(classes.values()) or options.keypoints or options.ignore:
        chosen = choose_keypoints(classes, options, str(file))
        classes = {name: chosen.get(name, []) for name in classes}
    imported.categories = _categories(root, classes)
    ids = {category["name"]: category["id"] for category in imported.categories}
    in_splits = all(image.split for image in images)
    for image, image_file in find_files(imported, images):
        assert isinstance(image, CvatImage)
        split = image.split if in_splits else "all"
        image_id = imported.add_image(split, image_file, image.size)
        for name, box, points in image.objects:
            rows = [points.get(keypoint, (0, 0, 0)) for keypoint in classes[name]]
            values = np.array(rows, dtype=float).reshape(-1, 3)
            values[values[:, 2] > 0] = to_coco(values[values[:, 2] > 0])
            values[values[:, 2] == 0] = 0
            imported.add_object(split, image_id, ids[name], box, values)
    set_boxes(imported, options)
    return imported


def _exports(path: Path) -> list[Path]:
    """The path itself if it is an export, or those in the folder."""
    files = [path] if path.is_file() else sorted(path.glob("*.xml"))
    return [
        file
        for file in files[:MAX_FILES]
        if file.suffix.lower() == ".xml" and b"<annotations" in _head(file)
    ]


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""


def _read_image(element: Element, imported: Imported) -> CvatImage:
    """The skeletons and rectangles of an image; a rectangle belongs to the only skeleton of its group."""
    sides = [int(element.attrib[side]) for side in ("width", "height")]
    if not all(0 < side <= MAX_SIDE for side in sides):
        raise ValueError(f"an image of {sides[0]} x {sides[1]} pixels")
    image = CvatImage(element.attrib["name"], (sides[0], sides[1]))
    subset = element.get("subset", "").lower()
    image.split = next((split for split, names in SPLIT_NAMES.items() if subset in names), "")
    boxes: list[tuple[str, str, list[float]]] = []  # with their group
    skeletons: list[tuple[str, str, dict[str, tuple[float, float, int]]]] = []
    for shape in element:
        group = shape.get("group_id", "0")
        if shape.tag == "box":
            boxes.append((group, shape.attrib["label"], _corners(shape, imported)))
        elif shape.tag == "skeleton":
            points = dict(_point(point) for point in shape.iter("points"))
            skeletons.append((group, shape.attrib["label"], points))
        else:
            imported.left_out[f"shapes of type {shape.tag}"] += 1
    groups = [group for group, _, _ in skeletons]
    own = {
        group: corners
        for group, _, corners in boxes
        if group != "0" and groups.count(group) == 1 and [g for g, _, _ in boxes].count(group) == 1
    }
    image.objects = [(label, own.get(group), points) for group, label, points in skeletons]
    image.objects += [(label, box, {}) for group, label, box in boxes if group not in own]
    return image


def _corners(box: Element, imported: Imported) -> list[float]:
    """x0, y0, x1, y1 of a rectangle; of a rotated one, those of the upright rectangle around it."""
    x0, y0, x1, y1 = (_number(box.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
    angle = math.radians(_number(box.get("rotation", "0")))
    if angle:
        imported.assumed["rotated rectangles: the upright one around them"] += 1
        width, height = x1 - x0, y1 - y0
        w = abs(width * math.cos(angle)) + abs(height * math.sin(angle))
        h = abs(width * math.sin(angle)) + abs(height * math.cos(angle))
        x0, x1 = (x0 + x1 - w) / 2, (x0 + x1 + w) / 2
        y0, y1 = (y0 + y1 - h) / 2, (y0 + y1 + h) / 2
    return [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]


def _point(element: Element) -> tuple[str, tuple[float, float, int]]:
    """The name of a skeleton's point, and its x, y, v."""
    x, y = map(_number, element.attrib["points"].split(","))
    v = 0 if element.get("outside") == "1" else 1 if element.get("occluded") == "1" else 2
    return element.attrib["label"], (x, y, v)


def _number(text: str) -> float:
    value = float(text)
    if not abs(value) < 1e9:
        raise ValueError(f"{text} is no position")
    return value


def _classes(root: Element, images: Sequence[CvatImage]) -> dict[str, list[str]]:
    """The names of the keypoints of each label: those of the task's labels, then others in the order they appear in."""
    classes: dict[str, list[str]] = {}
    for label in root.iterfind("meta//labels/label"):
        name, parent = label.findtext("name", ""), label.findtext("parent")
        own = classes.setdefault(parent or name, [])
        if parent and name not in own:
            own.append(name)
    for image in images:
        for name, _, points in image.objects:
            own = classes.setdefault(name, [])
            own += [keypoint for keypoint in points if keypoint not in own]
    return classes


def _join_labels(images: Sequence[CvatImage], classes: dict[str, list[str]]) -> None:
    """Give rectangles with the label "NAME box", whose skeleton is missing, the class NAME, in place."""
    for image in images:
        for number, (name, box, points) in enumerate(image.objects):
            if name.endswith(BOX) and not classes[name] and classes.get(name.removesuffix(BOX)):
                image.objects[number] = (name.removesuffix(BOX), box, points)


def _categories(root: Element, classes: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """The categories, with the bones of their templates."""
    bones = _bones(root)
    categories = []
    for id_, (name, keypoints) in enumerate(classes.items(), 1):
        place = {keypoint: number for number, keypoint in enumerate(keypoints, 1)}
        own = [[place[a], place[b]] for a, b in bones.get(name, ()) if a in place and b in place]
        categories.append({"id": id_, "name": name, "keypoints": list(keypoints), "skeleton": own})
    return categories


def _bones(root: Element) -> dict[str, list[tuple[str, str]]]:
    """The pairs of keypoints that the template of each label joins."""
    bones: dict[str, list[tuple[str, str]]] = {}
    for label in root.iterfind("meta//labels/label"):
        try:
            template = ElementTree.fromstring(f"<svg>{label.findtext('svg', '')}</svg>")
        except ElementTree.ParseError:
            continue
        nodes = {c.get("data-node-id"): c.get("data-label-name") for c in template.iter("circle")}
        ends = [
            (nodes.get(line.get("data-node-from")), nodes.get(line.get("data-node-to")))
            for line in template.iter("line")
        ]
        bones[label.findtext("name", "")] = [(a, b) for a, b in ends if a and b]
    return bones


def write_labels(labels: Imported, output: Path) -> None:
    """Write `annotations.xml`, and `labels.json`, the labels of the task that it is uploaded to.

    An object with keypoints is a skeleton that is grouped with a rectangle. Keypoints with v = 0 are outside.
    """
    task_labels = _task_labels(labels)
    replace_text(output / "labels.json", to_json(task_labels, indent=2))
    meta = Element("meta")
    listed = SubElement(SubElement(meta, "task"), "labels")
    for label in task_labels:
        for part in (label, *label.get("sublabels", ())):
            element = SubElement(listed, "label")
            for key in ("name", "type", "svg"):
                if key in part:
                    SubElement(element, key).text = part[key]
            if part is not label:
                SubElement(element, "parent").text = label["name"]
    groups = count(1)
    path = output / "annotations.xml"
    with atomic_write(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        file.write(
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        )
        file.write(_text(meta))
        for number, (image, objects) in enumerate(labels.objects_of_images()):
            size = {key: str(image[key]) for key in ("width", "height")}
            element = Element("image", {"id": str(number), "name": image["file_name"], **size})
            for found in objects:
                _add_shapes(element, found, str(next(groups)))
            file.write(_text(element))
        file.write("</annotations>\n")


def _text(element: Element) -> str:
    ElementTree.indent(element)
    return ElementTree.tostring(element, "unicode") + "\n"


def _add_shapes(image: Element, found: LabelledObject, group: str) -> None:
    """The rectangle of an object, and its skeleton."""
    own = {"label": found.name, "source": "auto", "occluded": "0", "z_order": "0"}
    corners = zip(("xtl", "ytl", "xbr", "ybr"), found.box, strict=True)
    box = {key: f"{value:.3f}" for key, value in corners}
    if not found.keypoints:
        SubElement(image, "box", own | box)
        return
    own["group_id"] = group
    SubElement(image, "box", own | box | {"label": found.name + BOX})
    skeleton = SubElement(image, "skeleton", own)
    for name, (x, y, v) in found.keypoints.items():
        flags = {"outside": str(int(v == 0)), "occluded": str(int(v == 1))}
        place = {"points": f"{x:.3f},{y:.3f}"}
        SubElement(skeleton, "points", {"label": name, "source": "auto", **flags, **place})


def _task_labels(labels: Imported) -> list[dict[str, Any]]:
    """The labels in the form of CVAT's label constructor ("Raw"): skeletons with their templates, and rectangles."""
    sums: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _, objects in labels.objects_of_images():
        for found in objects:
            x0, y0, x1, y1 = found.box
            for name, (x, y, v) in found.keypoints.items():
                if v and x1 > x0 and y1 > y0:
                    place = (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)
                    sums.setdefault((found.name, name), []).append(place)
    task_labels = []
    for category in labels.categories:
        name, keypoints = category["name"], keypoint_names(category)
        if not keypoints:
            task_labels.append({"name": name, "type": "rectangle", "attributes": []})
            continue
        sublabels = [{"name": point, "type": "points", "attributes": []} for point in keypoints]
        places = [np.mean(sums.get((name, point), [(0.5, 0.5)]), axis=0) for point in keypoints]
        svg = _template(category, np.array(places).clip(0.02, 0.98) * TEMPLATE)
        label = {"name": name, "type": "skeleton", "attributes": []}
        task_labels.append({**label, "sublabels": sublabels, "svg": svg})
        task_labels.append({"name": name + BOX, "type": "rectangle", "attributes": []})
    return task_labels


def _template(category: Mapping[str, Any], places: np.ndarray) -> str:
    """The template of a skeleton: a circle for each keypoint, at these places, and lines that join them."""
    elements = []
    for a, b in category["skeleton"]:
        (x1, y1), (x2, y2) = places[a - 1].round(1).tolist(), places[b - 1].round(1).tolist()
        line = {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "stroke": "black", "stroke-width": 0.5}
        nodes = {"data-type": "edge", "data-node-from": a, "data-node-to": b}
        elements.append(Element("line", {key: str(v) for key, v in (line | nodes).items()}))
    for number, (name, (x, y)) in enumerate(
        zip(keypoint_names(category), places.round(1).tolist(), strict=True), 1
    ):
        circle = {
            "r": 1.5,
            "cx": x,
            "cy": y,
            "stroke": "black",
            "fill": "#b3b3b3",
            "stroke-width": 0.1,
        }
        node = {"data-type": "element node", "data-element-id": number, "data-node-id": number}
        attributes = {**circle, **node, "data-label-name": name}
        elements.append(Element("circle", {key: str(value) for key, value in attributes.items()}))
    return "".join(
        ElementTree.tostring(element, "unicode", short_empty_elements=False) for element in elements
    )
