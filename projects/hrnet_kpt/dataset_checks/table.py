"""The annotations of a COCO-format json as arrays, whatever is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from ..data.categories import listed_names
from ..data.references import Normalised, normalise
from .finding import Finding, counted, unique

# So many rows are flattened at a time: what python makes of them is several times as large as the array.
CHUNK = 10_000


@dataclass(frozen=True)
class AnnotationTable:
    """N annotations of M images and C categories.

    where: the path of the json, for messages.
    annotations, images, categories: the entries of the json, normalised: without nulls, references matched by value.
    labelled: whether the json has a list of annotations.
    references: what was normalised.
    image, category: (N,) positions in images and categories, -1 where the id is not listed.
    crowd: (N,) whether `iscrowd` is set.
    boxes: (N, 4) x, y, width, height; NaN where there is no box of four numbers.
    sizes: (M, 2) width and height; NaN where the json does not say them, or they are no positive numbers.
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

    def finding(
        self, level: str, name: str, sentence: str, chosen: np.ndarray | Sequence[int]
    ) -> list[Finding]:
        """The finding about some annotations, as a list that is empty if there are none.

        sentence: `{}` in it becomes their number.
        chosen: (N,) bool, or their positions.
        """
        chosen = np.asarray(chosen)
        rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        if len(rows) == 0:
            return []
        entries = [self.annotations[row] for row in rows]
        return [
            Finding(
                level,
                self.where,
                name,
                sentence.replace("{}", counted(len(rows), "annotation"), 1),
                tuple(entry["id"] for entry in entries if "id" in entry),
                unique(entry["image_id"] for entry in entries if "image_id" in entry),
            )
        ]

    def image_finding(
        self, level: str, name: str, sentence: str, chosen: Sequence[int] | np.ndarray
    ) -> list[Finding]:
        """The same about images, by their positions."""
        if len(chosen) == 0:
            return []
        ids = unique(self.images[row].get("id") for row in chosen)
        said = sentence.replace("{}", counted(len(chosen), "image"), 1)
        return [Finding(level, self.where, name, said, (), ids)]

    def keypoints(self, category: int) -> tuple[np.ndarray, np.ndarray]:
        """The keypoints of a category: annotations that list as many as it has, and n x K x 3 of x, y, v.

        NaN where they are no numbers. A category without names has as many keypoints as most of its annotations.
        """
        rows = np.flatnonzero(self.category == category)
        listed = [self.annotations[row].get("keypoints") for row in rows]
        count = self.num_keypoints(category)
        fits = [isinstance(values, list) and 0 < len(values) == 3 * count for values in listed]
        points = number_rows(
            [values for values, ok in zip(listed, fits, strict=True) if ok], 3 * count
        )
        return rows[fits], points.reshape(len(points), count, 3)

    def num_keypoints(self, category: int) -> int:
        """How many keypoints a category has.

        As many as it names, unless several annotations agree on another number and none has this one; as many as most
        annotations have where it names none.
        """
        names = listed_names(self.categories[category])
        rows = np.flatnonzero(self.category == category)
        listed = [self.annotations[row]["keypoints"] for row in rows if self.has_keypoints(row)]
        lengths = Counter(len(values) for values in listed if not isinstance(values[0], list))
        if not lengths:
            return len(names)
        [(length, times)] = lengths.most_common(1)
        agreed = len(lengths) == 1 and times > 1 and length % 3 == 0
        return length // 3 if agreed or not names else len(names)

    def has_keypoints(self, row: int) -> bool:
        """Whether an annotation has a list of keypoints that is not empty."""
        listed = self.annotations[row].get("keypoints")
        return isinstance(listed, list) and len(listed) > 0


def annotation_table(content: Mapping[str, Any], where: str) -> AnnotationTable:
    """The table of a json whose `images`, `categories` and, if there are any, `annotations` are lists of objects."""
    return table_of(normalise(content), where)


def table_of(references: Normalised, where: str) -> AnnotationTable:
    """The same of a json that is normalised already."""
    content = references.content
    images, categories = content["images"], content["categories"]
    annotations = content.get("annotations", [])
    sizes = number_rows([[image.get("width"), image.get("height")] for image in images], 2)
    sizes[~(np.isfinite(sizes) & (sizes > 0)).all(axis=1)] = np.nan
    return AnnotationTable(
        where=where,
        annotations=annotations,
        images=images,
        categories=categories,
        labelled="annotations" in content,
        references=references,
        image=_positions([a.get("image_id") for a in annotations], images),
        category=_positions([a.get("category_id") for a in annotations], categories),
        crowd=np.array([bool(a.get("iscrowd")) for a in annotations], dtype=bool),
        boxes=number_rows([a.get("bbox") for a in annotations], 4),
        sizes=sizes,
    )


def number_rows(rows: Sequence[Any], length: int) -> np.ndarray:
    """Lists of `length` numbers as an array, n x length; NaN where a row is anything else."""
    result = np.full((len(rows), length), np.nan)
    fits = [isinstance(row, list) and len(row) == length for row in rows]
    positions = np.flatnonzero(fits)
    for start in range(0, len(positions), CHUNK):
        part = positions[start : start + CHUNK]
        flat = list(chain.from_iterable(rows[i] for i in part))
        if set(map(type, flat)) <= {int, float, bool}:
            result[part] = _array(flat).reshape(-1, length)
        else:
            for i in part:
                if set(map(type, rows[i])) <= {int, float, bool}:
                    result[i] = _array(rows[i])
    return result


def _positions(ids: Sequence[Any], entries: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Where the ids stand in entries; the last one of equal ids, as a dict of them would have it."""
    places = {
        entry["id"]: i
        for i, entry in enumerate(entries)
        if isinstance(entry.get("id"), (int, str, float))
    }
    return np.array(
        [places.get(value, -1) if isinstance(value, (int, str, float)) else -1 for value in ids],
        dtype=np.int64,
    )


def _array(values: Sequence[Any]) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:  # an integer of hundreds of digits
        return np.array([float(v) if abs(v) < 1e300 else np.inf for v in values])
