"""What a step of training costs, with channels last and a fused optimizer, and without."""

from __future__ import annotations

import copy
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import nn

from ..engine.optim import put_channels_last
from ..memory import keep_freed_memory
from .stopwatch import peak_memory, seconds, summary

PEOPLE = 6  # in each image


def time_training(
    cfg: DictConfig, size: tuple[int, int], batch: int, repeats: int, device: torch.device
) -> dict[str, Any]:
    """Times and memory of a step: forward, backward, clipping, update; of images of noise, with drawn labels.

    size: height and width in pixels. Returns "height", "width", "batch_size", and for "plain" and "ours" the "step" in
    seconds and the "memory" in MiB.
    """
    torch.manual_seed(0)
    plain = instantiate(cfg.model).to(device).train()
    ours = copy.deepcopy(plain)
    put_channels_last(ours)
    keypoints = getattr(getattr(plain.roi_heads, "keypoint_head", None), "num_keypoints", 0)
    samples = [_sample(size, keypoints, seed) for seed in range(batch)]
    models = {"plain": plain, "ours": ours}
    optimizers = {
        name: torch.optim.SGD(
            [p for p in model.parameters() if p.requires_grad],
            *(1e-3, 0.9),
            weight_decay=1e-4,
            fused=name == "ours",
        )
        for name, model in models.items()
    }
    keep_freed_memory(False)
    found: dict[str, Any] = {"height": size[0], "width": size[1], "batch_size": batch}
    for name, model in models.items():
        _step(model, optimizers[name], samples)
        optimizers[name].zero_grad()
        memory = peak_memory(lambda: _step(model, optimizers[name], samples), device)  # noqa: B023
        optimizers[name].zero_grad()
        found[name] = {"memory": memory}
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(repeats):
        for name, model in models.items():
            time = seconds(lambda: _step(model, optimizers[name], samples), device)  # noqa: B023
            times[name].append(time)
    for name, own in times.items():
        found[name]["step"] = summary(own)
    return found


def _step(
    model: GeneralizedRCNN, optimizer: torch.optim.Optimizer, samples: list[dict[str, Any]]
) -> None:
    optimizer.zero_grad()
    torch.manual_seed(0)
    with EventStorage():
        losses = model(samples)
    torch.stack([*losses.values()]).sum().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 35.0)
    optimizer.step()


def _sample(size: tuple[int, int], keypoints: int, seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([size[1], size[0]])
    corners = 0.5 * extent * torch.rand(PEOPLE, 2, generator=generator)
    shapes = extent * (0.1 + 0.3 * torch.rand(PEOPLE, 2, generator=generator))
    instances = Instances(size, gt_boxes=Boxes(torch.cat([corners, corners + shapes], dim=1)))
    instances.gt_classes = torch.zeros(PEOPLE, dtype=torch.long)
    if keypoints:
        places = torch.rand(PEOPLE, keypoints, 2, generator=generator)
        points = corners[:, None] + shapes[:, None] * places
        visible = torch.full((PEOPLE, keypoints, 1), 2.0)
        instances.gt_keypoints = Keypoints(torch.cat([points, visible], dim=2))
    image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
    return {"image": image, "instances": instances}
