"""The annotations of a COCO-format json as NumPy arrays, however malformed the json is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..data.categories import is_positive, keypoint_names
from ..data.references import Normalised, match_ids, normalise
from .finding import Finding, finding, format_count, image_findings, unique

NUMBERS = {int, float, bool}


@dataclass(frozen=True)
class AnnotationTable:
    """N annotations of M images and C categories.

    Attributes:
        where: Path of the json, for messages.
        annotations, images, categories: The json's entries without nulls, references resolved to ids.
        labelled: Whether the json has a list of annotations.
        references: What was normalised.
        image, category: (N,) indices into images and categories, -1 where the id is not listed.
        crowd: (N,) whether `iscrowd` is set.
        boxes: (N, 4) x, y, width, height; NaN where `bbox` is not four numbers.
        sizes: (M, 2) width and height; NaN where the json does not have both as positive numbers.
    """

    where: str
    annotations: Sequence[dict[str, Any]]
    images: Sequence[dict[str, Any]]
    categories: Sequence[dict[str, Any]]
    labelled: bool
    references: Normalised
    image: np.ndarray
    category: np.ndarray
    crowd: np.ndarray
    boxes: np.ndarray
    sizes: np.ndarray

    def findings(
        self, name: str, chosen: np.ndarray | Sequence[int], **values: Any
    ) -> list[Finding]:
        """The finding of a name about the annotations of a mask, (N,), or of indices; none if there are none.

        `values` are for the placeholders of the message other than `count`.
        """
        chosen = np.asarray(chosen)
        rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        if len(rows) == 0:
            return []
        entries = [self.annotations[row] for row in rows.tolist()]
        ids = tuple(entry["id"] for entry in entries if "id" in entry)
        image_ids = unique(entry["image_id"] for entry in entries if "image_id" in entry)
        count = format_count(len(rows), "annotation")
        return [finding(self.where, name, ids, image_ids, count=count, **values)]

    def image_findings(
        self, name: str, rows: Sequence[int] | np.ndarray, **values: Any
    ) -> list[Finding]:
        """The finding of a name about the images at some indices."""
        ids = [self.images[row].get("id") for row in rows]
        return image_findings(self.where, name, ids, **values)

    def which(self, condition: Callable[[dict[str, Any]], Any]) -> np.ndarray:
        """Which annotations meet a condition: (N,)."""
        return np.array([bool(condition(entry)) for entry in self.annotations], dtype=bool)

    def with_annotations(self, annotations: Sequence[dict[str, Any]]) -> AnnotationTable:
        """The table of the same images and categories with other annotations."""
        lists = {"images": self.images, "categories": self.categories}
        return annotation_table({**lists, "annotations": annotations}, self.where)

    def category_name(self, index: int) -> str:
        """A category as messages name it: `category 'cat'`."""
        category = self.categories[index]
        return f"category {category.get('name', category.get('id'))!r}"

    @property
    def instances(self) -> np.ndarray:
        """Which annotations are of a listed image and no crowd: (N,)."""
        return (self.image >= 0) & ~self.crowd

    @property
    def finite(self) -> np.ndarray:
        """Which annotations have a box of four finite numbers: (N,)."""
        return np.isfinite(self.boxes).all(axis=1)

    @property
    def boxed(self) -> np.ndarray:
        """Which annotations have a box of positive width and height: (N,)."""
        return self.finite & (self.boxes[:, 2:] > 0).all(axis=1)

    @cached_property
    def areas(self) -> np.ndarray:
        """Areas in pixels, (N,); NaN where `area` is not a positive number."""
        areas = [a["area"] if is_positive(a.get("area")) else np.nan for a in self.annotations]
        return np.array(areas, dtype=float)

    def image_sizes(self, unknown: float = np.nan) -> np.ndarray:
        """Width and height of the image of each annotation, (N, 2); `unknown` where they are not known."""
        sizes = np.full((len(self.boxes), 2), np.nan)
        listed = self.image >= 0
        sizes[listed] = self.sizes[self.image[listed]]
        return np.nan_to_num(sizes, nan=unknown)

    @cached_property
    def keypoints(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each category: indices of its n annotations with as many keypoints as it has, and their x, y, v.

        The second array is (n, K, 3), NaN where there are no numbers.
        """
        found = []
        for category, count in enumerate(self.num_keypoints):
            rows = np.flatnonzero(self.category == category)
            listed = [self.annotations[row].get("keypoints") for row in rows.tolist()]
            fits = [isinstance(values, list) and 0 < len(values) == 3 * count for values in listed]
            fitting = [values for values, fit in zip(listed, fits, strict=True) if fit]
            points = number_rows(fitting, 3 * count)
            found.append((rows[fits], points.reshape(len(points), count, 3)))
        return found

    @cached_property
    def num_keypoints(self) -> list[int]:
        """How many keypoints each category has.

        As many as it names, unless all of its annotations, at least two, agree on another number. Where it names none:
        as many as most annotations have.
        """
        found = []
        for index, category in enumerate(self.categories):
            names = keypoint_names(category)
            rows = np.flatnonzero(self.category == index).tolist()
            own = [self.annotations[row] for row in rows]
            listed = [annotation["keypoints"] for annotation in own if has_keypoints(annotation)]
            lengths = Counter(len(values) for values in listed if not isinstance(values[0], list))
            count = len(names)
            if lengths:
                [(length, times)] = lengths.most_common(1)
                agreed = len(lengths) == 1 and times > 1 and length % 3 == 0
                count = length // 3 if agreed or not names else count
            found.append(count)
        return found


def has_keypoints(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation has a list of keypoints that is not empty."""
    listed = annotation.get("keypoints")
    return isinstance(listed, list) and len(listed) > 0


def annotation_table(content: Mapping[str, Any], where: str) -> AnnotationTable:
    """The table of a json whose `images`, `categories` and, if there are any, `annotations` are lists of objects."""
    references = normalise(content)
    content = references.content
    images, categories = content["images"], content["categories"]
    annotations = content.get("annotations", [])

    def indices(key: str, entries: Sequence[Mapping[str, Any]]) -> np.ndarray:
        references = [annotation.get(key) for annotation in annotations]
        return np.array(match_ids(references, [e.get("id") for e in entries]), dtype=np.int64)

    sizes = number_rows([[image.get("width"), image.get("height")] for image in images], 2)
    sizes[~(np.isfinite(sizes) & (sizes > 0)).all(axis=1)] = np.nan
    return AnnotationTable(
        where=where,
        annotations=annotations,
        images=images,
        categories=categories,
        labelled="annotations" in content,
        references=references,
        image=indices("image_id", images),
        category=indices("category_id", categories),
        crowd=np.array([bool(a.get("iscrowd")) for a in annotations], dtype=bool),
        boxes=number_rows([a.get("bbox") for a in annotations], 4),
        sizes=sizes,
    )


def number_rows(rows: Sequence[Any], length: int) -> np.ndarray:
    """Lists of `length` numbers as an array, (n, length); NaN where a row is anything else."""
    result = np.full((len(rows), length), np.nan)
    for i, row in enumerate(rows):
        if isinstance(row, list) and len(row) == length and set(map(type, row)) <= NUMBERS:
            with suppress(OverflowError):  # an integer of hundreds of digits
                result[i] = row
    return result
