"""ROIAlign for CPUs, on which torchvision's is scalar and single-threaded, in both directions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.layers import ROIAlign
from torch import Tensor, nn

# Limits the memory for indices and weights: 5 MB for a region of 200 x 304 cells.
REGIONS_AT_ONCE = 128


class CpuROIAlign(ROIAlign):
    """detectron2's ROIAlign and its gradients, equal up to rounding, as weighted sums of feature vectors.

    A bin is the mean of bilinear samples, which is a weighted sum of the cells that it touches; a weight is the product
    of one for the row and one for the column. Features in channels-last memory format are not copied, unless they have
    half precision, which is pooled as float32. On other devices than the CPU, torchvision's kernel is used.
    """

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pool regions to N x C x output_size, in channels-last memory format.

        Args:
            input: features, B x C x H x W.
            rois: N x 5, the index of the image, and x1, y1, x2, y2 in pixels of the image.
        """
        if input.device.type != "cpu":
            return super().forward(input, rois)
        if not len(rois):
            # With a gradient of zeros, which a level without regions needs in training.
            return input[:0, :, :1, :1].expand(-1, -1, *self.output_size)
        dtype = torch.promote_types(input.dtype, torch.float32)
        features, rois = input.to(dtype), rois.to(dtype)
        pooled = [self._pool(features, some) for some in rois.split(REGIONS_AT_ONCE)]
        return torch.cat(pooled).to(input.dtype)

    def _pool(self, input: Tensor, rois: Tensor) -> Tensor:
        batch, channels, height, width = input.shape
        rows, columns = self.output_size
        corners = rois[:, 1:] * self.spatial_scale - (0.5 if self.aligned else 0.0)
        sides = corners[:, 2:] - corners[:, :2]
        if not self.aligned:
            sides = sides.clamp(min=1)
        x, of_x = _weights(corners[:, 0], sides[:, 0], columns, width, self.sampling_ratio)
        y, of_y = _weights(corners[:, 1], sides[:, 1], rows, height, self.sampling_ratio)
        # N x rows x columns bags, one for each bin, of the cells that have a weight.
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
            per_sample_weights=weights,
            include_last_offset=True,
        )
        return pooled.view(len(rois), rows, columns, channels).permute(0, 3, 1, 2)


def use_cpu_roi_align(model: nn.Module) -> None:
    """Make every ROIAlign of a model a CpuROIAlign, in place."""
    for module in model.modules():
        if type(module) is ROIAlign:
            module.__class__ = CpuROIAlign


def _weights(
    start: Tensor, length: Tensor, bins: int, size: int, samples: int
) -> tuple[Tensor, Tensor]:
    """Along one axis: the first cell that each bin touches (N x bins), and the weights from it on (N x bins x n).

    Args:
        start: first coordinate of each region (N), in cells.
        length: length of each region (N), in cells.
        bins: number of bins.
        size: number of cells of the feature map.
        samples: number of samples in a bin; 0 takes one for each cell, rounded up.
    """
    bin_length = length / bins
    count = torch.full_like(length, samples) if samples > 0 else bin_length.ceil()
    count = count.clamp(min=1)[:, None, None]
    number = torch.arange(int(count.max()), dtype=start.dtype)
    bin_start = start[:, None] + torch.arange(bins, dtype=start.dtype) * bin_length[:, None]
    position = bin_start[..., None] + (number + 0.5) * (bin_length[:, None, None] / count)
    # Samples more than a cell beyond the border are ignored; the others beyond it are moved to it.
    counted = (number < count) & (position >= -1) & (position <= size)
    if samples == 0:  # an empty region has no samples
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
    """The number of cells up to the last with a weight, of each bin (N x bins)."""
    return ((weights != 0) * torch.arange(1, weights.shape[2] + 1)).amax(dim=2)
