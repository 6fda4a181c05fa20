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
from ..tta import MERGE_SCORE_THRESH, KeypointTTA

Found = tuple[Tensor, Tensor, Tensor, Tensor]  # boxes (N x 4), scores, classes, image indices


class Detector(nn.Module):
    """GeneralizedRCNN's inference, without lists and Instances, for images of one size.

    An AugmentedRCNN's merges what is found in each image and in its mirror image, by NMS.

    Args:
        model: the model; its layers may be in half precision.
        batched: for any number of images; otherwise for one.
    """

    def __init__(self, model: GeneralizedRCNN, batched: bool = False) -> None:
        super().__init__()
        self.backbone = BackboneAndRPN(model)
        self.heads = Heads(model)
        self.rpn = model.proposal_generator
        self.predictor = self.heads.stages[-1][1]
        self.cell_anchors = model.proposal_generator.anchor_generator.cell_anchors
        self.batched = batched
        self.tta: KeypointTTA | None = getattr(model, "tta", None)
        head = getattr(model.roi_heads, "keypoint_head", None)
        self.dark = getattr(head, "decoding", "highest") == "dark"
        self.input_names = ["batch", "size", "score_threshold"]
        optional = {
            "image_indices": batched,
            "masks": self.heads.mask_on,
            "heatmaps": self.heads.keypoint_on,
            "positions": self.dark,
        }
        self.output_names = ["boxes", "scores", "classes", *(k for k, v in optional.items() if v)]

    def forward(self, batch: Tensor, size: Tensor, score_threshold: Tensor) -> tuple[Tensor, ...]:
        """Detect the objects in images.

        Args:
            batch: B x 3 x H x W, normalised, padded on the right and below to multiples of the backbone's
                size_divisibility.
            size: height and width in pixels before the padding.
            score_threshold: detections of this score or less are dropped.

        Returns:
            Boxes (N x 4, in pixels of the batch, clipped to the size), scores (N) and classes (N), highest score first;
            of a batch, the index of each one's image (N); if the model has masks, their probabilities in the boxes (N x
            S x S); if it has keypoints, heatmaps (N x K x S x S) and, with DARK decoding, positions (N x K x 2, x and y
            in pixels of the batch).
        """
        number = batch.shape[0]
        limits = size.flip(0).repeat(2).to(torch.float32)  # x, y, x, y
        if self.tta is None:
            features, found = self._detect(batch, limits, score_threshold)
        else:
            batch = torch.cat([batch, _mirror_images(batch, size[1])])
            lowest = score_threshold.clamp(max=MERGE_SCORE_THRESH)
            features, found = self._detect(batch, limits, lowest)
            found = self._merged(*found, number, limits, score_threshold)
        boxes, scores, classes, images = found
        results = [boxes, scores, classes]
        if self.batched:
            results.append(images)
        regions = _regions(images, boxes)
        if self.heads.mask_on:
            logits = self.heads.masks(features, regions)
            if logits.shape[1] > 1:  # one mask for each class
                own = classes[:, None, None, None].expand(-1, 1, *logits.shape[2:])
                logits = logits.gather(1, own)
            results.append(logits[:, 0].sigmoid())
        if self.heads.keypoint_on:
            maps = self.heads.heatmaps(features, regions)
            if self.tta is not None:
                mirror_images = torch.arange(batch.shape[0])[number:][images]
                mirrored = _regions(mirror_images, _mirror_boxes(boxes, limits))
                partners = self.tta.schema.flip_indices
                others = self.heads.heatmaps(features, mirrored)[:, list(partners)].flip(-1)
                maps = (maps + others) / 2
            results.append(maps)
            if self.dark:
                results.append(dark_positions(maps, boxes))
        return tuple(results)

    def _detect(
        self, batch: Tensor, limits: Tensor, threshold: Tensor
    ) -> tuple[dict[str, Tensor], Found]:
        """Feature maps, and the boxes, scores, classes and image indices of the objects."""
        features, objectness, deltas = self.backbone.levels(batch)
        proposals, images = self._proposals(objectness, deltas, limits)
        scores, boxes = self._classified(features, proposals, images, limits)
        found = self._detections(scores, boxes, images, batch.shape[0], limits, threshold)
        return features, found

    def _proposals(
        self, objectness: list[Tensor], deltas: list[Tensor], limits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """detectron2's find_top_rpn_proposals: P x 4, and the indices of their images, P."""
        rpn = self.rpn
        generator = rpn.anchor_generator
        number = objectness[0].shape[0]
        all_boxes, all_scores, all_images = [], [], []
        for level, stride in enumerate(generator.strides):
            height, width = objectness[level].shape[-2:]
            cells = _anchors(
                list(self.cell_anchors)[level], height, width, stride, generator.offset
            )
            # B x A x H x W to B x H * W * A, and B x A * 4 x H x W to B x H * W * A x 4
            logits = objectness[level].permute(0, 2, 3, 1).flatten(1)
            level_deltas = deltas[level].unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)
            count = torch.sym_min(rpn.pre_nms_topk[False], logits.shape[1])
            logits, best = logits.topk(count)
            best_deltas = level_deltas.gather(1, best[..., None].expand(-1, -1, 4)).flatten(0, 1)
            boxes = rpn.box2box_transform.apply_deltas(best_deltas, cells[best.flatten()])
            images = torch.arange(number)[:, None].expand_as(logits).flatten()
            scores = logits.flatten()
            usable = boxes.isfinite().all(dim=1) & scores.isfinite()
            boxes = _clip(boxes, limits)
            sides = boxes[:, 2:] - boxes[:, :2]
            usable = usable & (sides > rpn.min_box_size).all(dim=1)
            boxes, scores, images = boxes[usable], scores[usable], images[usable]
            kept = _nms(boxes, scores, images, limits, rpn.nms_thresh)
            all_boxes.append(boxes[kept])
            all_scores.append(scores[kept])
            all_images.append(images[kept])
        order = torch.cat(all_scores).argsort(descending=True)
        images = torch.cat(all_images)[order]
        first = self._first(images, number, rpn.post_nms_topk[False])
        return torch.cat(all_boxes)[order][first], images[first]

    def _classified(
        self, features: dict[str, Tensor], boxes: Tensor, images: Tensor, limits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Class probabilities of proposals, the mean of the stages, and the last one's boxes (P x C * 4, or P x 4)."""
        scores = []
        for stage, (_, predictor) in enumerate(self.heads.stages):
            if stage:
                boxes = _clip(boxes, limits)
            probabilities, deltas = self.heads.boxes(features, _regions(images, boxes), stage)
            scores.append(probabilities)
            boxes = predictor.box2box_transform.apply_deltas(deltas, boxes)
        return torch.stack(scores).mean(dim=0), boxes

    def _detections(
        self,
        scores: Tensor,
        boxes: Tensor,
        images: Tensor,
        number: int,
        limits: Tensor,
        threshold: Tensor,
    ) -> Found:
        """detectron2's fast_rcnn_inference: boxes, scores, classes and image indices."""
        usable = boxes.isfinite().all(dim=1) & scores.isfinite().all(dim=1)
        boxes = _clip(boxes.unflatten(1, (-1, 4)), limits)
        scores = scores[:, :-1]
        regions, classes = ((scores > threshold) & usable[:, None]).nonzero().unbind(1)
        scores, images = scores[regions, classes], images[regions]
        boxes = boxes[regions, classes if boxes.shape[1] > 1 else torch.zeros_like(classes)]
        groups = images * self.predictor.num_classes + classes
        kept = _nms(boxes, scores, groups, limits, self.predictor.test_nms_thresh)
        kept = kept[self._first(images[kept], number, self.predictor.test_topk_per_image)]
        return boxes[kept], scores[kept], classes[kept], images[kept]

    def _merged(
        self,
        boxes: Tensor,
        scores: Tensor,
        classes: Tensor,
        images: Tensor,
        number: int,
        limits: Tensor,
        threshold: Tensor,
    ) -> Found:
        """AugmentedRCNN's merging by NMS, of images and their mirror images, whose indices are `number` higher."""
        assert self.tta is not None
        boxes = torch.where((images < number)[:, None], boxes, _mirror_boxes(boxes, limits))
        images = torch.arange(number).repeat(2)[images]
        groups = images * self.predictor.num_classes + classes
        kept = _nms(_clip(boxes, limits), scores, groups, limits, self.tta.merge_thresh)
        kept = kept[scores[kept] > threshold]
        kept = kept[self._first(images[kept], number, self.predictor.test_topk_per_image)]
        return _clip(boxes[kept], limits), scores[kept], classes[kept], images[kept]

    def _first(self, images: Tensor, number: int, count: int) -> Tensor:
        """The positions of the first `count` entries of each image; of all entries, if it is negative."""
        if count < 0:
            return torch.arange(images.shape[0])
        if not self.batched and self.tta is None:
            return torch.arange(images.shape[0])[:count]
        own = images[:, None] == torch.arange(number)
        rank = (own.cumsum(dim=0) * own).sum(dim=1)  # from 1
        return (rank <= count).nonzero()[:, 0]


class BackboneAndRPN(nn.Module):
    """Backbone and RPN head: B x 3 x H x W to the feature maps that RPN and heads use, and objectness logits and anchor
    deltas of the RPN's levels.
    """

    def __init__(self, model: GeneralizedRCNN) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.rpn_head = model.proposal_generator.rpn_head
        self.in_features = list(model.proposal_generator.in_features)
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
        features = self.backbone(_for_layer(batch, self.backbone))
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

    def __init__(self, model: GeneralizedRCNN) -> None:
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
        self, features: dict[str, Tensor], regions: Tensor, stage: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Class probabilities and box deltas of regions."""
        head, predictor = self.stages[stage]
        pooled = _pool(self.box_pooler, [features[name] for name in self.box_in_features], regions)
        logits, deltas = predictor(head(_for_layer(pooled, predictor)))
        if predictor.use_sigmoid_ce:
            return logits.float().sigmoid(), deltas.float()
        return logits.float().softmax(dim=-1), deltas.float()

    def masks(self, features: dict[str, Tensor], regions: Tensor) -> Tensor:
        pooled = _pool(
            self.mask_pooler, [features[name] for name in self.mask_in_features], regions
        )
        return self.mask_head.layers(_for_layer(pooled, self.mask_head)).float()

    def heatmaps(self, features: dict[str, Tensor], regions: Tensor) -> Tensor:
        maps = [features[name] for name in self.keypoint_in_features]
        pooled = _pool(self.keypoint_pooler, maps, regions)
        return self.keypoint_head.layers(_for_layer(pooled, self.keypoint_head)).float()

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


def _for_layer(x: Tensor, layer: nn.Module) -> Tensor:
    """Convert to the dtype of a layer's weights."""
    return x.to(next(layer.parameters()).dtype)


def _anchors(cell: Tensor, height: int, width: int, stride: int, offset: float) -> Tensor:
    """DefaultAnchorGenerator's anchors of one level: H * W * A x 4."""
    y = (torch.arange(height) + offset) * stride
    x = (torch.arange(width) + offset) * stride
    y, x = torch.meshgrid(y, x, indexing="ij")
    centres = torch.stack([x, y, x, y], dim=-1)
    return (centres[:, :, None] + cell).reshape(-1, 4)


def _clip(boxes: Tensor, limits: Tensor) -> Tensor:
    return torch.minimum(boxes.clamp(min=0), limits)


def _nms(boxes: Tensor, scores: Tensor, groups: Tensor, limits: Tensor, threshold: float) -> Tensor:
    """NMS within each group: an offset for each, so that boxes of different ones do not overlap."""
    offsets = groups * (limits.max() + 1)
    return torchvision.ops.nms(boxes + offsets[:, None], scores, threshold)


def _regions(images: Tensor, boxes: Tensor) -> Tensor:
    """N x 5: the index of the image, x1, y1, x2, y2."""
    return torch.cat([images[:, None].to(boxes.dtype), boxes], dim=1)


def _mirror_images(batch: Tensor, width: Tensor) -> Tensor:
    """Swap left and right of the first `width` columns; the others are padding."""
    columns = torch.arange(batch.shape[3])
    columns = torch.where(columns < width, width - 1 - columns, columns)
    return batch[..., columns]


def _mirror_boxes(boxes: Tensor, limits: Tensor) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([limits[0] - x2, y1, limits[0] - x1, y2], dim=1)


def _pool(pooler: ROIPooler, features: list[Tensor], regions: Tensor) -> Tensor:
    """ROIPooler's forward, for regions (N x 5)."""
    # In single precision, the only one of onnxruntime's RoiAlign on a CPU.
    features = [feature.float() for feature in features]
    sides = regions[:, 3:] - regions[:, 1:3]
    ratio = (sides[:, 0] * sides[:, 1]).sqrt() / pooler.canonical_box_size
    levels = torch.floor(pooler.canonical_level + torch.log2(ratio + 1e-8))
    levels = levels.clamp(pooler.min_level, pooler.max_level) - pooler.min_level
    pooled = regions.new_zeros(regions.shape[0], features[0].shape[1], *pooler.output_size)
    for level, (feature, align) in enumerate(zip(features, pooler.level_poolers, strict=True)):
        (chosen,) = (levels == level).nonzero(as_tuple=True)
        aligned = ROIAlign.forward(align, feature, regions[chosen])
        pooled = pooled.index_put((chosen,), aligned)
    return pooled
