"""Pooling of regions against torchvision's roi_align."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align

from hrnet_kpt.modeling.roi_align import CpuROIAlign


def compare(features, rois, output_size, scale, samples, aligned):
    layer = CpuROIAlign(output_size, scale, samples, aligned)
    ours = layer(features, rois)
    theirs = roi_align(features, rois, output_size, scale, samples, aligned)
    # Positions of up to 100 cells in float32, times differences between neighbours of a few units.
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.parametrize("output_size", [(7, 7), (14, 14), (3, 5)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_equal_to_torchvision(output_size, samples, aligned, channels_last):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 20, 25, 38, generator=generator)
    if channels_last:
        features = features.to(memory_format=torch.channels_last)
    middle = torch.rand(60, 2, generator=generator) * torch.tensor([304.0, 200])
    half = torch.exp(5 * torch.rand(60, 2, generator=generator))  # 1 to 148 pixels, some outside
    image = torch.arange(60)[:, None] % 2
    rois = torch.cat([image, middle - half, middle + half], dim=1)
    compare(features, rois, output_size, 1 / 8, samples, aligned)


numbers = st.floats(-60, 120, width=16)


@given(st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=1, max_size=4))
@settings(deadline=None, max_examples=60)
def test_any_box(boxes):
    """Outside the features, of no size, thin, or on their border."""
    features = torch.sin(torch.arange(2.0 * 8 * 11)).view(1, 2, 8, 11)
    corners = torch.tensor(boxes)
    first, last = corners[:, :2], corners[:, 2:]
    rois = torch.cat([torch.zeros(len(boxes), 1), first.minimum(last), first.maximum(last)], dim=1)
    compare(features, rois, (7, 7), 1 / 4, 0, True)


def test_no_regions_and_one_without_size():
    features = torch.randn(1, 4, 10, 10)
    assert CpuROIAlign((7, 7), 0.25, 0)(features, torch.zeros(0, 5)).shape == (0, 4, 7, 7)
    compare(features, torch.tensor([[0.0, 8, 8, 8, 8]]), (7, 7), 0.25, 0, True)


def test_gradients_are_torchvisions():
    features = torch.randn(1, 6, 12, 12, generator=torch.Generator().manual_seed(0))
    rois = torch.tensor([[0.0, 3, 5, 40, 30], [0, -6, 10, 17, 60]])
    gradients = []
    for pool in (CpuROIAlign((7, 7), 0.25, 0), lambda x, r: roi_align(x, r, (7, 7), 0.25, 0, True)):
        own = features.clone().requires_grad_()
        pool(own, rois).square().sum().backward()
        gradients.append(own.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
