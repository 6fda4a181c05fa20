"""From heatmaps to keypoints, for many regions at once."""

from __future__ import annotations

import torch
from torch import Tensor

CUBIC = -0.75  # the coefficient of torch's bicubic interpolation
LARGEST_CHUNK = 2**24  # values of interpolated maps that are in memory at once: 64 MiB


def decode_heatmaps(maps: Tensor, boxes: Tensor) -> Tensor:
    """The keypoints of N regions: where their maps, stretched over their boxes, are highest.

    maps: N x K x S x S, logits. boxes: N x 4, corners in pixels.

    Returns N x K x 4: x and y in pixels, the logit there, and detectron2's score, the softmax over the stretched map
    normalised by the sum over the S x S one. Equal to detectron2's `heatmaps_to_keypoints`: bicubic interpolation to
    whole pixels, then the highest. Here regions of like size are interpolated together, by two matrix products.
    """
    count, keypoints = maps.shape[:2]
    maps = maps.float()
    sizes = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
    pixels = sizes.ceil()
    found = maps.new_zeros(count, keypoints, 4)
    order = pixels.prod(dim=1).argsort()
    for start, end, height, width in _chunks(pixels[order], keypoints):
        chosen = order[start:end]
        stretched = _interpolate(maps[chosen], pixels[chosen], height, width)
        logit, index = stretched.flatten(2).max(dim=2)
        position = torch.stack([index % width, index // width], dim=-1).float() + 0.5
        found[chosen, :, :2] = (
            position * (sizes / pixels)[chosen][:, None] + boxes[chosen, None, :2]
        )
        found[chosen, :, 2] = logit
    found[..., 3] = (maps - found[..., 2, None, None]).exp().sum(dim=(2, 3)).reciprocal()
    return found


def _chunks(pixels: Tensor, keypoints: int) -> list[tuple[int, int, int, int]]:
    """Slices of regions, ordered by area, with the height and width that hold them: start, end, height, width."""
    chunks: list[tuple[int, int, int, int]] = []
    for i, (width, height) in enumerate(pixels.int().tolist()):
        if chunks:
            start, _, highest, widest = chunks[-1]
            highest, widest = max(highest, height), max(widest, width)
            if (i + 1 - start) * keypoints * highest * widest <= LARGEST_CHUNK:
                chunks[-1] = start, i + 1, highest, widest
                continue
        chunks.append((i, i + 1, height, width))
    return chunks


def _interpolate(maps: Tensor, pixels: Tensor, height: int, width: int) -> Tensor:
    """n x K x S x S maps to n x K x height x width, -inf beyond each region's own size.

    pixels: n x 2, width and height of each region, whole numbers.
    """
    side = maps.shape[-1]
    columns = _weights(pixels[:, 0], width, side)
    rows = _weights(pixels[:, 1], height, side)
    stretched = rows[:, None] @ (maps @ columns[:, None].mT)
    outside_columns = torch.arange(width, device=maps.device) >= pixels[:, :1]
    outside_rows = torch.arange(height, device=maps.device) >= pixels[:, 1:]
    stretched.masked_fill_(outside_columns[:, None, None, :], -torch.inf)
    return stretched.masked_fill_(outside_rows[:, None, :, None], -torch.inf)


def _weights(sizes: Tensor, length: int, side: int) -> Tensor:
    """What each of `side` values counts in each of `length` interpolated ones: n x length x side.

    sizes: n, the number of values that region has after interpolation; later rows mean nothing.
    """
    place = torch.arange(length, device=sizes.device, dtype=sizes.dtype) + 0.5
    source = place * (side / sizes)[:, None] - 0.5
    first = source.floor()
    t = source - first
    near, far = t, 1 - t
    taps = torch.stack(
        [_outer(near + 1), _inner(near), _inner(far), _outer(far + 1)], dim=-1
    )  # of the values at first - 1, first, first + 1, first + 2; those beyond the border repeat it
    index = first.long()[..., None] + torch.arange(-1, 3, device=sizes.device)
    weights = taps.new_zeros(*taps.shape[:2], side)
    return weights.scatter_add_(2, index.clamp(0, side - 1), taps)


def _inner(x: Tensor) -> Tensor:
    """The cubic convolution kernel for distances from 0 to 1 (Keys, 1981)."""
    return ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1


def _outer(x: Tensor) -> Tensor:
    """The same for distances from 1 to 2."""
    return ((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC
