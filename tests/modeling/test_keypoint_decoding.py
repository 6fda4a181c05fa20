"""Decoding against detectron2's, and DARK against known centres and the formulas in numpy."""

import numpy as np
import pytest
import torch
from detectron2.structures.keypoints import heatmaps_to_keypoints

from hrnet_kpt.modeling import keypoint_decoding
from hrnet_kpt.modeling.keypoint_decoding import DARK_SIGMA, dark_positions, decode_heatmaps


def regions(count, largest, seed, side=56):
    """Maps of side x side with a peak and some noise, and boxes of up to `largest` pixels."""
    generator = torch.Generator().manual_seed(seed)
    peaks = side * torch.rand(count, 5, 2, 1, 1, generator=generator)
    y, x = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
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


@pytest.mark.parametrize("side", [20, 64, 80])
def test_maps_of_other_sizes_give_detectron2s_keypoints(side):
    """As poolers of 5, 16 and 20 bins give them."""
    maps, boxes = regions(12, 130, seed=side, side=side)
    assert_equal(decode_heatmaps(maps, boxes), heatmaps_to_keypoints(maps, boxes))


def test_regions_in_many_chunks_are_those_in_one(monkeypatch):
    maps, boxes = regions(12, 100, seed=1)
    together = decode_heatmaps(maps, boxes)
    monkeypatch.setattr(keypoint_decoding, "LARGEST_CHUNK", 20_000)
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


SIDE = 56


def gaussian_maps(centres, spread):
    """Logits whose softmax is a Gaussian; centres: N x K x 2, in cells from the map's left and upper edge."""
    grid = torch.arange(SIDE) + 0.5
    x = (grid - centres[..., 0, None]) ** 2
    y = (grid - centres[..., 1, None]) ** 2
    return -(x[..., None, :] + y[..., :, None]) / (2 * spread**2)


@pytest.mark.parametrize("spread", [0.7, 1.5, 4.0])
def test_centres_of_gaussians_are_found(spread):
    # Far enough from the border that nothing is cut off.
    centres = 16 + 24 * torch.rand(20, 3, 2, generator=torch.Generator().manual_seed(0))
    corners = torch.tensor([[10.0, 20.0]]).expand(20, -1)
    boxes = torch.cat([corners, corners + torch.tensor([112.0, 28.0])], dim=1)
    found = dark_positions(gaussian_maps(centres, spread), boxes)
    expected = corners[:, None] + centres * torch.tensor([2.0, 0.5])
    # A Gaussian stays one when it is smoothed, but for the kernel's end at three of its deviations.
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)


def by_numpy(scores, box):
    """One map, step by step."""
    probability = np.exp(scores - scores.max())
    probability /= probability.sum()
    reach = int(3 * DARK_SIGMA)
    kernel = np.array([np.exp(-(i**2) / (2 * DARK_SIGMA**2)) for i in range(-reach, reach + 1)])
    kernel /= kernel.sum()
    for axis in (0, 1):
        probability = np.apply_along_axis(np.convolve, axis, probability, kernel, mode="same")
    logs = np.log(probability)
    y, x = np.unravel_index(logs.argmax(), logs.shape)
    logs = np.pad(logs, 1, mode="edge")[y : y + 3, x : x + 3]
    slope = np.array([logs[1, 2] - logs[1, 0], logs[2, 1] - logs[0, 1]]) / 2
    twist = (logs[2, 2] - logs[2, 0] - logs[0, 2] + logs[0, 0]) / 4
    curve = np.array(
        [
            [logs[1, 0] + logs[1, 2] - 2 * logs[1, 1], twist],
            [twist, logs[0, 1] + logs[2, 1] - 2 * logs[1, 1]],
        ]
    )
    position = np.array([x, y]) + 0.5 - np.linalg.solve(curve, slope).clip(-1, 1)
    return box[:2] + position.clip(0, SIDE) * (box[2:] - box[:2]) / SIDE


def test_positions_follow_the_formulas_for_maps_of_noise():
    generator = torch.Generator().manual_seed(0)
    maps = 3 * torch.randn(6, 4, SIDE, SIDE, generator=generator)
    boxes = torch.tensor([[3.5, 4.0, 90.0, 200.0]]).expand(6, -1)
    found = dark_positions(maps, boxes)
    for i in range(6):
        for k in range(4):
            expected = by_numpy(maps[i, k].double().numpy(), boxes[i].double().numpy())
            # Differences of logarithms that are near to each other, in float32.
            assert found[i, k].tolist() == pytest.approx(expected.tolist(), abs=0.01)


@pytest.mark.parametrize("cell", [(0, 0), (0, 55), (55, 20)])
def test_peaks_on_the_border_stay_in_the_box(cell):
    maps = torch.zeros(1, 1, SIDE, SIDE)
    maps[0, 0, cell[0], cell[1]] = 30.0
    (x, y) = dark_positions(maps, torch.tensor([[10.0, 10.0, 66.0, 66.0]]))[0, 0].tolist()
    assert (x, y) == pytest.approx((10.5 + cell[1], 10.5 + cell[0]), abs=1)
    assert 10 <= x <= 66 and 10 <= y <= 66


def test_flat_maps_small_boxes_and_none():
    found = dark_positions(torch.zeros(2, 1, 28, 28), torch.tensor([[5.0, 5, 5, 5], [0, 0, 9, 9]]))
    assert found.isfinite().all()
    assert dark_positions(torch.zeros(0, 17, 56, 56), torch.zeros(0, 4)).shape == (0, 17, 2)
