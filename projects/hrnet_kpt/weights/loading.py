"""Loading weights into a model, strictly."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from ..errors import UserError
from .fetching import local_weights

logger = logging.getLogger(__name__)

TRUNK = "backbone.bottom_up."
# The classification head of the ImageNet files, which detection has no use for.
CLASSIFIER = ("incre_modules", "downsamp_modules", "final_layer", "classifier")


def load_weights(model: nn.Module, location: str | Path) -> None:
    """Load an ImageNet HRNet into the trunk of `model`, or a checkpoint of ours into all of it.

    location: path or URL of a .pth file: HRNet-Image-Classification's (or open-mmlab's copy), or one that a
        run of this project wrote.

    Raises UserError where the file is not there or not readable, or a tensor is missing, of another shape, or
    one that fits nothing.
    """
    location = str(location)
    state = _read(location)
    expected = model.state_dict()
    if any(key.startswith(TRUNK) for key in state):
        parts, ignored = "", 0
    else:
        trunk = {key: value for key, value in state.items() if key.split(".")[0] not in CLASSIFIER}
        parts, ignored = TRUNK, len(state) - len(trunk)
        state = {TRUNK + key: value for key, value in trunk.items()}
    # The counters matter only to BN with momentum=None, and FrozenBN has none.
    wanted = {
        key: value
        for key, value in expected.items()
        if key.startswith(parts) and not key.endswith("num_batches_tracked")
    }
    problems = [f"{key} is missing" for key in wanted if key not in state]
    problems += [
        f"{key} is {tuple(state[key].shape)}, not {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    problems += [
        f"{key} fits nothing"
        for key in state
        if key not in expected and not key.endswith("num_batches_tracked")
    ]
    if problems:
        raise UserError(
            f"{location} does not fit the model: {len(problems)} differences, {'; '.join(problems[:3])}"
        )
    model.load_state_dict({key: state[key] for key in wanted}, strict=False)
    logger.info(
        "%s: %d of %d %stensors loaded, %d of the classification head ignored",
        location,
        len(wanted),
        len(wanted),
        "backbone " if parts else "",
        ignored,
    )


def refuse_identity_norms(model: nn.Module) -> None:
    """Raise UserError where a frozen batch norm still has the statistics it was made with.

    With those, features of an HRNet grow by orders of magnitude and the training diverges.
    """
    identity = [
        name
        for name, module in model.named_modules()
        if isinstance(module, FrozenBatchNorm2d) and _is_identity(module)
    ]
    if identity:
        prefix = TRUNK if all(name.startswith(TRUNK) for name in identity) else identity[0]
        raise UserError(
            f"{len(identity)} FrozenBN layers have no statistics: no weights were loaded for {prefix}* (first: "
            f"{identity[0]}); set train.init_checkpoint to HRNet weights, or train from scratch with "
            "model.backbone.bottom_up.norm=BN and freeze_at=0"
        )


def _is_identity(module: FrozenBatchNorm2d) -> bool:
    fresh = FrozenBatchNorm2d(module.num_features, module.eps).state_dict()
    return all(torch.equal(value.cpu(), fresh[key]) for key, value in module.state_dict().items())


def _read(location: str) -> dict[str, Tensor]:
    path = local_weights(location)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        for wrapper in ("state_dict", "model"):
            content = content.get(wrapper, content)
        return {key.removeprefix("module."): value for key, value in content.items()}
    except (OSError, RuntimeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{location} is no file of weights ({type(error).__name__}: {str(error)[:100]!r})"
        ) from error
