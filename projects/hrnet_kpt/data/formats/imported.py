"""A data set that is being read from another program's layout: COCO content per split, image files, and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from ...errors import UserError, join_names
from ..categories import keypoint_names
from ..coco import from_coco
from ..images import upright_size


@dataclass(frozen=True)
class Options:
    """What the user can say about a source that does not say it.

    Attributes:
        keypoints: Names of the keypoints, in order, for formats that have only labelled points; () for those found.
        ignore: Labels of points to leave out.
        grow_boxes: How far boxes that are only the extent of their keypoints are moved outwards on every side: "0.2" of
            the longer side, or "40px"; "" for the format's own default.

    Raises:
        UserError: If a name is given twice.
    """

    keypoints: Sequence[str] = ()
    ignore: Sequence[str] = ()
    grow_boxes: str = ""

    def __post_init__(self) -> None:
        names = Counter([*self.keypoints, *set(self.ignore)])
        repeated = [name for name, count in names.items() if count > 1]
        if repeated:
            options = "--keypoints and --ignore name" if self.ignore else "--keypoints names"
            raise UserError(f"{options} {join_names(repeated)} twice: leave one out")


class LabelledObject(NamedTuple):
    """An object, in pixels from the image's corner.

    Attributes:
        name: Of its class.
        box: x0, y0, x1, y1.
        keypoints: x, y, v of each keypoint of the class, by name.
    """

    name: str
    box: tuple[float, float, float, float]
    keypoints: dict[str, tuple[float, float, int]]


@dataclass
class Imported:
    """A data set in COCO format, as a format's `read` returns it.

    Attributes:
        root: The folder of the source; file names of images in it are relative to it.
        categories: COCO categories, with `keypoints` and `skeleton`, the same for all splits.
        splits: Images and annotations by the name of the split, "train", "val" or "test"; only "all" if the source has
            no splits. Ids are unique over all splits.
        files: The path of each image's file, by its `file_name`.
        frames: What reads an image that has no file of its own, such as a frame of a video, by its `file_name`: a
            function that returns a PIL image, or raises UserError.
        left_out: Counts of what was left out, by description.
        assumed: Counts of what the source does not say and was assumed, by description.
        info: Further keys of the json, such as `licenses`.
        unboxed: Ids of the objects that were added without a box.
    """

    root: Path
    categories: list[dict[str, Any]] = field(default_factory=list)
    splits: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    frames: dict[str, Callable[[], Image.Image]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    assumed: Counter[str] = field(default_factory=Counter)
    info: dict[str, Any] = field(default_factory=dict)
    unboxed: set[int] = field(default_factory=set)

    def add_image(self, split: str, path: Path, size: tuple[int, int] | None = None) -> int:
        """Add an image file and return its id. size: width and height in pixels; None: those of the upright image.

        Programs show photographs upright, and so count their labels.

        Raises:
            UserError: If the size must be read, and cannot be.
        """
        size = size or upright_size(path)
        name = self.file_name(path)
        self.files[name] = path
        return self._append_image(split, name, size)

    def add_frame(
        self, split: str, path: Path, size: tuple[int, int], read: Callable[[], Image.Image]
    ) -> int:
        """Add an image that has no file of its own and return its id; see `frames`.

        Args:
            path: The file that it would be, below the root; a .png.
            size: Width and height in pixels.
            read: Returns the image.
        """
        name = self.file_name(path)
        self.frames[name] = read
        return self._append_image(split, name, size)

    def add_object(
        self,
        split: str,
        image_id: int,
        category_id: int,
        box: Sequence[float] | None,
        keypoints: ArrayLike,
        **more: Any,
    ) -> None:
        """Add an object; one that has neither a box nor a labelled keypoint is left out.

        Args:
            box: x0, y0, x1, y1 in pixels from the image's corner; None: the extent of the labelled keypoints.
            keypoints: (K, 3): x, y in COCO's coordinates (the center of the first pixel is 0, 0), and v; 0, 0, 0 for
                those without a label.
            more: Further keys of the annotation, such as `segmentation`, `iscrowd` or `area`.
        """
        points = np.array(keypoints, dtype=float).reshape(-1, 3)
        labelled = points[points[:, 2] > 0]
        if box is None and not len(labelled):
            self.left_out["objects without a box and without a labelled keypoint"] += 1
            return
        id_ = sum(len(part["annotations"]) for part in self.splits.values()) + 1
        if box is None:
            self.unboxed.add(id_)
            low, high = labelled[:, :2].min(axis=0) + 0.5, labelled[:, :2].max(axis=0) + 0.5
            box = [*low.tolist(), *high.tolist()]
        x0, y0, x1, y1 = (float(value) for value in box)
        annotations = self._split(split)["annotations"]
        annotation = {
            "id": id_,
            "image_id": image_id,
            "category_id": category_id,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "iscrowd": 0,
            "keypoints": [round(value, 4) for value in points.ravel().tolist()],
            "num_keypoints": len(labelled),
            **more,
        }
        annotations.append(annotation)

    def objects_of_images(self) -> Iterator[tuple[dict[str, Any], list[LabelledObject]]]:
        """Each image of the split "all", and its objects."""
        categories = {category["id"]: category for category in self.categories}
        objects: dict[int, list[LabelledObject]] = {}
        for annotation in self.splits["all"]["annotations"]:
            category = categories[annotation["category_id"]]
            x, y, width, height = annotation["bbox"]
            points = from_coco(np.array(annotation["keypoints"], dtype=float).reshape(-1, 3))
            keypoints = {
                name: (round(px, 4), round(py, 4), int(v))
                for name, (px, py, v) in zip(keypoint_names(category), points.tolist(), strict=True)
            }
            box = round(x, 4), round(y, 4), round(x + width, 4), round(y + height, 4)
            objects.setdefault(annotation["image_id"], []).append(
                LabelledObject(category["name"], box, keypoints)
            )
        for image in self.splits["all"]["images"]:
            yield image, objects.get(image["id"], [])

    def _append_image(self, split: str, name: str, size: tuple[int, int]) -> int:
        id_ = len(self.files) + len(self.frames)
        image = {"id": id_, "file_name": name, "width": size[0], "height": size[1]}
        self._split(split)["images"].append(image)
        return id_

    def _split(self, name: str) -> dict[str, list[dict[str, Any]]]:
        return self.splits.setdefault(name, {"images": [], "annotations": []})

    def file_name(self, path: Path) -> str:
        """A new `file_name`: relative to the root; files elsewhere keep their folder's name. Unique."""
        try:
            name = path.relative_to(self.root).as_posix()
        except ValueError:
            name = f"{path.parent.name}/{path.name}"
        stem, number = name, 1
        while name in self.files or name in self.frames:
            number += 1
            name = f"{Path(stem).with_suffix('')}_{number}{path.suffix}"
        return name
