"""The detector as tensor operations that torch.export can trace for any image size."""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from detectron2.layers import ROIAlign
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from torch import Tensor, nn

from ...modeling.keypoint_decoding import dark_positions


class Detector(nn.Module):
    """GeneralizedRCNN's inference for one image, without lists and Instances."""

    def __init__(self, model: GeneralizedRCNN, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.backbone = BackboneAndRPN(model, dtype)
        self.heads = Heads(model, dtype)
        self.rpn = model.proposal_generator
        self.predictor = self.heads.stages[-1][1]
        self.cell_anchors = model.proposal_generator.anchor_generator.cell_anchors
        head = getattr(model.roi_heads, "keypoint_head", None)
        self.dark = getattr(head, "decoding", "highest") == "dark"
        self.input_names = ["batch", "size", "score_threshold"]
        optional = {
            "masks": self.heads.mask_on,
            "heatmaps": self.heads.keypoint_on,
            "positions": self.dark,
        }
        self.output_names = ["boxes", "scores", "classes", *(k for k, v in optional.items() if v)]

    def forward(self, batch: Tensor, size: Tensor, score_threshold: Tensor) -> tuple[Tensor, ...]:
        """Detect the objects in one image.

        Args:
            batch: 1 x 3 x H x W, normalised, padded on the right and below to multiples of the backbone's
                size_divisibility.
            size: height and width in pixels before the padding.
            score_threshold: detections of this score or less are dropped.

        Returns:
            Boxes (N x 4, in pixels of the batch, clipped to the size), scores (N) and classes (N), highest score first;
            if the model has masks, their probabilities in the boxes (N x S x S); if it has keypoints, heatmaps (N x K x
            S x S) and, with DARK decoding, positions (N x K x 2, x and y in pixels of the batch).
        """
        features, objectness, deltas = self.backbone.levels(batch)
        limits = size.flip(0).repeat(2).to(torch.float32)  # x, y, x, y
        proposals = self._proposals(objectness, deltas, limits)
        scores, boxes = self._classified(features, proposals, limits)
        found = list(self._detections(scores, boxes, limits, score_threshold))
        boxes, _, classes = found
        if self.heads.mask_on:
            logits = self.heads.masks(features, boxes)
            if logits.shape[1] > 1:  # one mask for each class
                own = classes[:, None, None, None].expand(-1, 1, *logits.shape[2:])
                logits = logits.gather(1, own)
            found.append(logits[:, 0].sigmoid())
        if self.heads.keypoint_on:
            found.append(self.heads.heatmaps(features, boxes))
            if self.dark:
                found.append(dark_positions(found[-1], boxes))
        return tuple(found)

    def _proposals(self, objectness: list[Tensor], deltas: list[Tensor], limits: Tensor) -> Tensor:
        """detectron2's find_top_rpn_proposals: P x 4."""
        rpn = self.rpn
        generator = rpn.anchor_generator
        boxes, scores = [], []
        for level, stride in enumerate(generator.strides):
            height, width = objectness[level].shape[-2:]
            cells = _anchors(
                list(self.cell_anchors)[level], height, width, stride, generator.offset
            )
            # (1, A, H, W) to (H * W * A), and (1, A * 4, H, W) to (H * W * A, 4)
            logits = objectness[level][0].permute(1, 2, 0).flatten()
            level_deltas = deltas[level][0].unflatten(0, (-1, 4)).permute(2, 3, 0, 1).reshape(-1, 4)
            count = torch.sym_min(rpn.pre_nms_topk[False], logits.shape[0])
            logits, best = logits.topk(count)
            found = rpn.box2box_transform.apply_deltas(level_deltas[best], cells[best])
            usable = found.isfinite().all(dim=1) & logits.isfinite()
            found = _clip(found, limits)
            sides = found[:, 2:] - found[:, :2]
            usable = usable & (sides > rpn.min_box_size).all(dim=1)
            found, logits = found[usable], logits[usable]
            kept = torchvision.ops.nms(found, logits, rpn.nms_thresh)
            boxes.append(found[kept])
            scores.append(logits[kept])
        order = torch.cat(scores).argsort(descending=True)[: rpn.post_nms_topk[False]]
        return torch.cat(boxes)[order]

    def _classified(
        self, features: dict[str, Tensor], boxes: Tensor, limits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Class probabilities of proposals, the mean of the stages, and the last one's boxes (P x C * 4, or P x 4)."""
        scores = []
        for stage, (_, predictor) in enumerate(self.heads.stages):
            if stage:
                boxes = _clip(boxes, limits)
            probabilities, deltas = self.heads.boxes(features, boxes, stage)
            scores.append(probabilities)
            boxes = predictor.box2box_transform.apply_deltas(deltas, boxes)
        return torch.stack(scores).mean(dim=0), boxes

    def _detections(
        self, scores: Tensor, boxes: Tensor, limits: Tensor, threshold: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """detectron2's fast_rcnn_inference: boxes, scores and classes."""
        usable = boxes.isfinite().all(dim=1) & scores.isfinite().all(dim=1)
        boxes = _clip(boxes.unflatten(1, (-1, 4)), limits)
        scores = scores[:, :-1]
        regions, classes = ((scores > threshold) & usable[:, None]).nonzero().unbind(1)
        scores = scores[regions, classes]
        boxes = boxes[regions, classes if boxes.shape[1] > 1 else torch.zeros_like(classes)]
        # An offset for each class, so that boxes of different classes do not overlap.
        offset_boxes = boxes + (classes * (limits.max() + 1))[:, None]
        kept = torchvision.ops.nms(offset_boxes, scores, self.predictor.test_nms_thresh)
        if self.predictor.test_topk_per_image >= 0:
            kept = kept[: self.predictor.test_topk_per_image]
        return boxes[kept], scores[kept], classes[kept]


class BackboneAndRPN(nn.Module):
    """Backbone and RPN head: B x 3 x H x W to the feature maps that RPN and heads use, and objectness logits and anchor
    deltas of the RPN's levels.
    """

    def __init__(self, model: GeneralizedRCNN, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.rpn_head = model.proposal_generator.rpn_head
        self.in_features = list(model.proposal_generator.in_features)
        self.dtype = dtype
        used = {*self.in_features, *heads_features(model)}
        self.out_features = [name for name in model.backbone.output_shape() if name in used]
        self.input_names = ["batch"]
        outputs = [
            f"{name}_{level}"
            for name in ("objectness", "anchor_deltas")
            for level in self.in_features
        ]
        self.output_names = [*self.out_features, *outputs]

    def levels(self, batch: Tensor) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
        features = self.backbone(batch.to(self.dtype))
        logits, deltas = self.rpn_head([features[name] for name in self.in_features])
        return features, [x.float() for x in logits], [x.float() for x in deltas]

    def forward(self, batch: Tensor) -> tuple[Tensor, ...]:
        features, logits, deltas = self.levels(batch)
        return *(features[name].float() for name in self.out_features), *logits, *deltas


class Heads(nn.Module):
    """Box, mask and keypoint heads, from feature maps and regions (N x 5: image, x1, y1, x2, y2).

    Outputs are class probabilities (N x C + 1, the background last), box deltas (N x C * 4, or N x 4), mask logits (N x
    C x S x S, or N x 1 x S x S) and keypoint heatmaps (N x K x S x S). Boxes are those of one stage of a cascade.
    """

    def __init__(self, model: GeneralizedRCNN, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        heads = model.roi_heads
        self.box_in_features, self.box_pooler = list(heads.box_in_features), heads.box_pooler
        self.box_head, self.box_predictor = heads.box_head, heads.box_predictor
        self.mask_on, self.keypoint_on = heads.mask_on, heads.keypoint_on
        if self.mask_on:
            self.mask_in_features, self.mask_pooler = (
                list(heads.mask_in_features),
                heads.mask_pooler,
            )
            self.mask_head = heads.mask_head
        if self.keypoint_on:
            self.keypoint_in_features = list(heads.keypoint_in_features)
            self.keypoint_pooler, self.keypoint_head = heads.keypoint_pooler, heads.keypoint_head
        self.dtype = dtype
        self.input_names = [*heads_features(model), "regions"]
        optional = {"mask_logits": self.mask_on, "heatmaps": self.keypoint_on}
        outputs = [name for name, on in optional.items() if on]
        self.output_names = ["probabilities", "box_deltas", *outputs]

    @property
    def stages(self) -> list[tuple[nn.Module, Any]]:
        """The box head and the predictor of each stage; one, unless the heads are a cascade."""
        if isinstance(self.box_head, nn.ModuleList):
            return list(zip(self.box_head, self.box_predictor, strict=True))
        return [(self.box_head, self.box_predictor)]

    def boxes(
        self, features: dict[str, Tensor], boxes: Tensor, stage: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Class probabilities and box deltas of boxes (N x 4) in the first image, or of regions (N x 5)."""
        head, predictor = self.stages[stage]
        pooled = _pool(self.box_pooler, [features[name] for name in self.box_in_features], boxes)
        logits, deltas = predictor(head(pooled.to(self.dtype)))
        if predictor.use_sigmoid_ce:
            return logits.float().sigmoid(), deltas.float()
        return logits.float().softmax(dim=-1), deltas.float()

    def masks(self, features: dict[str, Tensor], boxes: Tensor) -> Tensor:
        pooled = _pool(self.mask_pooler, [features[name] for name in self.mask_in_features], boxes)
        return self.mask_head.layers(pooled.to(self.dtype)).float()

    def heatmaps(self, features: dict[str, Tensor], boxes: Tensor) -> Tensor:
        maps = [features[name] for name in self.keypoint_in_features]
        pooled = _pool(self.keypoint_pooler, maps, boxes)
        return self.keypoint_head.layers(pooled.to(self.dtype)).float()

    def forward(self, features: dict[str, Tensor], regions: Tensor) -> tuple[Tensor, ...]:
        found = list(self.boxes(features, regions))
        if self.mask_on:
            found.append(self.masks(features, regions))
        if self.keypoint_on:
            found.append(self.heatmaps(features, regions))
        return tuple(found)


def heads_features(model: GeneralizedRCNN) -> list[str]:
    """The levels that the heads use, finest first."""
    heads = model.roi_heads
    used = set(heads.box_in_features)
    for kind in ("mask", "keypoint"):
        if getattr(heads, f"{kind}_on"):
            used.update(getattr(heads, f"{kind}_in_features"))
    return [name for name in model.backbone.output_shape() if name in used]


def _anchors(cell: Tensor, height: int, width: int, stride: int, offset: float) -> Tensor:
    """DefaultAnchorGenerator's anchors of one level: H * W * A x 4."""
    y = (torch.arange(height) + offset) * stride
    x = (torch.arange(width) + offset) * stride
    y, x = torch.meshgrid(y, x, indexing="ij")
    centres = torch.stack([x, y, x, y], dim=-1)
    return (centres[:, :, None] + cell).reshape(-1, 4)


def _clip(boxes: Tensor, limits: Tensor) -> Tensor:
    return torch.minimum(boxes.clamp(min=0), limits)


def _pool(pooler: ROIPooler, features: list[Tensor], boxes: Tensor) -> Tensor:
    """ROIPooler's forward, for boxes (N x 4) of the first image, or regions (N x 5)."""
    if boxes.shape[1] == 4:
        boxes = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)
    # In single precision, the only one of onnxruntime's RoiAlign on a CPU.
    features = [feature.float() for feature in features]
    sides = boxes[:, 3:] - boxes[:, 1:3]
    ratio = (sides[:, 0] * sides[:, 1]).sqrt() / pooler.canonical_box_size
    levels = torch.floor(pooler.canonical_level + torch.log2(ratio + 1e-8))
    levels = levels.clamp(pooler.min_level, pooler.max_level) - pooler.min_level
    pooled = boxes.new_zeros(boxes.shape[0], features[0].shape[1], *pooler.output_size)
    for level, (feature, align) in enumerate(zip(features, pooler.level_poolers, strict=True)):
        (chosen,) = (levels == level).nonzero(as_tuple=True)
        aligned = ROIAlign.forward(align, feature, boxes[chosen])
        pooled = pooled.index_put((chosen,), aligned)
    return pooled
