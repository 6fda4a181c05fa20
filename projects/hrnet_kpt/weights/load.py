"""Loading weights into a model, with a check that all of it got them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from ..errors import UserError
from .convert import Conversion, convert, hrnet_name, match_names
from .labels import NOT_STRICT, Labels, labels_beside, labels_of, select_rows
from .layouts import BOTTOM_UP, find_layout, recognise
from .match import MatchResult, match_state_dict, mismatch_error
from .read import local_weights, read_checkpoint, unwrap

logger = logging.getLogger(__name__)

NEED_WHOLE = "evaluation and --resume need a run's checkpoint, and the config.yaml of that run"
SHOWN = 20  # names in the warning of a partial load


def load_weights(
    model: nn.Module,
    location: str | Path,
    *,
    strict: bool = True,
    whole: bool = False,
    classes: Sequence[str] = (),
    keypoints: Sequence[str] = (),
    content: Mapping[str, Any] | None = None,
    dry_run: bool = False,
) -> MatchResult:
    """Load a file of any layout in `layouts.LAYOUTS` into `model`, and log one line about it.

    Args:
        model: Changed only if no error is raised.
        location: Path or http(s) URL.
        strict: Refuse a part of which only some tensors fit, and a file without a bottom_up; else load what fits, and
            list the rest.
        whole: Refuse a file that does not fill the whole model, as for evaluation and resuming.
        classes: The model's names of classes, in order. A file that has names, or a run's config.yaml beside it, is
            compared by name: rows are put into the model's order, and other names are refused or, without `strict`,
            left out. Of files that have COCO's 80 classes the rows of these names are taken.
        keypoints: The same of the keypoints, of which COCO has 17.
        content: The checkpoint at `location`, if it was read before.
        dry_run: Only check; `model` and `content` may then be on the meta device.

    Raises:
        UserError: If the file is missing or not readable, fits only partly, holds an Inf or NaN, or leaves frozen batch
            norms without statistics. It names the first tensors and the likely reason.
    """
    location, expected = str(location), model.state_dict()
    tensors, labels = read_finite(location, content)
    conversion = remap(
        tensors,
        expected,
        location,
        labels,
        classes=classes,
        keypoints=keypoints,
        strict=strict,
        whole=whole,
    )
    result = match_state_dict(conversion, expected, whole)
    partial = bool(result.problems) or "bottom_up" in result.absent
    if not result.fitting or (partial and (strict or whole)):
        raise mismatch_error(result, location, NEED_WHOLE if whole else NOT_STRICT)
    _refuse_frozen(model, result, location)
    if dry_run:
        return result
    model.load_state_dict(result.fitting, strict=False)
    logger.info("%s [%s]", result.line, location)
    if result.problems:
        more = len(result.problems) - SHOWN
        logger.warning(
            "train.init_strict=False: %d tensors of %s were not loaded: %s%s",
            len(result.problems),
            location,
            "; ".join(result.problems[:SHOWN]),
            f"; and {more} more" if more > 0 else "",
        )
    return result


def read_finite(
    location: str, content: Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensor], Labels | None]:
    """The tensors and labels of a file; the labels may be in a config.yaml beside it.

    Args:
        location: Path or URL.
        content: The checkpoint at `location`, if it was read before.

    Raises:
        UserError: If the file cannot be read, or a tensor holds an Inf or NaN.
    """
    if content is None:
        path = local_weights(location)
        tensors, labels = read_checkpoint(path)
    else:
        path = Path(location)
        tensors, labels = unwrap(content), labels_of(content)
    non_finite = [name for name, value in tensors.items() if not _is_finite(value)]
    if non_finite:
        raise UserError(
            f"{location}: {len(non_finite)} tensors hold Inf or NaN (first: {non_finite[0]}): the training that wrote "
            "them had diverged, or the file is damaged; take an earlier checkpoint"
        )
    return tensors, labels or labels_beside(path)


def _is_finite(value: Tensor) -> bool:
    if value.is_meta:
        return True
    if value.dtype is torch.double:
        value = value.float()  # as in the model
    # A sum needs no copy, but may overflow, above all in half precision.
    return bool(value.sum().isfinite()) or bool(value.isfinite().all())


def remap(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    location: str,
    labels: Labels | None,
    layout: str = "auto",
    **options: Any,
) -> Conversion:
    """Rename a file's tensors to the model's names, and select the rows of the model's classes and keypoints.

    Args:
        tensors: The file's tensors.
        expected: The model's tensors by name.
        location: Path or URL, for messages.
        labels: The file's labels.
        layout: The file's layout, see `layouts.LAYOUTS`; `auto` recognises it.
        options: strict, whole, classes and keypoints of `load_weights`.
    """
    try:
        conversion = _to_model_names(tensors, expected, layout)
        foreign = conversion.layout.name != "hrnet_kpt"
        conversion.clauses = select_rows(
            conversion.tensors, expected, labels, foreign=foreign, **options
        )
    except UserError as error:
        raise UserError(f"{location} does not fit the model: {error}") from None
    return conversion


def _to_model_names(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], layout: str
) -> Conversion:
    bottom_up = [name for name in expected if name.startswith(BOTTOM_UP)]
    by_layout = not bottom_up or bool(hrnet_name(expected, BOTTOM_UP))
    if layout == "auto" and expected and recognise(tensors) == recognise(expected):
        # The model's own checkpoint; but detectron2's zoo files, which have names that ours do not, look the same.
        dropped = re.compile(find_layout("detectron2").dropped)
        if by_layout or not any(map(dropped.match, tensors)):
            return convert(tensors, "hrnet_kpt")
    if by_layout or layout == "hrnet_kpt":
        return convert(tensors, layout)
    conversion = match_names(tensors, expected, None if layout == "auto" else find_layout(layout))
    if any(name not in conversion.tensors for name in bottom_up) and recognise(tensors):
        hrnet = convert(tensors, layout)  # so that the error can name an HRNet
        return hrnet if hrnet_name(hrnet.tensors, BOTTOM_UP) else conversion
    return conversion


def refuse_identity_norms(model: nn.Module) -> None:
    """Raise UserError if a frozen batch norm still has its initial statistics.

    With those, the features of an HRNet grow by orders of magnitude, and training diverges.
    """
    identity = _identity_norms(model)
    if identity:
        prefix = BOTTOM_UP if all(name.startswith(BOTTOM_UP) for name in identity) else identity[0]
        raise UserError(
            f"{len(identity)} FrozenBN layers have no statistics: no weights were loaded for {prefix}* (first: "
            f"{identity[0]}); set train.init_checkpoint to weights that have them, or train from scratch "
            "with BN in place of FrozenBN (of an HRNet: model.backbone.bottom_up.norm=BN) and freeze_at=0"
        )


def _refuse_frozen(model: nn.Module, result: MatchResult, location: str) -> None:
    """Raise UserError if the file leaves a frozen batch norm with its initial statistics."""
    left = [n for n in _identity_norms(model) if f"{n}.running_var" not in result.fitting]
    if not left:
        return
    remedy = (
        "set train.init_checkpoint to weights that have them, or model.backbone.bottom_up.norm=BN"
    )
    if all(f"{name}.weight" in result.lacking for name in left):
        remedy = (
            "networks for pose do not have them: set model.backbone.bottom_up.norm=BN, or fill them from ImageNet "
            f"weights of this width by hrnet-kpt convert-weights --input {location} IMAGENET --output FILE"
        )
    raise UserError(
        f"{location} leaves {len(left)} FrozenBN layers without statistics (first: {left[0]}), and with those training "
        f"diverges: {remedy}"
    )


def _identity_norms(model: nn.Module) -> list[str]:
    """The names of frozen batch norms with their initial statistics; on the meta device, of all."""

    def is_identity(norm: FrozenBatchNorm2d) -> bool:
        initial = FrozenBatchNorm2d(norm.num_features, norm.eps).state_dict()
        state = norm.state_dict()
        return all(
            value.is_meta or torch.equal(value.cpu(), initial[key]) for key, value in state.items()
        )

    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, FrozenBatchNorm2d) and is_identity(module)
    ]
