"""Positions between cells against maps whose highest point is known, and against the formulas in numpy."""

import numpy as np
import pytest
import torch

from hrnet_kpt.modeling.dark import SIGMA, dark_positions

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
    reach = int(3 * SIGMA)
    kernel = np.array([np.exp(-(i**2) / (2 * SIGMA**2)) for i in range(-reach, reach + 1)])
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
    place = np.array([x, y]) + 0.5 - np.linalg.solve(curve, slope).clip(-1, 1)
    return box[:2] + place.clip(0, SIDE) * (box[2:] - box[:2]) / SIDE


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
