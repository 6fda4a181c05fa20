"""tools/predict.py --labels: predictions as annotations that labelling programs import, to be corrected there."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ...data.categories import Classes, to_categories
from ...data.coco import to_coco
from ...data.formats.imported import Imported
from ...data.formats.label_writers import refuse_names, write_labels
from ...data.schema import KeypointSchema
from ...errors import UserError, join_names
from ...io import replace_text
from .inputs import Input, refuse_os_errors

REPORT = "labels.txt"  # is written last: it shows that a folder is complete
RECORDS = "predictions.jsonl.unfinished"
# Confidences from which a keypoint has v = 2 and v = 1.
VISIBLE, HIDDEN = 0.7, 0.3
# These name keypoints in the order in which they appear.
UNORDERED = ("label-studio", "labelme")


def visibility(confidence: float, visible: float = VISIBLE, hidden: float = HIDDEN) -> int:
    """COCO's v of a keypoint: 2 from a confidence of `visible` on, 1 from `hidden` on, else 0."""
    return 2 if confidence >= visible else 1 if confidence >= hidden else 0


def label_records(folder: Path, format_name: str, inputs: Sequence[Input]) -> Path:
    """The path of the records from which the labels in a folder are written, when all inputs are done.

    Raises:
        UserError: If the folder has labels, which may have been corrected, or other files; if inputs are videos, or
            their names do not fit the format.
    """
    video = next((item for item in inputs if item.is_video), None)
    if video is not None:
        raise UserError(
            f"--labels are of images, and {video.path} is a video: give some of its frames"
        )
    refuse_names([item.name for item in inputs], format_name)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file: give a folder for the labels")
    names = [path.name for path in sorted(folder.iterdir())] if folder.exists() else []
    if REPORT in names:
        raise UserError(
            f"--output {folder} has labels already, which may have been corrected, and is not changed: give another "
            "folder, or remove it"
        )
    if names and not any(name.startswith(RECORDS) for name in names):
        raise UserError(
            f"--output {folder}, for the labels, has other files: {join_names(names, 4)}: give a new folder"
        )
    return folder / RECORDS


def write_found(
    records: Path,
    inputs: Sequence[Input],
    schema: KeypointSchema,
    classes: Classes,
    folder: Path,
    format_name: str,
    visible: float = VISIBLE,
    hidden: float = HIDDEN,
) -> list[str]:
    """Write the labels of all inputs with a record.

    Args:
        records: Of `label_records`.
        schema: Keypoints of the model.
        classes: Classes of the model.
        folder: The folder to write.
        format_name: A key of WRITERS.
        visible: See `visibility`.
        hidden: See `visibility`.

    Returns:
        A report, which is written to REPORT, too.
    """
    labels = Imported(folder / "images", to_categories(schema, classes))
    labels.splits["all"] = {"images": [], "annotations": []}
    ids = {category["name"]: category["id"] for category in labels.categories}
    paths = {item.name: item.path for item in inputs}
    counts: Counter[int] = Counter()
    with records.open("rb") as lines:
        for line in lines:
            record = json.loads(line)
            name = record["image"]
            if name not in paths:
                continue  # an input of an earlier call only
            size = record["width"], record["height"]
            image = labels.add_image("all", labels.root / name, size)
            labels.files[name] = paths[name]
            for found in record["objects"]:
                flags = [
                    visibility(confidence, visible, hidden)
                    for confidence in found.get("confidences", {}).values()
                ]
                counts.update(flags)
                points = [
                    (x, y, v)
                    for (x, y, _), v in zip(found.get("keypoints", {}).values(), flags, strict=True)
                ]
                more = {"segmentation": found["mask"]} if "mask" in found else {}
                category = ids[found["class"]]
                labels.add_object("all", image, category, found["box"], to_coco(points), **more)
    with refuse_os_errors("--output", folder):
        write_labels(labels, folder, format_name)
        report = _report(labels, counts, folder, format_name, visible, hidden)
        replace_text(folder / REPORT, "\n".join([*report, ""]))
    return report


def _report(
    labels: Imported,
    counts: Counter[int],
    folder: Path,
    format_name: str,
    visible: float,
    hidden: float,
) -> list[str]:
    images, objects = (len(labels.splits["all"][key]) for key in ("images", "annotations"))
    keypoints = (
        f"v = 2 (confidence {visible:g} or more) {counts[2]}, v = 1 ({hidden:g} or more) "
        f"{counts[1]}, v = 0 {counts[0]}"
    )
    command = ["tools/import_data.py", "--input", str(folder), "--output", "DIR"]
    names = dict.fromkeys(name for c in labels.categories for name in c["keypoints"])
    if names and format_name in UNORDERED:
        command += ["--keypoints", *names]
    return [
        f"{folder}: labels for {format_name}: {images} images, {objects} objects; keypoints: {keypoints}",
        f"next: correct them, see docs/labelling.md; {shlex.join(command)}",
    ]
