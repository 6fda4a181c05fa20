"""Pooling of regions against torchvision's roi_align."""

import pytest
import torch
from detectron2.layers import ROIAlign
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align

from hrnet_kpt.modeling.roi_align import CpuROIAlign, use_cpu_roi_align


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("samples", [0, 2])
def test_gradients_are_torchvisions(samples, aligned, dtype):
    features = torch.randn(2, 6, 12, 12, generator=torch.Generator().manual_seed(0), dtype=dtype)
    rois = torch.tensor([[0.0, 3, 5, 40, 30], [1, -6, 10, 17, 60], [1, 20, 20, 21, 22]])
    gradients = []
    for pool in (
        CpuROIAlign((7, 7), 0.25, samples, aligned),
        lambda x, r: roi_align(x, r.to(dtype), (7, 7), 0.25, samples, aligned),
    ):
        own = features.clone().requires_grad_()
        pool(own, rois).square().sum().backward()
        gradients.append(own.grad)
    tolerance = 1e-4 if dtype is torch.float32 else 1e-12
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)


def test_features_of_a_level_without_regions_get_gradients_of_zero():
    features = torch.randn(1, 4, 10, 10, requires_grad=True)
    CpuROIAlign((7, 7), 0.25, 0)(features, torch.zeros(0, 5)).sum().backward()
    assert (features.grad == 0).all()


def test_half_precision_is_pooled_as_float32():
    features = torch.randn(1, 4, 20, 20, generator=torch.Generator().manual_seed(0)).bfloat16()
    # bfloat16 would round the corners to whole pixels.
    rois = torch.tensor([[0.0, 301.3, 302.6, 379.2, 391.4]])
    pooled = CpuROIAlign((7, 7), 1 / 16, 2)(features, rois)
    expected = roi_align(features.float(), rois, (7, 7), 1 / 16, 2, True)
    assert pooled.dtype == torch.bfloat16
    assert (pooled == expected.bfloat16()).float().mean() > 0.95


def test_a_network_gets_it_with_equal_gradients():
    gradients = []
    for use in (False, True):
        torch.manual_seed(0)
        model = torch.nn.ModuleDict(
            {"conv": torch.nn.Conv2d(3, 5, 3), "pool": ROIAlign((3, 3), 0.5, 0)}
        )
        if use:
            use_cpu_roi_align(model)
            assert type(model["pool"]) is CpuROIAlign
        features = model["conv"](torch.randn(1, 3, 16, 16))
        model["pool"](features, torch.tensor([[0.0, 1, 2, 20, 30]])).square().sum().backward()
        gradients.append(model["conv"].weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
