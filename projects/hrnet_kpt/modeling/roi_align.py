"""ROIAlign for processors, where torchvision's works one value at a time in one thread."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.layers import ROIAlign
from torch import Tensor

# Bounds the memory of the lists of cells: a region of all of 200 x 304 cells has lists of 5 MB.
REGIONS_AT_ONCE = 128


class CpuROIAlign(ROIAlign):
    """detectron2's ROIAlign, with the same results up to rounding, as sums of whole feature vectors.

    What a bin of a region holds, the mean of bilinear samples, is a weighted sum of the cells that it touches; the
    weights are products of one for the row and one for the column. Features with their channels last need no copy.
    On other devices than the CPU it is torchvision's own kernel that works.
    """

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pooled regions, N x C x output_size, with their channels last in memory.

        Args:
            input: features, B x C x H x W.
            rois: N x 5, the index of the image, and corners in pixels of the image.
        """
        if input.device.type != "cpu":
            return super().forward(input, rois)
        if not len(rois):
            return input.new_zeros(0, input.shape[1], *self.output_size)
        return torch.cat([self._pool(input, some) for some in rois.split(REGIONS_AT_ONCE)])

    def _pool(self, input: Tensor, rois: Tensor) -> Tensor:
        batch, channels, height, width = input.shape
        rows, columns = self.output_size
        corners = rois[:, 1:].float() * self.spatial_scale - (0.5 if self.aligned else 0.0)
        sides = corners[:, 2:] - corners[:, :2]
        if not self.aligned:
            sides = sides.clamp(min=1)
        x, of_x = _weights(corners[:, 0], sides[:, 0], columns, width, self.sampling_ratio)
        y, of_y = _weights(corners[:, 1], sides[:, 1], rows, height, self.sampling_ratio)
        # One bag of cells for each bin, N x rows x columns of them, each of as many cells as have a weight.
        x_count, y_count = _touched(of_x), _touched(of_y)
        counts = (y_count[:, :, None] * x_count[:, None, :]).flatten()
        offsets = F.pad(counts.cumsum(0), (1, 0))
        bags = torch.arange(len(counts)).repeat_interleave(counts)
        region = bags // (rows * columns)
        row, column = bags // columns, region * columns + bags % columns
        cell = torch.arange(len(bags)) - offsets[bags]
        across = x_count.flatten()[column]
        down, along = cell // across, cell % across
        weights = (
            of_y.flatten()[row * of_y.shape[2] + down]
            * of_x.flatten()[column * of_x.shape[2] + along]
        )
        index = rois[:, 0].long()[region] * height + y.flatten()[row] + down
        index = index * width + x.flatten()[column] + along
        table = input.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
        pooled = F.embedding_bag(
            index,
            table,
            offsets,
            mode="sum",
            per_sample_weights=weights.to(table.dtype),
            include_last_offset=True,
        )
        return pooled.view(len(rois), rows, columns, channels).permute(0, 3, 1, 2)


def _weights(
    start: Tensor, length: Tensor, bins: int, size: int, samples: int
) -> tuple[Tensor, Tensor]:
    """Along one axis: the first cell that each bin touches (N x bins), and the weights from there on (N x bins x n).

    Args:
        start, length: of each region, in cells.
        size: the number of cells that there are.
        samples: in a bin; 0: as many as the bin has cells, rounded up.
    """
    bin_length = length / bins
    count = torch.full_like(length, samples) if samples > 0 else bin_length.ceil()
    count = count.clamp(min=1)[:, None, None]
    number = torch.arange(int(count.max()), dtype=start.dtype)
    bin_start = start[:, None] + torch.arange(bins, dtype=start.dtype) * bin_length[:, None]
    position = bin_start[..., None] + (number + 0.5) * (bin_length[:, None, None] / count)
    # Samples more than a cell beyond the border count nothing; those beyond it by less are on it.
    counted = (number < count) & (position >= -1) & (position <= size)
    if samples == 0:  # a region without size has none
        counted = counted & (length > 0)[:, None, None]
    position = position.clamp(0, size - 1)
    low = position.floor()
    near = position - low
    first = low[..., :1]
    step = (low - first).long()
    weights = position.new_zeros(*position.shape[:2], int(step.max()) + 2)
    fraction = counted / count
    weights.scatter_add_(2, step, (1 - near) * fraction)
    weights.scatter_add_(2, step + 1, near * fraction)
    return first[..., 0].long(), weights


def _touched(weights: Tensor) -> Tensor:
    """Up to which cell each bin (N x bins) has a weight: 0 where none has."""
    return ((weights != 0) * torch.arange(1, weights.shape[2] + 1)).amax(dim=2)
