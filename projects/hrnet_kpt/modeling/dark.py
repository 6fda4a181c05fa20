"""Keypoints between the cells of their maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIGMA = 2.0  # of the Gaussian that smooths a map, in cells: the paper's for maps of 64 x 48


def dark_positions(maps: Tensor, boxes: Tensor) -> Tensor:
    """Where the smoothed maps of N regions are highest, between their cells.

    maps: N x K x S x S, logits of a softmax over the cells. boxes: N x 4, corners in pixels.

    The probabilities are smoothed, and a parabola is laid through the neighbours of the highest cell of their logarithm
    (DARK: Zhang et al., 2020, https://arxiv.org/abs/1910.06278). Returns N x K x 2: x and y in pixels.
    """
    count, keypoints, side = maps.shape[:3]
    probabilities = maps.float().flatten(2).softmax(dim=2).view(-1, 1, side, side)
    radius = int(3 * SIGMA)
    steps = torch.arange(-radius, radius + 1, device=maps.device, dtype=torch.float32)
    kernel = torch.exp(-(steps**2) / (2 * SIGMA**2))
    kernel /= kernel.sum()
    smooth = F.conv2d(probabilities, kernel.view(1, 1, 1, -1), padding=(0, radius))
    smooth = F.conv2d(smooth, kernel.view(1, 1, -1, 1), padding=(radius, 0))
    logarithm = smooth.clamp(min=torch.finfo(smooth.dtype).tiny).log()

    peak = logarithm.flatten(1).argmax(dim=1)
    y, x = peak // side, peak % side
    padded = F.pad(logarithm, (1, 1, 1, 1), mode="replicate").flatten(1)

    def beside(right: int, down: int) -> Tensor:
        index = (y + 1 + down) * (side + 2) + x + 1 + right
        return padded.gather(1, index[:, None])[:, 0]

    centre, left, right, up, down = (
        beside(*step) for step in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
    )
    slope_x, slope_y = (right - left) / 2, (down - up) / 2
    curve_x, curve_y = left + right - 2 * centre, up + down - 2 * centre
    twist = (beside(1, 1) - beside(-1, 1) - beside(1, -1) + beside(-1, -1)) / 4
    determinant = curve_x * curve_y - twist**2
    # Elsewhere the parabola has no highest point, and the cell's middle is as good as any.
    peaked = (determinant > 1e-6) & (curve_x < 0)
    offsets = torch.stack(
        [twist * slope_y - curve_y * slope_x, twist * slope_x - curve_x * slope_y], dim=1
    )
    offsets = torch.where(peaked[:, None], offsets / determinant[:, None], 0.0).clamp(-1, 1)
    position = torch.stack([x, y], dim=1) + 0.5 + offsets
    scale = (boxes[:, None, 2:] - boxes[:, None, :2]).clamp(min=1) / side
    return position.view(count, keypoints, 2).clamp(0, side) * scale + boxes[:, None, :2]
