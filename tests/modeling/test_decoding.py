"""Decoding against detectron2's, which goes from region to region."""

import pytest
import torch
from detectron2.structures.keypoints import heatmaps_to_keypoints

from hrnet_kpt.modeling import decoding
from hrnet_kpt.modeling.decoding import decode_heatmaps


def regions(count, largest, seed):
    """Maps with a peak and some noise, and boxes of up to `largest` pixels."""
    generator = torch.Generator().manual_seed(seed)
    peaks = 56 * torch.rand(count, 5, 2, 1, 1, generator=generator)
    y, x = torch.meshgrid(torch.arange(56.0), torch.arange(56.0), indexing="ij")
    distance = (x - peaks[:, :, 0]) ** 2 + (y - peaks[:, :, 1]) ** 2
    maps = 8 * (-distance / 30).exp() + torch.randn(distance.shape, generator=generator)
    corners = 300 * torch.rand(count, 2, generator=generator)
    sizes = largest * torch.rand(count, 2, generator=generator)
    return maps, torch.cat([corners, corners + sizes], dim=1)


def assert_equal(found, expected):
    """Positions are whole pixels of the region, so they are equal or a pixel apart; logits are sums of 16 products."""
    torch.testing.assert_close(found[..., :2], expected[..., :2], rtol=0, atol=1e-3)
    torch.testing.assert_close(found[..., 2], expected[..., 2], rtol=0, atol=1e-4)
    torch.testing.assert_close(found[..., 3], expected[..., 3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("count", "largest"), [(1, 40), (12, 30), (12, 130), (6, 400), (12, 2)])
def test_keypoints_are_detectron2s(count, largest):
    maps, boxes = regions(count, largest, seed=count + largest)
    assert_equal(decode_heatmaps(maps, boxes), heatmaps_to_keypoints(maps, boxes))


def test_regions_in_many_chunks_are_those_in_one(monkeypatch):
    maps, boxes = regions(12, 100, seed=1)
    together = decode_heatmaps(maps, boxes)
    monkeypatch.setattr(decoding, "LARGEST_CHUNK", 20_000)
    assert_equal(decode_heatmaps(maps, boxes), together)


@pytest.mark.parametrize(
    "box", [[3.0, 4.0, 3.0, 4.0], [0.0, 0.0, 56.0, 56.0], [5.5, 2.5, 805.25, 4.75]]
)
def test_boxes_without_area_of_the_maps_own_size_and_long_ones(box):
    maps, _ = regions(1, 10, seed=3)
    boxes = torch.tensor([box])
    assert_equal(decode_heatmaps(maps, boxes), heatmaps_to_keypoints(maps, boxes))


def test_no_regions_give_no_keypoints():
    assert decode_heatmaps(torch.zeros(0, 17, 56, 56), torch.zeros(0, 4)).shape == (0, 17, 4)
