"""What a training step costs."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import nn

from ...engine.optim import put_channels_last
from ...memory import keep_freed_memory
from .timing import peak_memory, seconds, summary

PEOPLE = 6  # in each image


def time_training(
    cfg: DictConfig, size: tuple[int, int], batch: int, repeats: int, device: torch.device
) -> dict[str, Any]:
    """Measure a step, forward, backward, clipping and update by SGD, on images of noise with random labels.

    The step is fused, and convolutions are channels last, unless `train.channels_last` is false.

    Args:
        size: Height and width in pixels.

    Returns:
        `height`, `width`, `batch_size`, the times of the `step` in seconds, and its `memory` in MiB.
    """
    torch.manual_seed(0)
    model = instantiate(cfg.model).to(device).train()
    fast = cfg.train.get("channels_last", True)
    if fast:
        put_channels_last(model)
    keypoints = getattr(getattr(model.roi_heads, "keypoint_head", None), "num_keypoints", 0)
    samples = [_sample(size, keypoints, seed) for seed in range(batch)]
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=fast)

    def step() -> None:
        optimizer.zero_grad()
        torch.manual_seed(0)
        with EventStorage():
            losses = model(samples)
        torch.stack([*losses.values()]).sum().backward()
        nn.utils.clip_grad_norm_(trained, 35.0)
        optimizer.step()

    keep_freed_memory(False)
    step()
    optimizer.zero_grad()
    memory = peak_memory(step, device)
    times = [seconds(step, device) for _ in range(repeats)]
    return {
        "height": size[0],
        "width": size[1],
        "batch_size": batch,
        "memory": memory,
        "step": summary(times),
    }


def _sample(size: tuple[int, int], keypoints: int, seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([size[1], size[0]])
    corners = 0.5 * extent * torch.rand(PEOPLE, 2, generator=generator)
    shapes = extent * (0.1 + 0.3 * torch.rand(PEOPLE, 2, generator=generator))
    instances = Instances(size, gt_boxes=Boxes(torch.cat([corners, corners + shapes], dim=1)))
    instances.gt_classes = torch.zeros(PEOPLE, dtype=torch.long)
    if keypoints:
        fractions = torch.rand(PEOPLE, keypoints, 2, generator=generator)
        points = corners[:, None] + shapes[:, None] * fractions
        visible = torch.full((PEOPLE, keypoints, 1), 2.0)
        instances.gt_keypoints = Keypoints(torch.cat([points, visible], dim=2))
    image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
    return {"image": image, "instances": instances}
