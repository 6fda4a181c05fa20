"""Inspect a model: its modules, their outputs for one image, and multiply-accumulates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import ImageList
from omegaconf import DictConfig
from PIL import ImageOps
from torch import Tensor, nn

from ...config.checks.build import build_or_refuse
from ...config.resolve import label_names
from ...data.synthetic import draw_image
from ...errors import UserError, one_line
from ...weights import load_weights
from ...weights.match import part_of
from .outputs import describe_outputs, outputs_text
from .structure import count_flops, describe_structure, flops_text, structure_text, uncounted_parts

SECTIONS = ("structure", "outputs", "flops")
SEED = 0
# Limits, in pixels, of the side at which synthetic people are drawn before resizing: below, they are not recognizable;
# above, drawing is slow.
SMALLEST, LARGEST = 192, 1024


def inspect_model(
    cfg: DictConfig,
    sections: Sequence[str] = SECTIONS,
    depth: int = 3,
    size: str = "480x640",
    weights: str = "",
) -> tuple[dict[str, Any], list[UserError]]:
    """Inspect `cfg.model`.

    Args:
        sections: A selection of SECTIONS.
        depth: Levels of modules below the model.
        size: "HxW", height and width of the image in pixels.
        weights: Path or URL; "" for random weights with a fixed seed.

    Returns:
        JSON-compatible data by section, and an error for each section that is incomplete. `structure`: see
        describe_structure. `outputs`, for an image of synthetic people: `image_size` (height, width and, after padding,
        padded_height and padded_width, in pixels), `weights` (the file or None, and the parts with random weights),
        `warnings` and `parts`, see describe_outputs. `flops`: `image_size` as above, `parts`, see count_flops, `macs`,
        their sum, and `not_counted`, names of parts.

    Raises:
        UserError: If an argument is invalid, or the model cannot be built.
    """
    if depth < 0:
        raise UserError(f"--depth {depth}: it must be at least 0, which shows the model alone")
    height, width = parse_size(size)
    model = build_or_refuse(cfg).train()  # on the device "meta", without values
    if "outputs" in sections or weights:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            model = instantiate(cfg.model)
    random = _load(model, weights, label_names(cfg))
    document: dict[str, Any] = {}
    failures: list[UserError] = []
    if "structure" in sections:
        document["structure"] = describe_structure(model, depth)
    if not isinstance(model, GeneralizedRCNN):
        if set(sections) != {"structure"}:
            kind = f"model is a {type(model).__name__}"
            failures.append(UserError(f"{kind}: outputs and flops need a GeneralizedRCNN"))
        return document, failures
    if "outputs" in sections:
        image = _draw(height, width, model.input_format)
        images = model.preprocess_image([{"image": image}])
        parts: list[dict[str, Any]] = []
        with _collecting(failures, "the model does not run", parts):
            describe_outputs(model, images, parts)
        document["outputs"] = {
            "image_size": _sizes(images),
            "weights": {"file": weights or None, "random": random},
            "warnings": _norm_warnings(model),
            "parts": parts,
        }
    if "flops" in sections:
        image = torch.zeros(3, height, width, device="meta")
        images = model.to("meta").preprocess_image([{"image": image}])
        rows: list[dict[str, Any]] = []
        with _collecting(failures, "flops cannot be counted", rows):
            count_flops(model, images.tensor, rows)
        document["flops"] = {
            "image_size": _sizes(images),
            "parts": rows,
            "macs": sum(row["macs"] for row in rows),
            "not_counted": uncounted_parts(model, rows),
        }
    return document, failures


def inspection_text(document: Mapping[str, Any]) -> str:
    """Format the data of inspect_model as text."""
    texts = []
    if "structure" in document:
        texts.append(structure_text(document["structure"]))
    if "outputs" in document:
        outputs = document["outputs"]
        weights = "random, with a fixed seed"
        if outputs["weights"]["file"]:
            random = ", ".join(outputs["weights"]["random"])
            weights = f"{outputs['weights']['file']}{'; random: ' if random else ''}{random}"
        lines = [
            f"Outputs for an image of synthetic people, {_size_text(outputs['image_size'])}",
            f"weights: {weights}",
            *(f"warning: {warning}" for warning in outputs["warnings"]),
        ]
        texts.append("\n".join([*lines, "", outputs_text(outputs)]))
    if "flops" in document:
        flops = document["flops"]
        lines = [
            f"Flops for an image of {_size_text(flops['image_size'])}",
            "in multiply-accumulates (MAC) of convolutions and matrix products; other operations are not counted",
            *(f"warning: {name} is not counted" for name in flops["not_counted"]),
        ]
        texts.append("\n".join([*lines, "", flops_text(flops)]))
    return "\n\n\n".join(texts)


def parse_size(size: str) -> tuple[int, int]:
    """Parse "HxW" to height and width in pixels; raise UserError if it is invalid."""
    match = re.fullmatch(r"0*([1-9]\d*)x0*([1-9]\d*)", size)
    if not match:
        raise UserError(f"--size {size}: write height x width in pixels, such as 480x640")
    if max(int(match[1]), int(match[2])) > 16384:
        raise UserError(f"--size {size}: a side may have at most 16384 pixels")
    return int(match[1]), int(match[2])


def _load(model: nn.Module, weights: str, labels: Mapping[str, Any]) -> list[str]:
    """Load weights, if any; return the names of the parts without loaded weights."""
    if not weights:
        return list(dict.fromkeys(map(part_of, model.state_dict())))
    if "://" not in weights and not Path(weights).is_file():
        raise UserError(f"--weights {weights}: no such file")
    return list(load_weights(model, weights, strict=True, whole=False, **labels).absent)


def _draw(height: int, width: int, channels: str | None) -> Tensor:
    """Draw synthetic people: (3, height, width), 0 to 255, RGB unless `channels` is "BGR"."""
    side = min(max(height, width, SMALLEST), LARGEST)
    image, _ = draw_image(np.random.default_rng(SEED), side)
    image = ImageOps.fit(image, (width, height))
    pixels = torch.as_tensor(np.array(image, dtype=np.float32)).permute(2, 0, 1)
    return pixels.flip(0) if channels == "BGR" else pixels


def _norm_warnings(model: nn.Module) -> list[str]:
    norms: list[Any] = [
        m for m in model.modules() if isinstance(getattr(m, "running_mean", None), Tensor)
    ]
    initial = sum(
        not norm.running_mean.any() and bool((norm.running_var - 1).abs().max() < 1e-4)
        for norm in norms
    )
    if not initial:
        return []
    return [
        f"{initial} of {len(norms)} batch norms have no statistics (mean 0, variance 1), so that values may grow or "
        "vanish from layer to layer"
    ]


@contextmanager
def _collecting(
    failures: list[UserError], what: str, parts: list[dict[str, Any]]
) -> Iterator[None]:
    """Add an exception of any class to `failures`: a user's modules may raise anything."""
    try:
        yield
    except Exception as error:
        after = f" beyond {parts[-1]['part']}" if parts else ""
        failure = UserError(f"{what}{after}: {one_line(error)}")
        failure.__cause__ = error
        failures.append(failure)


def _sizes(images: ImageList) -> dict[str, int]:
    height, width = images.image_sizes[0]
    padded_height, padded_width = images.tensor.shape[-2:]
    padded = {"padded_height": padded_height, "padded_width": padded_width}
    return {"height": height, "width": width, **padded}


def _size_text(sizes: Mapping[str, int]) -> str:
    size, padded = (f"{sizes[p + 'height']} × {sizes[p + 'width']}" for p in ("", "padded_"))
    return f"{size} pixels{'' if size == padded else f', padded to {padded}'}"
