"""Loading weights into a model, and knowing that they were loaded."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from ..errors import UserError
from .convert import Conversion, convert, hrnet_name, match_names
from .labels import (
    COCO_CLASSES,
    COCO_KEYPOINTS,
    Labels,
    count_classes,
    count_keypoints,
    labels_beside,
    labels_of,
    match_rows,
    select_classes,
    select_keypoints,
    take_coco_classes,
    take_coco_keypoints,
)
from .layouts import BOTTOM_UP, Settings, find_layout, recognise
from .match import MatchResult, match_state_dict, mismatch_error, report
from .read import local_weights, read_checkpoint, unwrap

logger = logging.getLogger(__name__)

# What helps where weights do not fit.
NOT_STRICT = "train.init_strict=False loads what fits"
WHOLE = "evaluation and --resume need a run's checkpoint, and the config.yaml of that run"
OTHER_LABELS = "rename them in the data, or take weights of these names"
SHOWN = 20  # names listed of a partial load


@dataclass(frozen=True)
class Loaded:
    """What `load_weights` did.

    Attributes:
        line: The report.
        parts: The parts of the model that the file has filled.
        absent: Those that it left as they were.
        settings: Of the parts filled, the config's values that reproduce the numbers of the file's source, by key.
        remark: What no setting reproduces.
    """

    line: str
    parts: Sequence[str]
    absent: Sequence[str]
    settings: Mapping[str, Any]
    remark: str


def load_weights(
    model: nn.Module,
    location: str | Path,
    *,
    strict: bool = True,
    whole: bool = False,
    classes: Sequence[str] = (),
    keypoints: Sequence[str] = (),
    content: Mapping[str, Any] | None = None,
) -> Loaded:
    """Load a file of any layout that `layouts` lists into `model`, and report it in one line of the log.

    The model is changed only if nothing is wrong. Raises UserError, with the first names and the likely reason,
    where the file is not there or not readable, fits in part only, holds an Inf or NaN, or leaves frozen batch norms
    without statistics.

    Args:
        location: Path or http(s) URL.
        strict: Refuse a part of which only some tensors fit, and a file without a bottom_up; else load and list what
            fits.
        whole: Refuse a file that does not fill the whole model, as for evaluation, or to go on with a run.
        classes, keypoints: The model's names of them, in order. A file that has its own, or a run's config.yaml beside
            it, is compared by name: rows are put into the model's order, and other names are refused or, without
            `strict`, left out. Of files that have COCO's 80 and 17 they tell which to take.
        content: Of the run's checkpoint at `location`, where it was read before.
    """
    location = str(location)
    result, conversion, taken = check_weights(
        model,
        location,
        strict=strict,
        whole=whole,
        classes=classes,
        keypoints=keypoints,
        content=content,
    )
    model.load_state_dict(result.fitting, strict=False)

    line = report(result, conversion, model.state_dict(), taken)
    logger.info("%s [%s]", line, location)
    if result.problems:
        listed = result.problems[:SHOWN]
        more = len(result.problems) - len(listed)
        logger.warning(
            "train.init_strict=False: %d tensors of %s were not loaded: %s%s",
            len(result.problems),
            location,
            "; ".join(listed),
            f"; and {more} more" if more else "",
        )
    layout = conversion.layout
    return Loaded(
        line,
        result.parts,
        result.absent,
        settings_of(layout.settings, result.parts),
        layout.remark,
    )


def check_weights(
    model: nn.Module,
    location: str,
    *,
    strict: bool = True,
    whole: bool = False,
    classes: Sequence[str] = (),
    keypoints: Sequence[str] = (),
    content: Mapping[str, Any] | None = None,
) -> tuple[MatchResult, Conversion, list[str]]:
    """Read a file and compare it with `model`, which is not changed, and may be on the meta device.

    The arguments are those of `load_weights`. Returns what fits, the file's tensors under the model's names, and which
    classes and keypoints were taken. Raises UserError as `load_weights` does.
    """
    path = local_weights(location)
    if content is None:
        tensors, labels = read_checkpoint(path)
    else:
        tensors, labels = unwrap(content), labels_of(content)
    refuse_non_finite(tensors, location)
    return compare(
        model,
        tensors,
        location,
        labels=labels or labels_beside(path),
        strict=strict,
        whole=whole,
        classes=classes,
        keypoints=keypoints,
    )


def compare(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    location: str,
    *,
    labels: Labels | None = None,
    strict: bool = True,
    whole: bool = False,
    classes: Sequence[str] = (),
    keypoints: Sequence[str] = (),
) -> tuple[MatchResult, Conversion, list[str]]:
    """`check_weights` for what `read_checkpoint` has returned."""
    expected = model.state_dict()
    conversion, taken = remap(
        tensors,
        expected,
        location,
        labels=labels,
        strict=strict,
        whole=whole,
        classes=classes,
        keypoints=keypoints,
    )
    result = match_state_dict(conversion, expected, whole)
    partial = bool(result.problems) or "bottom_up" in result.absent
    if not result.fitting or (partial and (strict or whole)):
        remedy = WHOLE if whole else NOT_STRICT
        raise mismatch_error(result, conversion, expected, location, remedy)
    _refuse_frozen(model, result, location)
    return result, conversion, taken


def remap(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    location: str,
    layout: str = "auto",
    *,
    labels: Labels | None = None,
    strict: bool = True,
    whole: bool = False,
    classes: Sequence[str] = (),
    keypoints: Sequence[str] = (),
) -> tuple[Conversion, list[str]]:
    """The tensors under the model's names, of the model's classes and keypoints; and which of these were taken.

    Args:
        labels: The file's; the other arguments are those of `load_weights`.
    """
    try:
        conversion = _to_model_names(tensors, expected, layout)
    except UserError as error:
        raise UserError(f"{location} does not fit the model: {error}") from None
    try:
        taken = _select_rows(conversion, expected, labels, classes, keypoints, strict, whole)
    except UserError as error:
        remedy = OTHER_LABELS if whole else f"{NOT_STRICT}, by name"
        raise UserError(f"{location} does not fit the model: {error}; {remedy}") from None
    return conversion, taken


def _to_model_names(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], layout: str
) -> Conversion:
    bottom_up = [name for name in expected if name.startswith(BOTTOM_UP)]
    if layout == "auto" and expected and recognise(tensors) == recognise(expected):
        # Its own checkpoint; but files of detectron2's zoo have names that no checkpoint of ours has.
        dropped = re.compile(find_layout("detectron2").dropped)
        if not bottom_up or hrnet_name(expected, BOTTOM_UP) or not any(map(dropped.match, tensors)):
            return convert(tensors, "hrnet_kpt")
    if not bottom_up or hrnet_name(expected, BOTTOM_UP) or layout == "hrnet_kpt":
        return convert(tensors, layout)
    conversion = match_names(tensors, expected, None if layout == "auto" else find_layout(layout))
    if any(name not in conversion.tensors for name in bottom_up) and recognise(tensors):
        hrnet = convert(tensors, layout)  # to say what it is
        return hrnet if hrnet_name(hrnet.tensors, BOTTOM_UP) else conversion
    return conversion


def _select_rows(
    conversion: Conversion,
    expected: Mapping[str, Tensor],
    labels: Labels | None,
    classes: Sequence[str],
    keypoints: Sequence[str],
    strict: bool,
    whole: bool,
) -> list[str]:
    """Put the rows of classes and keypoints, in place, into the model's order; say so.

    Raises:
        UserError: Where the names differ.
    """
    tensors, taken = conversion.tensors, []
    own = conversion.layout.name == "hrnet_kpt"
    count, wanted = count_classes(tensors), count_classes(expected)
    if labels and len(labels.classes) == count > 0 and len(classes) == wanted > 0:
        names = list(labels.classes)
        rows, text = match_rows("classes", names, classes, strict=strict, whole=whole)
        if rows:
            select_classes(tensors, rows, expected, count)
        taken.append(text)
    elif not own or count != wanted:
        taken.append(take_coco_classes(tensors, expected, classes))
    count, wanted = count_keypoints(tensors), count_keypoints(expected)
    if labels and len(labels.keypoints) == count > 0 and len(keypoints) == wanted > 0:
        names = list(labels.keypoints)
        rows, text = match_rows("keypoints", names, keypoints, strict=strict, whole=whole)
        if rows:
            select_keypoints(tensors, rows, expected)
        taken.append(text)
    elif not own:
        taken.append(take_coco_keypoints(tensors, keypoints))
    return [text for text in taken if text]


def known_labels(conversion: Conversion, labels: Labels | None) -> Labels:
    """What the rows of a file's last layers stand for: its own names, or COCO's where other codebases trained on it.

    Args:
        labels: Those of the file, or of the model that it was fitted to.
    """
    tensors, own = conversion.tensors, conversion.layout.name == "hrnet_kpt"
    keypoints: Sequence[str] = labels.keypoints if labels else []
    classes: Mapping[str, Sequence[str]] = labels.classes if labels else {}
    if not own and not keypoints and count_keypoints(tensors) == len(COCO_KEYPOINTS):
        keypoints = COCO_KEYPOINTS
    if not own and not classes and count_classes(tensors) == len(COCO_CLASSES):
        classes = {name: [] for name in COCO_CLASSES}
    return Labels(keypoints, classes)


def settings_of(settings: Settings, parts: Sequence[str]) -> dict[str, Any]:
    """The settings of some parts, by key of the config."""
    return {key: value for part in parts for key, value in settings.get(part, {}).items()}


def refuse_non_finite(tensors: Mapping[str, Tensor], location: str) -> None:
    """Raise UserError where a tensor holds an Inf or NaN."""
    # A double counts as the float that it becomes in the model.
    doubles = {
        name: value.float() for name, value in tensors.items() if value.dtype is torch.double
    }
    tensors = {**tensors, **doubles}
    # A sum shows them without a copy; it overflows only where numbers are absurd, or halves.
    suspects = (name for name, value in tensors.items() if not value.sum().isfinite())
    non_finite = [name for name in suspects if not tensors[name].isfinite().all()]
    if non_finite:
        raise UserError(
            f"{location}: {len(non_finite)} tensors hold Inf or NaN (first: {non_finite[0]}): the training that wrote "
            "them had diverged, or the file is damaged; take an earlier checkpoint"
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
        prefix = BOTTOM_UP if all(name.startswith(BOTTOM_UP) for name in identity) else identity[0]
        raise UserError(
            f"{len(identity)} FrozenBN layers have no statistics: no weights were loaded for {prefix}* (first: "
            f"{identity[0]}); set train.init_checkpoint to weights that have them, or train from scratch "
            "with BN in place of FrozenBN (of an HRNet: model.backbone.bottom_up.norm=BN) and freeze_at=0"
        )


def _refuse_frozen(model: nn.Module, result: MatchResult, location: str) -> None:
    """Raise UserError where the file leaves a frozen batch norm as it was made."""
    left = [
        name
        for name, module in model.named_modules()
        if isinstance(module, FrozenBatchNorm2d)
        and f"{name}.running_var" not in result.fitting
        and _is_identity(module)
    ]
    if not left:
        return
    remedy = (
        "set train.init_checkpoint to weights that have them, or model.backbone.bottom_up.norm=BN"
    )
    if all(f"{name}.weight" in result.lacking for name in left):
        remedy = (
            "networks for pose do not have them: set model.backbone.bottom_up.norm=BN, or fill them from ImageNet "
            f"weights of this width by tools/convert_weights.py --input {location} IMAGENET --output FILE"
        )
    raise UserError(
        f"{location} leaves {len(left)} FrozenBN layers without statistics (first: {left[0]}), and with those training "
        f"diverges: {remedy}"
    )


def _is_identity(module: FrozenBatchNorm2d) -> bool:
    if module.weight.is_meta:
        return True
    fresh = FrozenBatchNorm2d(module.num_features, module.eps).state_dict()
    return all(torch.equal(value.cpu(), fresh[key]) for key, value in module.state_dict().items())
