"""What the parts of a network cost: multiply-accumulates of convolutions and matrix products."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from detectron2.modeling import Backbone, GeneralizedRCNN
from detectron2.modeling.roi_heads import StandardROIHeads
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .structure import text_table


def count_macs(function: Callable[..., Any], *inputs: Any) -> tuple[int, Any]:
    """Multiply-accumulates of a call, and what it returns.

    Convolutions, transposed ones too, matrix products and attention count; norms, activations, interpolation, pooling
    and NMS do not. Works on the meta device, where nothing is computed.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = function(*inputs)
    # The counter counts a multiplication and an addition as two.
    return counter.get_total_flops() // 2, output


def count_flops(model: GeneralizedRCNN, image: Tensor, rows: list[dict[str, Any]]) -> None:
    """Add to `rows` what each part of a GeneralizedRCNN costs for one image, as plain data for a json.

    Args:
        model: On the meta device, or there will be real work.
        image: (1, 3, height, width), padded, on the model's device.
        rows: Gets an entry for each part that could be counted, also where a later one raises an exception:
            `part`, its name in the model ("backbone" stands for the backbone without the one inside it, if there is
            one); `role`; `per`: "image", "proposal" or "detection"; `macs_each`: multiply-accumulates for one of
            them; `times`: how many there are at most; `macs`: the product.
    """
    model.eval()

    def add(part: str, role: str, macs: int, per: str = "image", times: int = 1) -> None:
        row = {"part": part, "role": role, "per": per, "macs_each": macs, "times": times}
        rows.append({**row, "macs": macs * times})

    bottom_up_macs = 0
    for name, child in model.backbone.named_children():
        if isinstance(child, Backbone):
            macs, _ = count_macs(child, image)
            add(f"backbone.{name}", "bottom_up", macs)
            bottom_up_macs += macs
    macs, features = count_macs(model.backbone, image)
    add("backbone", "neck" if bottom_up_macs else "bottom_up", macs - bottom_up_macs)

    rpn, heads = model.proposal_generator, model.roi_heads
    if hasattr(rpn, "rpn_head"):
        macs, _ = count_macs(rpn.rpn_head, [features[name] for name in rpn.in_features])
        add("proposal_generator.rpn_head", "RPN head", macs)
    if not isinstance(heads, StandardROIHeads):
        return

    times = rpn.post_nms_topk[False] if hasattr(rpn, "post_nms_topk") else 1
    region = _region(features, heads.box_in_features, heads.box_pooler)
    if isinstance(heads.box_head, nn.ModuleList):  # a cascade
        pairs = zip(heads.box_head, heads.box_predictor, strict=True)
        stages = [(f".{i}", head, predictor) for i, (head, predictor) in enumerate(pairs)]
    else:
        stages = [("", heads.box_head, heads.box_predictor)]
    for suffix, head, predictor in stages:
        macs, output = count_macs(head, region)
        add(f"roi_heads.box_head{suffix}", "box head", macs, "proposal", times)
        macs, _ = count_macs(predictor, output)
        add(f"roi_heads.box_predictor{suffix}", "box predictor", macs, "proposal", times)
    times = getattr(predictor, "test_topk_per_image", 1)
    for kind in ("mask", "keypoint"):
        layers = getattr(getattr(heads, f"{kind}_head", None), "layers", None)
        pooler = getattr(heads, f"{kind}_pooler", None)
        if layers and pooler:
            region = _region(features, getattr(heads, f"{kind}_in_features"), pooler)
            macs, _ = count_macs(layers, region)
            add(f"roi_heads.{kind}_head", f"{kind} head", macs, "detection", times)


def uncounted_parts(model: GeneralizedRCNN, rows: list[dict[str, Any]]) -> list[str]:
    """Parts of RPN and ROI heads that have parameters, but no row of count_flops."""
    return [
        name
        for name, module in model.named_modules()
        if re.fullmatch(r"(proposal_generator|roi_heads)\.\w+", name)
        and any(True for _ in module.parameters())
        and not any(row["part"] == name or row["part"].startswith(f"{name}.") for row in rows)
    ]


def flops_text(flops: Mapping[str, Any]) -> str:
    """What count_flops has counted, with a line for each part."""
    rows = [["part", "role", "per", "MMAC each", "times", "GMAC", "share"]]
    total = flops["macs"]
    for row in flops["parts"]:
        each, times = f"{row['macs_each'] / 1e6:,.3f}", f"{row['times']:,}"
        share = f"{row['macs'] / total:.1%}" if total else ""
        rows.append(
            [row["part"], row["role"], row["per"], each, times, f"{row['macs'] / 1e9:.3f}", share]
        )
    rows.append(["in all", "", "", "", "", f"{total / 1e9:.3f}", ""])
    return text_table(rows, left=3)


def _region(features: Mapping[str, Tensor], names: list[str], pooler: Any) -> Tensor:
    """What a pooler makes of one region, (1, channels, height, width), of no particular values."""
    feature = features[names[0]]
    return feature.new_zeros(1, feature.shape[1], *pooler.output_size)
