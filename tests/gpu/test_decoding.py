"""Decoding, pooling and merging on a GPU: the numbers of the CPU, and one wait for any number of regions."""

import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.structures.keypoints import heatmaps_to_keypoints
from torchvision.ops import roi_align

from hrnet_kpt.inference.keypoint_head import DecodingKeypointHead
from hrnet_kpt.inference.tta_merging import weighted_box_fusion
from hrnet_kpt.modeling import keypoint_decoding
from hrnet_kpt.modeling.keypoint_decoding import dark_positions, decode_heatmaps
from hrnet_kpt.modeling.roi_align import CpuROIAlign

pytestmark = pytest.mark.gpu


def regions(count, largest, side=56):
    """Maps with a peak and some noise, N x 5 x side x side, and boxes of up to `largest` pixels."""
    generator = torch.Generator().manual_seed(count + largest)
    peaks = side * torch.rand(count, 5, 2, 1, 1, generator=generator)
    y, x = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    distance = (x - peaks[:, :, 0]) ** 2 + (y - peaks[:, :, 1]) ** 2
    maps = 8 * (-distance / 30).exp() + torch.randn(distance.shape, generator=generator)
    corners = 300 * torch.rand(count, 2, generator=generator)
    sizes = largest * torch.rand(count, 2, generator=generator)
    return maps, torch.cat([corners, corners + sizes], dim=1)


@pytest.mark.parametrize(("count", "largest", "side"), [(9, 20, 56), (9, 130, 56), (5, 300, 64)])
def test_keypoints_are_detectron2s(device, assert_near, count, largest, side):
    maps, boxes = regions(count, largest, side)
    found = decode_heatmaps(maps.to(device), boxes.to(device))
    assert found.device.type == device.type
    assert_near(found, heatmaps_to_keypoints(maps, boxes))


@pytest.fixture
def small_groups(monkeypatch):
    """Several groups for a few dozen regions, as there are for hundreds."""
    monkeypatch.setattr(keypoint_decoding, "LARGEST_GROUP", 2**17)


def test_groups_of_regions_are_those_of_the_cpu(device, assert_near, small_groups):
    maps, boxes = regions(60, 300, 28)
    found = decode_heatmaps(maps.to(device), boxes.to(device))
    assert_near(found, decode_heatmaps(maps, boxes))


def test_dark_positions_are_those_of_the_cpu(device, assert_near):
    maps, boxes = regions(20, 200)
    scores = torch.zeros(20, 5, 1)
    found = dark_positions(maps.to(device), boxes.to(device)).cpu()
    assert_near(torch.cat([found, scores], 2), torch.cat([dark_positions(maps, boxes), scores], 2))


def test_no_regions(device):
    maps, boxes = torch.zeros(0, 17, 56, 56, device=device), torch.zeros(0, 4, device=device)
    assert decode_heatmaps(maps, boxes).shape == (0, 17, 4)
    assert dark_positions(maps, boxes).shape == (0, 17, 2)


@pytest.mark.parametrize("decoding", ["highest", "dark"])
def test_decoding_waits_once_for_any_number_of_detections(
    device, count_waits, one_wait, detector, decoding, small_groups
):
    """The scores of instances included, of two classes with their own keypoints."""
    head = detector(device).roi_heads.keypoint_head
    decoder = DecodingKeypointHead(head, "combined", [[0, 1], [2, 3, 4]], decoding)
    counts = []
    for number in (4, 60):
        maps, boxes = (part.to(device) for part in regions(number, 200, 28))
        maps = maps.repeat(1, 4, 1, 1)[:, :17]
        fields = {
            "scores": torch.linspace(0.9, 0.1, number).to(device),
            "pred_classes": (torch.arange(number) % 2).to(device),
        }

        def decode():
            return decoder.decode(maps, [Instances((300, 300), pred_boxes=Boxes(boxes), **fields)])  # noqa: B023

        decode()  # the first call sets up libraries
        with count_waits() as count:
            decode()
            counts.append(count())
    assert counts == [one_wait] * 2


def test_merging_waits_as_often_for_many_boxes_and_classes_as_for_few(
    device, count_waits, one_wait
):
    counts = []
    for number, classes in ((4, 1), (200, 20)):
        _, boxes = regions(number, 100)
        boxes, scores = boxes.to(device), torch.linspace(0.9, 0.1, number).to(device)
        labels = (torch.arange(number) % classes).to(device)
        weighted_box_fusion(boxes, scores, labels, 2, 0.6)
        with count_waits() as count:
            weighted_box_fusion(boxes, scores, labels, 2, 0.6)
            counts.append(count())
    assert counts[0] == counts[1] <= 2 * one_wait, "one copy from the GPU, and one back"


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_regions_are_pooled_as_by_torchvision_on_a_cpu(device, memory_format):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 8, 30, 40, generator=generator)
    corners = 100 * torch.rand(20, 2, generator=generator)
    boxes = torch.cat([corners, corners + 60 * torch.rand(20, 2, generator=generator)], dim=1)
    rois = torch.cat([torch.arange(20.0)[:, None] % 2, boxes], dim=1)
    expected = roi_align(features, rois, (7, 7), 0.25, 2, aligned=True)
    given = features.to(device).contiguous(memory_format=memory_format)
    found = CpuROIAlign((7, 7), 0.25, 2)(given, rois.to(device))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)
