"""Areas of objects: worked out by hand."""

import pytest

from hrnet_kpt.data.areas import plausible_area, segmentation_area

BOX = [10, 10, 20, 10]
SQUARE = [[10, 10, 20, 10, 20, 20, 10, 20]]
# Columns of a 40 x 60 image (height, width): 50 pixels, 30 of the object, the rest.
RLE = {"size": [40, 60], "counts": [50, 30, 2320]}


@pytest.mark.parametrize(
    ("segmentation", "area"),
    [
        (SQUARE, 100),
        ([*SQUARE, [20, 10, 25, 10, 25, 20, 20, 20]], 150),
        (RLE, 30),
        (None, 106),
        ([], 106),
        ("x", 106),
        ([[1, 2]], 106),
        ([["x"] * 6], 106),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], 106),
        ([[0, 0, 60, 0, 60, 40, 0, 40]], 106),  # the whole image exceeds the box
    ],
)
def test_area_of_the_segmentation_or_053_of_the_box(segmentation, area):
    annotation = {"bbox": BOX, "segmentation": segmentation}
    assert plausible_area(annotation, (60, 40)) == pytest.approx(area)


@pytest.mark.parametrize("size", [(None, None), (float("nan"), 40), ("x", 1)])
def test_polygons_have_no_area_in_an_image_of_unknown_size(size):
    assert segmentation_area({"segmentation": SQUARE}, size) is None
    assert segmentation_area({"segmentation": RLE}, size) == 30
