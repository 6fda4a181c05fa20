"""What the data of a new config are: images, objects and keypoints, counted and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...data.categories import keypoint_names, read_labels
from ...data.coco import read_json
from ...data.image_range import UNREADABLE, ImageRange, find_image_range
from ...data.images import image_paths
from ...dataset_checks.keypoints import labelled_counts
from ...dataset_checks.table import AnnotationTable, annotation_table
from ...errors import UserError
from .appearance import Colors, Direction, compare_colors, find_direction

MIN_IMAGES = 5  # to learn from


@dataclass(frozen=True)
class Survey:
    """The objects of a data set, in pixels of the original images.

    Attributes:
        image_sizes: (M, 2) width and height of the training images with an object to learn from.
        box_sizes: (N, 2) width and height of the boxes in them.
        box_image: (N,) index of each box's image.
        class_objects: Number of objects by class, the most frequent first.
        class_images: Number of images by class.
        most_objects: Maximum number of objects in an image of either set.
        most_of_class: Maximum number of objects of one class in an image of either set.
        unlabeled: Number of training images without an object to learn from, which are left out of training.
        test_images, test_objects: Numbers in the test set.
        keypoints: Names.
        flip_pairs: Pairs of names that a flip swaps.
        image_range: data.image_range of the training images.
        colors: How the colors of test images differ from those of training images.
        direction: In which directions the objects lie.
    """

    image_sizes: np.ndarray
    box_sizes: np.ndarray
    box_image: np.ndarray
    class_objects: dict[str, int]
    class_images: dict[str, int]
    most_objects: int
    most_of_class: int
    test_images: int
    test_objects: int
    unlabeled: int = 0
    keypoints: Sequence[str] = ()
    flip_pairs: Sequence[Sequence[str]] = ()
    image_range: ImageRange = "8-bit"
    colors: Colors | None = None
    direction: Direction | None = None

    @property
    def images(self) -> int:
        """Number of training images with an object to learn from."""
        return len(self.image_sizes)

    @property
    def objects(self) -> int:
        """Number of training objects."""
        return len(self.box_sizes)

    @property
    def short_side(self) -> float:
        """Median of the images' shorter sides, in pixels."""
        return float(np.median(self.image_sizes.min(axis=1)))

    def box_sizes_at(self, short: int, longest: int) -> np.ndarray:
        """Width and height of the boxes, (N, 2), in images resized as detectron2's ResizeShortestEdge does."""
        sides = self.image_sizes.astype(float)
        scales = np.minimum(short / sides.min(axis=1), longest / sides.max(axis=1))
        return self.box_sizes * scales[self.box_image][:, None]


def survey_data(
    train: tuple[str, str], test: tuple[str, str], with_keypoints: bool = True
) -> Survey:
    """Measure a data set.

    Args:
        train, test: Path of the COCO-format json, and folder of the images.
        with_keypoints: Whether keypoints are learned, and not boxes alone.

    Raises:
        UserError: If a json cannot be read, the training set has no object with a box or less than MIN_IMAGES images
            with one, or the test set is empty.
    """
    table, test_table = (annotation_table(read_json(where), where) for where, _ in (train, test))
    paths = image_paths(table.images, train[1])
    learned, test_boxes = _learned(table, with_keypoints), test_table.instances & test_table.boxed
    rows = np.unique(table.image[learned])
    if len(rows) < MIN_IMAGES:
        raise UserError(
            f"{train[0]}: {len(rows)} of its {len(table.images)} images have an object to learn from, with a box and "
            f"a labelled keypoint: label at least {MIN_IMAGES}, better 50"
        )
    if not test_boxes.any():
        raise UserError(
            f"{test[0]}: {len(test_table.images)} images and no object with a box: a training is measured by its test "
            "set; move some labelled images there"
        )
    schema = None
    if with_keypoints and any(keypoint_names(category) for category in table.categories):
        schema, _ = read_labels(read_json(train[0]), train[0])
    names = [str(category.get("name")) for category in table.categories]
    of_class = {i: learned & (table.category == i) for i in range(len(names))}
    order = sorted(of_class, key=lambda i: -of_class[i].sum())
    image_range, _ = find_image_range([path for path in paths if path])
    return Survey(
        image_sizes=np.array([_size(table, row, paths[row]) for row in rows]),
        box_sizes=table.boxes[learned, 2:],
        box_image=np.searchsorted(rows, table.image[learned]),
        class_objects={names[i]: int(of_class[i].sum()) for i in order},
        class_images={names[i]: len(np.unique(table.image[of_class[i]])) for i in order},
        most_objects=max(_most(table, None), _most(test_table, None)),
        most_of_class=max(
            _most(own, i) for own in (table, test_table) for i in range(len(own.categories))
        ),
        unlabeled=len(table.images) - len(rows),
        test_images=len(test_table.images),
        test_objects=int(test_boxes.sum()),
        keypoints=schema.names if schema else (),
        flip_pairs=schema.flip_pairs if schema else (),
        image_range=image_range,
        colors=compare_colors(
            [paths[row] for row in rows], image_paths(test_table.images, test[1])
        ),
        direction=find_direction(table, learned) if schema else None,
    )


def _learned(table: AnnotationTable, with_keypoints: bool) -> np.ndarray:
    """Which annotations training learns from, (N,): with a labelled keypoint, or of a class without keypoints."""
    learned = table.instances & table.boxed & (table.category >= 0)
    if with_keypoints and len(table.categories):
        needs_keypoints = np.array(table.num_keypoints)[table.category] > 0
        learned &= (labelled_counts(table) > 0) | ~needs_keypoints
    return learned


def _most(table: AnnotationTable, category: int | None) -> int:
    """Maximum number of objects in an image, of one category or of all."""
    chosen = table.instances & ((table.category == category) | (category is None))
    return int(np.bincount(table.image[chosen]).max(initial=0))


def _size(table: AnnotationTable, row: int, path: str | None) -> Sequence[float]:
    """Width and height of an image, from the json or else from the file."""
    size = table.sizes[row]
    if np.isfinite(size).all():
        return [float(side) for side in size]
    try:
        with Image.open(path or "") as image:
            return image.size
    except UNREADABLE as error:
        raise UserError(
            f"{table.where}: image {table.images[row].get('file_name')!r} has no width and height, and cannot be "
            f"opened ({error}): give --images, the folder of the images"
        ) from error
