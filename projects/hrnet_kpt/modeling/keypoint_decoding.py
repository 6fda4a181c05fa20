"""Decoding heatmaps to keypoints: batched argmax after bicubic resizing, or sub-cell positions (DARK)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CUBIC = -0.75  # the coefficient of torch's bicubic interpolation
# Rows of a heatmap that are interpolated together, so that the products stay in the CPU cache.
BAND = 14
# Largest numbers of weights, and of interpolated values on a CPU and on a GPU, that are computed together.
LARGEST_GROUP, LARGEST_CHUNK, LARGEST_CHUNK_OF_GPU = 2**22, 2**19, 2**26
DARK_SIGMA = 2.0  # of the Gaussian that smooths a map, in cells: the paper's for maps of 64 x 48


def decode_heatmaps(maps: Tensor, boxes: Tensor) -> Tensor:
    """Find the keypoints of N regions: the maxima of heatmaps that are resized to the boxes.

    Equal to detectron2's `heatmaps_to_keypoints`: bicubic resizing, then argmax. Here regions of similar size are
    resized together, by matrix products.

    Args:
        maps: N x K x S x S, logits.
        boxes: N x 4, corners in pixels.

    Returns:
        N x K x 4: x and y in pixels, the logit there, and detectron2's score, the exponential of the logit divided by
        the sum of exponentials over the S x S heatmap.
    """
    count, keypoints, side = maps.shape[:3]
    maps = maps.float().contiguous()
    sizes = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
    pixels = sizes.ceil()
    order = pixels.prod(dim=1).argsort()
    largest = LARGEST_CHUNK_OF_GPU if maps.is_cuda else LARGEST_CHUNK
    ordered = pixels[order].int().tolist()  # the only wait for a GPU
    peaks, logits, totals = [], [], []
    for start, end in _slices([(side + 4) * (w + h) for w, h in ordered], LARGEST_GROUP):
        own_pixels = ordered[start:end]
        group = _Group(pixels[order[start:end]], own_pixels, side)
        areas = [keypoints * w * h for w, h in own_pixels]
        for first, last in _slices(areas, largest):
            own = maps[order[start + first : start + last]]
            width, height = (max(lengths) for lengths in zip(*own_pixels[first:last], strict=True))
            peak, logit = group.argmax(own, first, last, width, height)
            peaks.append(peak)
            logits.append(logit)
            totals.append((own - logit[..., None, None]).exp_().sum(dim=(2, 3)))
    found = maps.new_zeros(count, keypoints, 4)
    if count:
        scale = (sizes / pixels)[order, None]
        position = (torch.cat(peaks) + 0.5) * scale + boxes[order, None, :2]
        logit, total = torch.cat(logits)[..., None], torch.cat(totals)[..., None]
        found[order] = torch.cat([position, logit, total.reciprocal()], dim=2)
    return found


def _slices(costs: list[int], largest: int) -> list[tuple[int, int]]:
    """Group neighbours while their number times the highest of their costs is at most `largest`."""
    slices: list[tuple[int, int]] = []
    highest = 0
    for i, cost in enumerate(costs):
        highest = max(highest, cost)
        if slices and (i + 1 - slices[-1][0]) * highest <= largest:
            slices[-1] = slices[-1][0], i + 1
        else:
            slices.append((i, i + 1))
            highest = cost
    return slices


class _Group:
    """The weights of two matrix products that resize n heatmaps of S x S to regions of at most W x H pixels.

    Cells at the border are replicated, two at each edge (below, up to a multiple of the band height):

      maps (S + 4) x (S + 4)     wide (S + 4) x W              region H x W
        +----------------+      +-----------------+          +-----------------+
        |   2 repeated   |      |                 |--+       |                 |
        |                |      |   BAND cells    |  |       |  rows in band 0 |
        |     S x S      |      |                 |  |       |                 |
        |     logits     | ---> +- - - - - - - - -+  | ----> +- - - - - - - - -+
        |                |      |  4 more, shared |--+       |  rows in band 1 |
        |   2 repeated   |      |       ...       |          |       ...       |
        +----------------+      +-----------------+          +-----------------+
               columns: n x W x (S + 4)      bands[0]: n x rows x (BAND + 4)

    The bands are `rows` (n x H x (S + 4)), which have only 4 nonzero weights in a row, without most zeros. The maximum
    of each column is taken band by band, so that a region is never in memory as a whole; `rows` then gives the position
    in the best column.

    Args:
        pixels: n x 2, width and height of each region, integers as floats.
        sizes: the same as lists.
        side: S.
    """

    def __init__(self, pixels: Tensor, sizes: list[list[int]], side: int) -> None:
        width, height = (max(lengths) for lengths in zip(*sizes, strict=True))
        lowest = min(height for _, height in sizes)
        self.pixels = pixels
        self.columns, _ = _weights(pixels[:, 0], width, side)
        self.rows, before = _weights(pixels[:, 1], height, side)
        count = -(-side // BAND)
        self.padding = (2, 2, 2, 2 + count * BAND - side)
        bands = torch.arange(count + 1, device=pixels.device).expand(len(pixels), -1).contiguous()
        of_rows = before.clamp(min=0).div(BAND, rounding_mode="floor")
        starts = torch.searchsorted(of_rows, bands)
        steps = torch.arange(_rows_of_band(height, side), device=pixels.device)
        self.bands = []
        of_bands = F.pad(self.rows, (0, count * BAND - side))
        for band in range(count):
            # Rows of the band; regions that have fewer repeat the last.
            last = (starts[:, band + 1] - 1).clamp(min=0)
            chosen = (starts[:, band, None] + steps).minimum(last[:, None])
            rows = of_bands[..., band * BAND : (band + 1) * BAND + 4]
            self.bands.append(rows.gather(1, chosen[..., None].expand(-1, -1, rows.shape[2])))
        # Rows further apart than a band, or than twice the cells of the last one, may leave bands without any.
        cells = min(BAND, 2 * (side - (count - 1) * BAND) - 1)
        self.empty = starts.diff() == 0 if lowest * cells < 1.001 * side else None

    def argmax(
        self, maps: Tensor, first: int, last: int, width: int, height: int
    ) -> tuple[Tensor, Tensor]:
        """Find the maxima of the heatmaps of regions `first` to `last` - 1.

        Args:
            maps: m x K x S x S, the heatmaps of these regions.
            first: index of the first region.
            last: index after the last region.
            width: the largest width of these regions.
            height: the largest height of these regions.

        Returns:
            m x K x 2, x and y of a pixel, and m x K, the values.
        """
        count, keypoints, side = maps.shape[:3]
        columns, rows = self.columns[first:last, :width], self.rows[first:last, :height]
        rows_of_band = _rows_of_band(height, side)
        # Replicate the border up to the last row that has weights in the last band.
        padded = F.pad(maps, self.padding, mode="replicate")
        wide = (padded.flatten(1, 2) @ columns.mT).view(count, keypoints, -1, width)
        highest = wide.new_full((), -torch.inf)
        for band, weights in enumerate(self.bands):
            low, high = band * BAND, (band + 1) * BAND + 4
            peaks = (weights[first:last, None, :rows_of_band] @ wide[:, :, low:high]).amax(dim=2)
            if self.empty is not None:
                peaks.masked_fill_(self.empty[first:last, band, None, None], -torch.inf)
            highest = highest.maximum(peaks)
        logit, x = highest.max(dim=2)
        around = x[..., None, None].expand(-1, -1, rows.shape[2], -1)
        peaks = wide[:, :, : rows.shape[2]].gather(3, around)[..., 0]
        y = (peaks @ rows.mT).argmax(dim=2)
        # Columns and rows beyond a region repeat its last one.
        return torch.stack([x, y], dim=-1).minimum(self.pixels[first:last, None] - 1), logit


def _rows_of_band(height: int, side: int) -> int:
    """The largest number of rows in a band of a region, or one more where rounding may decide.

    Rows are side / height cells apart, the first half of that from the upper edge.
    """
    rows_of_cell = height / side
    most = max(
        BAND * rows_of_cell, (BAND + 0.5) * rows_of_cell - 0.5
    )  # the first band: from -0.5 on
    return min(height, math.ceil(most * (1 + 1e-5) + 1e-5))


def _weights(sizes: Tensor, length: int, side: int) -> tuple[Tensor, Tensor]:
    """The weights of `side` values, with two more at either end, in each interpolated value.

    Args:
        sizes: n, the number of values of a region after interpolation; from there up to `length` the last repeats.
        length: the largest of `sizes`.
        side: S.

    Returns:
        n x length x (side + 4), and n x length: the index of the value before each interpolated one.
    """
    pixel = torch.arange(length, device=sizes.device, dtype=sizes.dtype)
    pixel = pixel.minimum(sizes[:, None] - 1)
    source = (pixel + 0.5) * (side / sizes)[:, None] - 0.5
    first = source.floor()
    near = source - first
    far = 1 - near
    # The weights of the values at first - 1, first, first + 1, first + 2.
    taps = torch.stack([_outer(near + 1), _inner(near), _inner(far), _outer(far + 1)], dim=-1)
    index = first.long()[..., None] + torch.arange(1, 5, device=sizes.device)
    weights = taps.new_zeros(*first.shape, side + 4)
    return weights.scatter_(2, index, taps), first


def _inner(x: Tensor) -> Tensor:
    """The cubic convolution kernel for distances from 0 to 1 (Keys, 1981)."""
    return ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1


def _outer(x: Tensor) -> Tensor:
    """The same for distances from 1 to 2."""
    return ((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC


def dark_positions(maps: Tensor, boxes: Tensor) -> Tensor:
    """Find the maxima of the smoothed heatmaps of N regions, with sub-cell precision.

    The probabilities are smoothed, and a parabola is fitted to the logarithm around its highest cell (DARK: Zhang et
    al., 2020, https://arxiv.org/abs/1910.06278).

    Args:
        maps: N x K x S x S, logits of a softmax over the cells.
        boxes: N x 4, corners in pixels.

    Returns:
        N x K x 2: x and y in pixels.
    """
    count, keypoints, side = maps.shape[:3]
    probabilities = maps.float().flatten(2).softmax(dim=2).view(-1, side, side)
    # As products with a band matrix: a convolution of one channel is slow, and has 11 bits (TF32) on many GPUs.
    cells = torch.arange(side, device=maps.device, dtype=torch.float32)
    distance = (cells - cells[:, None]).abs()
    radius = int(3 * DARK_SIGMA)
    total = sum(math.exp(-(i**2) / (2 * DARK_SIGMA**2)) for i in range(-radius, radius + 1))
    kernel = torch.exp(-(distance**2) / (2 * DARK_SIGMA**2)) / total * (distance <= radius)
    smooth = kernel @ probabilities @ kernel
    logarithm = smooth.clamp(min=torch.finfo(smooth.dtype).tiny).log()

    peak = logarithm.flatten(1).argmax(dim=1)
    y, x = peak // side, peak % side
    padded = F.pad(logarithm[:, None], (1, 1, 1, 1), mode="replicate").flatten(1)

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
    # Otherwise the parabola has no maximum, and the centre of the cell is used.
    peaked = (determinant > 1e-6) & (curve_x < 0)
    offsets = torch.stack(
        [twist * slope_y - curve_y * slope_x, twist * slope_x - curve_x * slope_y], dim=1
    )
    offsets = torch.where(peaked[:, None], offsets / determinant[:, None], 0.0).clamp(-1, 1)
    position = torch.stack([x, y], dim=1) + 0.5 + offsets
    scale = (boxes[:, None, 2:] - boxes[:, None, :2]).clamp(min=1) / side
    return position.view(count, keypoints, 2).clamp(0, side) * scale + boxes[:, None, :2]
