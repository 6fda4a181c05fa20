"""The detector as tensor operations that torch.export can trace for any image size."""

from __future__ import annotations

import torch
import torchvision
from detectron2.layers import ROIAlign
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from torch import Tensor, nn


class Detector(nn.Module):
    """GeneralizedRCNN's inference for one image, without lists and Instances."""

    def __init__(self, model: GeneralizedRCNN, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.backbone = BackboneAndRPN(model, dtype)
        self.heads = Heads(model, dtype)
        self.rpn = model.proposal_generator
        self.predictor = model.roi_heads.box_predictor
        self.cell_anchors = model.proposal_generator.anchor_generator.cell_anchors
        self.input_names = ["batch", "size", "score_threshold"]
        heatmaps = ["heatmaps"] if self.heads.keypoint_on else []
        self.output_names = ["boxes", "scores", "classes", *heatmaps]

    def forward(self, batch: Tensor, size: Tensor, score_threshold: Tensor) -> tuple[Tensor, ...]:
        """Detect the objects in one image.

        Args:
            batch: 1 x 3 x H x W, normalised, padded on the right and below to multiples of the backbone's
                size_divisibility.
            size: height and width in pixels before the padding.
            score_threshold: detections of this score or less are dropped.

        Returns:
            Boxes (N x 4, in pixels of the batch, clipped to the size), scores (N), classes (N) and, if the model has
            keypoints, heatmaps (N x K x S x S); highest score first.
        """
        features, objectness, deltas = self.backbone.levels(batch)
        limits = size.flip(0).repeat(2).to(torch.float32)  # x, y, x, y
        proposals = self._proposals(objectness, deltas, limits)
        scores, box_deltas = self.heads.boxes(features, proposals)
        found = self._detections(proposals, scores, box_deltas, limits, score_threshold)
        if not self.heads.keypoint_on:
            return found
        return *found, self.heads.heatmaps(features, found[0])

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

    def _detections(
        self, proposals: Tensor, scores: Tensor, deltas: Tensor, limits: Tensor, threshold: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """detectron2's fast_rcnn_inference: boxes, scores and classes."""
        boxes = self.predictor.box2box_transform.apply_deltas(deltas, proposals)
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
    """Backbone and RPN head: B x 3 x H x W to feature maps, objectness logits and anchor deltas of each level."""

    def __init__(self, model: GeneralizedRCNN, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.rpn_head = model.proposal_generator.rpn_head
        self.in_features = list(model.proposal_generator.in_features)
        self.dtype = dtype
        self.input_names = ["batch"]
        prefixes = ("", "objectness_", "anchor_deltas_")
        self.output_names = [prefix + level for prefix in prefixes for level in self.in_features]

    def levels(self, batch: Tensor) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
        features = self.backbone(batch.to(self.dtype))
        logits, deltas = self.rpn_head([features[name] for name in self.in_features])
        return features, [x.float() for x in logits], [x.float() for x in deltas]

    def forward(self, batch: Tensor) -> tuple[Tensor, ...]:
        features, logits, deltas = self.levels(batch)
        return *(features[name].float() for name in self.in_features), *logits, *deltas


class Heads(nn.Module):
    """Box and keypoint heads, from feature maps and regions (N x 5: image, x1, y1, x2, y2).

    Outputs are class probabilities (N x C + 1, the background last), box deltas (N x C * 4, or N x 4) and keypoint
    heatmaps (N x K x S x S).
    """

    def __init__(self, model: GeneralizedRCNN, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        heads = model.roi_heads
        self.box_in_features = list(heads.box_in_features)
        self.box_pooler, self.box_head = heads.box_pooler, heads.box_head
        self.box_predictor = heads.box_predictor
        self.keypoint_on = heads.keypoint_on
        if self.keypoint_on:
            self.keypoint_in_features = list(heads.keypoint_in_features)
            self.keypoint_pooler, self.keypoint_head = heads.keypoint_pooler, heads.keypoint_head
        self.dtype = dtype
        self.input_names = [*heads_features(model), "regions"]
        heatmaps = ["heatmaps"] if self.keypoint_on else []
        self.output_names = ["probabilities", "box_deltas", *heatmaps]

    def boxes(self, features: dict[str, Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Class probabilities and box deltas of boxes (N x 4) in the first image, or of regions (N x 5)."""
        pooled = _pool(self.box_pooler, [features[name] for name in self.box_in_features], boxes)
        logits, deltas = self.box_predictor(self.box_head(pooled.to(self.dtype)))
        if self.box_predictor.use_sigmoid_ce:
            return logits.float().sigmoid(), deltas.float()
        return logits.float().softmax(dim=-1), deltas.float()

    def heatmaps(self, features: dict[str, Tensor], boxes: Tensor) -> Tensor:
        maps = [features[name] for name in self.keypoint_in_features]
        pooled = _pool(self.keypoint_pooler, maps, boxes)
        return self.keypoint_head.layers(pooled.to(self.dtype)).float()

    def forward(self, features: dict[str, Tensor], regions: Tensor) -> tuple[Tensor, ...]:
        found = self.boxes(features, regions)
        return (*found, self.heatmaps(features, regions)) if self.keypoint_on else found


def heads_features(model: GeneralizedRCNN) -> list[str]:
    """The levels that the heads use, finest first."""
    heads = model.roi_heads
    used = {*heads.box_in_features, *(heads.keypoint_in_features if heads.keypoint_on else ())}
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
