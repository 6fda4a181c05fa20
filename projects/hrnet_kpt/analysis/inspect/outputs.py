"""Record the outputs of each part of a model for one image: names, shapes, strides and statistics of values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from detectron2.modeling import Backbone, GeneralizedRCNN
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.modeling.roi_heads.keypoint_head import keypoint_rcnn_inference
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from .structure import class_path, text_table

# Max regions for the keypoint head, whose stock version needs 250 times the multiply-accumulates of the box head.
MOST_REGIONS = 8
PART = re.compile(r"proposal_generator(\.\w+)?|roi_heads\.\w+")
# Names of the items of a tuple that a part returns.
RETURNS = {
    "proposal_generator": ("proposals", "losses"),
    "rpn_head": ("objectness_logits", "anchor_deltas"),
    "box_predictor": ("class_scores", "box_deltas"),
}
STATISTICS = ("min", "mean", "max", "std")


def describe_outputs(
    model: GeneralizedRCNN, images: ImageList, parts: list[dict[str, Any]]
) -> None:
    """Run a GeneralizedRCNN in eval mode and record the output of each part, as JSON-compatible data.

    Keypoints are predicted for the first MOST_REGIONS detections, or proposals if there are no detections. If there are
    no proposals, as with most random weights, the whole image is the only proposal.

    Args:
        images: One image, as the model's preprocess_image returns it.
        parts: Receives an entry for each part, which stays if a later part raises an exception. `part`: its name in the
            model, "input" and "instances" for the input and the result of the model; `class` with its Python module,
            None for these two; `note`, or ""; `tensors`: rows, see _row.
    """
    model.eval()
    strides = {name: shape.stride for name, shape in _declared_shapes(model.backbone)}
    levels = list(getattr(model.proposal_generator, "in_features", ()))

    def record(name: str, module: nn.Module | None, output: Any) -> None:
        # A cascade has lists of heads: box_predictor.0 is a box_predictor.
        own_name = re.sub(r"\.\d+$", "", name).rpartition(".")[2]
        names = RETURNS.get(own_name, ())
        if isinstance(output, tuple) and len(output) == len(names):
            output = dict(zip(names, output, strict=True))
        rows = [_row(key, tensor, strides) for key, tensor in _tensors(output, levels)]
        kind = None if module is None else class_path(module)
        parts.append({"part": name, "class": kind, "note": "", "tensors": rows})
        if isinstance(module, Backbone):
            for row in rows:
                _add_note(parts[-1], _wrong_stride(row, images.tensor))
        elif own_name == "anchor_generator":
            _add_note(parts[-1], f"{sum(row['shape'][0] for row in rows):,} anchors in all")

    def hook(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: record(name, module, output)

    hooks = [module.register_forward_hook(hook(name)) for name, module in _parts(model)]
    record("input", None, {"image": images.tensor})
    try:
        with torch.no_grad():
            features = model.backbone(images.tensor)
            proposals = _propose(model, images, features, parts)
            if isinstance(model.roi_heads, StandardROIHeads):
                _run_standard_heads(model.roi_heads, features, proposals, parts, record)
            elif model.roi_heads is not None:
                instances = model.roi_heads(images, features, [proposals], None)[0]
                record("instances", None, instances)
    finally:
        for handle in hooks:
            handle.remove()


def outputs_text(outputs: Mapping[str, Any]) -> str:
    """Format the records of describe_outputs, with a line for each tensor."""
    rows = [["tensor", "shape", "channels", "stride", "dtype", *STATISTICS]]
    for part in outputs["parts"]:
        kind = f" ({part['class'].rpartition('.')[2]})" if part["class"] else ""
        rows.append([f"{part['part']}{kind}{': ' if part['note'] else ''}{part['note']}"])
        for row in part["tensors"]:
            numbers = ["" if row[key] is None else f"{row[key]:.4g}" for key in STATISTICS]
            wrong = f" ({row['not_finite']} not finite)" if row["not_finite"] else ""
            optional = ["" if row[key] is None else str(row[key]) for key in ("channels", "stride")]
            shape = " × ".join(map(str, row["shape"]))
            rows.append([f"  {row['name']}{wrong}", shape, *optional, row["dtype"], *numbers])
    return text_table(rows, left=2)


def _declared_shapes(backbone: nn.Module) -> Iterator[tuple[str, Any]]:
    """Names and declared shapes of the features of a backbone and of its bottom_up."""
    for module in backbone.modules():
        if isinstance(module, Backbone):
            yield from module.output_shape().items()


def _parts(model: GeneralizedRCNN) -> Iterator[tuple[str, nn.Module]]:
    """The parts to record; a cascade has a list of heads."""
    for name, module in model.named_modules():
        if isinstance(module, Backbone) or PART.fullmatch(name):
            if isinstance(module, nn.ModuleList):
                yield from ((f"{name}.{i}", head) for i, head in enumerate(module))
            else:
                yield name, module


def _propose(
    model: GeneralizedRCNN,
    images: ImageList,
    features: Mapping[str, Tensor],
    parts: list[dict[str, Any]],
) -> Instances:
    """The proposals or, if there are none, the whole image."""
    if model.proposal_generator is not None:
        proposals = model.proposal_generator(images, features, None)[0][0]
        if len(proposals):
            return proposals
    _add_note(parts[-1], "no proposals: the ROI heads get the whole image")
    height, width = images.image_sizes[0]
    whole = Boxes(torch.tensor([[0.0, 0.0, width, height]]))
    return Instances((height, width), proposal_boxes=whole, objectness_logits=torch.ones(1))


def _run_standard_heads(
    heads: StandardROIHeads,
    features: Mapping[str, Tensor],
    proposals: Instances,
    parts: list[dict[str, Any]],
    record: Callable[..., None],
) -> None:
    """Run the box head on all proposals, and the keypoint head on the first few regions."""
    regions, kind = heads._forward_box(features, [proposals])[0], "detections"
    if len(regions) == 0:
        kind = "proposals (nothing is detected)"
        classes = torch.zeros(len(proposals), dtype=torch.int64)
        boxes = proposals.proposal_boxes
        regions = Instances(proposals.image_size, pred_boxes=boxes, pred_classes=classes)
    few = regions[:MOST_REGIONS]
    before = len(parts)
    undecodable = ""
    heads._forward_mask(features, [few])
    if heads.keypoint_on and hasattr(heads.keypoint_head, "layers") and heads.keypoint_pooler:
        maps = [features[name] for name in heads.keypoint_in_features]
        heatmaps = heads.keypoint_head.layers(heads.keypoint_pooler(maps, [few.pred_boxes]))
        record("roi_heads.keypoint_head", heads.keypoint_head, {"heatmaps": heatmaps})
        try:
            keypoint_rcnn_inference(heatmaps, [few])
        except AssertionError:  # after NaN in the scores
            undecodable = "the heatmaps' values are too far apart for keypoints to be found"
    else:
        heads._forward_keypoint(features, [few])
    record("instances", None, few)
    for part in parts[before:]:
        _add_note(part, f"on the first {len(few)} of {len(regions)} {kind}")
    _add_note(parts[-1], undecodable)


def _add_note(part: dict[str, Any], note: str) -> None:
    part["note"] = "; ".join(filter(None, (part["note"], note)))


def _tensors(value: Any, levels: Sequence[str], name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in the output of a part, named by keys, fields, levels of the pyramid, or indices."""
    if isinstance(value, Tensor):
        yield name or "output", value
        return
    if isinstance(getattr(value, "tensor", None), Tensor):  # boxes, keypoints
        yield name or "output", value.tensor
        return
    if isinstance(value, Instances):
        value = value.get_fields()
    elif isinstance(value, list) and len(value) == 1 and isinstance(value[0], Instances):
        value = value[0].get_fields()  # a list of images, of which there is one
    elif isinstance(value, list) and len(value) == len(levels):
        value = dict(zip(levels, value, strict=True))
    elif isinstance(value, list | tuple):
        value = {str(i): item for i, item in enumerate(value)}
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, levels, f"{name}.{key}".strip("."))


