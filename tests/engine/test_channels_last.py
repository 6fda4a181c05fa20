"""Training with channels last against training without."""

import copy

import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage
from torch import nn

from hrnet_kpt.config import load_config
from hrnet_kpt.modeling.layers import put_channels_last

SIZE = 128
FEW = (
    "model.backbone.bottom_up.num_blocks=[1,1,1,1]",
    "model.backbone.out_channels=32",
    "model.roi_heads.box_head.fc_dims=[64,64]",
    "model.roi_heads.keypoint_head.conv_dims=[32,32]",
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = instantiate(load_config("hrnet_w18_small_kpt_synthetic.py", FEW).model).train()
    # Rounding would decide between proposals of like score, and so what is sampled.
    model.proposal_generator.predict_proposals = fixed_proposals
    return model


def fixed_proposals(*args):
    corners = torch.cartesian_prod(torch.arange(0.0, 80, 8), torch.arange(0.0, 80, 8))
    boxes = Boxes(torch.cat([corners, corners + 50], dim=1))
    logits = torch.zeros(len(boxes))
    return [Instances((SIZE, SIZE), proposal_boxes=boxes, objectness_logits=logits)] * 2


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for _ in range(2):
        corners = 60 * torch.rand(2, 2, generator=generator)
        boxes = torch.cat([corners, corners + 60], dim=1)
        points = corners[:, None] + 60 * torch.rand(2, 17, 2, generator=generator)
        instances = Instances((SIZE, SIZE), gt_boxes=Boxes(boxes), gt_classes=torch.zeros(2).long())
        visible = torch.full((2, 17, 1), 2.0)
        instances.gt_keypoints = Keypoints(torch.cat([points, visible], dim=2))
        image = torch.randint(0, 256, (3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
        samples.append({"image": image, "instances": instances})
    return samples


def losses_of_steps(model, fused):
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, fused=fused)
    found = []
    for iteration in range(6):
        optimizer.zero_grad()
        torch.manual_seed(iteration)
        with EventStorage(iteration):
            losses = model(batch(iteration))
        sum(losses.values()).backward()
        optimizer.step()
        found.append({name: loss.item() for name, loss in losses.items()})
    return found


def test_losses_of_steps_are_the_same(model):
    changed = copy.deepcopy(model)
    put_channels_last(changed)
    weight = changed.backbone.bottom_up.conv2.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    plain, ours = losses_of_steps(model, False), losses_of_steps(changed, True)
    assert plain[0].keys() >= {"loss_keypoint", "loss_box_reg", "loss_rpn_cls"}
    for expected, found in zip(plain, ours, strict=True):
        total = sum(expected.values())
        assert sum(found.values()) == pytest.approx(total, rel=1e-4)
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-4 * total)


def test_keypoint_head_of_unknown_build_stays_as_it_is(model):
    class Head(nn.Module):
        def __init__(self, layers):
            super().__init__()
            self.inner = layers

    model.roi_heads.keypoint_head = Head(model.roi_heads.keypoint_head)
    put_channels_last(model)
    assert model.roi_heads.keypoint_head.inner[0].weight.is_contiguous()
    assert not model.backbone.bottom_up.conv2.weight.is_contiguous()
