"""The annotations of a COCO-format json as arrays, whatever is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from ..data.categories import keypoint_names
from ..data.references import Normalised, normalise
from .finding import Finding, counted, unique

# So many rows are flattened at a time: what Python makes of them is several times as large as the array.
CHUNK = 10_000


@dataclass(frozen=True)
class AnnotationTable:
    """N annotations of M images and C categories.

    Attributes:
        where: the path of the json, for messages.
        annotations, images, categories: the json's entries, normalised: without nulls, references matched by value.
        labelled: whether the json has a list of annotations.
        references: what was normalised.
        image, category: (N,) indices into images and categories, -1 where the id is not listed.
        crowd: (N,) whether `iscrowd` is set.
        boxes: (N, 4) x, y, width, height; NaN where there is no box of four numbers.
        sizes: (M, 2) width and height; NaN where the json does not have them, or they are no positive numbers.
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

        Args:
            level, name: of the finding.
            sentence: `{}` in it becomes their number.
            chosen: (N,) bool, or their indices.
        """
        chosen = np.asarray(chosen)
        rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        if len(rows) == 0:
            return []
        sentence = sentence.replace("{}", counted(len(rows), "annotation"), 1)
        entries = [self.annotations[row] for row in rows]
        ids = tuple(entry["id"] for entry in entries if "id" in entry)
        image_ids = unique(entry["image_id"] for entry in entries if "image_id" in entry)
        return [Finding(level, self.where, name, sentence, ids, image_ids)]

    def image_finding(
        self, level: str, name: str, sentence: str, chosen: Sequence[int] | np.ndarray
    ) -> list[Finding]:
        """The same about images, by their indices."""
        if len(chosen) == 0:
            return []
        sentence = sentence.replace("{}", counted(len(chosen), "image"), 1)
        ids = unique(self.images[row].get("id") for row in chosen)
        return [Finding(level, self.where, name, sentence, (), ids)]

    def has_keypoints(self, row: int) -> bool:
        """Whether an annotation has a list of keypoints that is not empty."""
        listed = self.annotations[row].get("keypoints")
        return isinstance(listed, list) and len(listed) > 0

    def boxed(self) -> np.ndarray:
        """Which annotations have a box of positive width and height: (N,)."""
        boxed: np.ndarray = np.isfinite(self.boxes).all(axis=1) & (self.boxes[:, 2:] > 0).all(
            axis=1
        )
        return boxed

    def image_sizes(self, unknown: float = np.nan) -> np.ndarray:
        """Width and height of the image of each annotation, (N, 2); `unknown` where they are not known."""
        sizes = np.full((len(self.boxes), 2), np.nan)
        listed = self.image >= 0
        sizes[listed] = self.sizes[self.image[listed]]
        return np.nan_to_num(sizes, nan=unknown)

    @cached_property
    def keypoints(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each category: its annotations that list as many keypoints as it has, and n x K x 3 of x, y, v.

        NaN where they are no numbers.
        """
        found = []
        for category, count in enumerate(self.num_keypoints):
            rows = np.flatnonzero(self.category == category)
            listed = [self.annotations[row].get("keypoints") for row in rows]
            fits = [isinstance(values, list) and 0 < len(values) == 3 * count for values in listed]
            fitting = [values for values, fit in zip(listed, fits, strict=True) if fit]
            points = number_rows(fitting, 3 * count)
            found.append((rows[fits], points.reshape(len(points), count, 3)))
        return found

    @cached_property
    def num_keypoints(self) -> list[int]:
        """How many keypoints each category has.

        As many as it names, unless several annotations agree on another number and none has this one; as many as most
        annotations have where it names none.
        """
        found = []
        for index, category in enumerate(self.categories):
            names = keypoint_names(category)
            rows = np.flatnonzero(self.category == index)
            listed = [self.annotations[row]["keypoints"] for row in rows if self.has_keypoints(row)]
            lengths = Counter(len(values) for values in listed if not isinstance(values[0], list))
            count = len(names)
            if lengths:
                [(length, times)] = lengths.most_common(1)
                agreed = len(lengths) == 1 and times > 1 and length % 3 == 0
                count = length // 3 if agreed or not names else count
            found.append(count)
        return found


def annotation_table(content: Mapping[str, Any], where: str) -> AnnotationTable:
    """The table of a json whose `images`, `categories` and, if there are any, `annotations` are lists of objects."""
    references = normalise(content)
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
        image=_indices([a.get("image_id") for a in annotations], images),
        category=_indices([a.get("category_id") for a in annotations], categories),
        crowd=np.array([bool(a.get("iscrowd")) for a in annotations], dtype=bool),
        boxes=number_rows([a.get("bbox") for a in annotations], 4),
        sizes=sizes,
    )


def number_rows(rows: Sequence[Any], length: int) -> np.ndarray:
    """Lists of `length` numbers as an array, n x length; NaN where a row is anything else."""
    result = np.full((len(rows), length), np.nan)
    fitting = np.flatnonzero([isinstance(row, list) and len(row) == length for row in rows])
    for start in range(0, len(fitting), CHUNK):
        part = fitting[start : start + CHUNK]
        flat = list(chain.from_iterable(rows[i] for i in part))
        if set(map(type, flat)) <= {int, float, bool}:
            result[part] = _array(flat).reshape(-1, length)
        else:
            for i in part:
                if set(map(type, rows[i])) <= {int, float, bool}:
                    result[i] = _array(rows[i])
    return result


def _indices(ids: Sequence[Any], entries: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The indices of the entries with these ids, -1 where there is none; of equal ids the last one, as in a dict."""
    known = {
        entry["id"]: i
        for i, entry in enumerate(entries)
        if isinstance(entry.get("id"), (int, str, float))
    }
    return np.array(
        [known.get(value, -1) if isinstance(value, (int, str, float)) else -1 for value in ids],
        dtype=np.int64,
    )


def _array(values: Sequence[Any]) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:  # an integer of hundreds of digits
        return np.array([float(v) if abs(v) < 1e300 else np.inf for v in values])