def _row(name: str, tensor: Tensor, strides: Mapping[str, int]) -> dict[str, Any]:
    """Describe a tensor.

    Returns:
        Among others `stride`: in pixels, as the backbone declares it, None if the tensor belongs to no feature map;
        `channels`: None unless it has 4 dimensions; `min`, `mean`, `max`, `std` of the finite values, None if there are
        none; `not_finite`: the number of other values.
    """
    finite = tensor.detach().double()
    finite = finite[finite.isfinite()]
    return {
        "name": name,
        "shape": list(tensor.shape),
        "stride": strides.get(name.rpartition(".")[2]),
        "channels": tensor.shape[1] if tensor.dim() == 4 else None,
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "min": finite.min().item() if len(finite) else None,
        "mean": finite.mean().item() if len(finite) else None,
        "max": finite.max().item() if len(finite) else None,
        "std": finite.std(correction=0).item() if len(finite) else None,
        "not_finite": tensor.numel() - len(finite),
    }


def _wrong_stride(row: Mapping[str, Any], image: Tensor) -> str:
    """A note if the size of a feature map contradicts its declared stride."""
    if row["stride"] is None or row["channels"] is None:
        return ""
    if row["shape"][2:] == [math.ceil(size / row["stride"]) for size in image.shape[2:]]:
        return ""
    return f"{row['name']} declares stride {row['stride']}, which its size contradicts"
