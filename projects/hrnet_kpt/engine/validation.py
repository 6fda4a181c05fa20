"""The losses on images that the model is not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import nn

from ..config.keys import copy_within
from ..config.signatures import accepts
from ..data.labels import flip_indices
from ..data.loaders import seeded


def build_validation_loader(cfg: DictConfig) -> Any:
    """The loader of the test images, with their labels."""
    return instantiate(with_labels(cfg))


def with_labels(cfg: DictConfig) -> DictConfig:
    """A copy of `dataloader.test` whose samples have instances, with masks where the training has them.

    Its mapper, of the user's own maybe, must take `is_train`.
    """
    node = copy_within(cfg.dataloader.test, cfg.dataloader)
    node.mapper.is_train = True
    if accepts(node.mapper, "keypoint_hflip_indices"):
        node.mapper.keypoint_hflip_indices = flip_indices(instantiate(cfg.data.keypoints))
    if accepts(node.get("dataset"), "masks"):
        node.dataset.masks = cfg.data.get("masks", False)
    return node


@torch.no_grad()
def validation_losses(model: nn.Module, loader: Any) -> dict[str, float]:
    """The mean of each loss over the images of `loader`, one at a time, and their sum, `total_loss`.

    model: a detector, without DDP; its batch norms keep their statistics, and use them. Samples of regions are drawn
        alike each time. Every process gets the mean over all of them.
    """
    sums: dict[str, float] = {}
    count = 0
    # What the model notes beside is not the training's.
    with training_without_statistics(model), EventStorage():
        for batch in loader:
            for sample in batch:
                with seeded(0, count):
                    losses = model([sample])
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + float(value)
                count += 1
    gathered = comm.all_gather((sums, count))
    images = sum(number for _, number in gathered)
    names = dict.fromkeys(name for part, _ in gathered for name in part)
    means = {
        name: sum(part.get(name, 0.0) for part, _ in gathered) / max(images, 1) for name in names
    }
    return {"total_loss": sum(means.values()), **means}


@contextmanager
def training_without_statistics(model: nn.Module) -> Iterator[None]:
    """Let a model compute losses while its batch norms and dropouts behave as in an evaluation."""
    was = {module: module.training for module in model.modules()}
    model.train()
    for module in model.modules():
        # No others: detectron2's own modules ask for `training` to compute losses.
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
            module.eval()
    try:
        yield
    finally:
        for module, training in was.items():
            module.training = training
