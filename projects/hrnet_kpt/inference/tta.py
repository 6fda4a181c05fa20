"""Test-time augmentation: detections in resized and mirrored versions of an image are merged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.layers import batched_nms
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, StandardROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor

from ..data.categories import Classes, resolve_classes, resolve_schema
from ..data.schema import KeypointSchema
from ..errors import UserError
from .tta_merging import View, oks_nms, weighted_box_fusion

Features = dict[str, Tensor]

MERGES = ("fusion", "nms")

# The threshold of boxes before merging, if the model's is higher, which would otherwise change merged boxes instead of
# only dropping some. It is detectron2's default for the model's threshold.
MERGE_SCORE_THRESH = 0.05


class KeypointTTA:
    """The settings of test-time augmentation.

    Args:
        keypoints: the schema of the data, with the pairs that mirroring swaps.
        classes: the classes of the data, with the keypoints of each.
        enabled: False makes `augmented` return models unchanged.
        scales: factors of the size of the model's input image.
        flip: add a mirrored version of each scale.
        merge: "fusion" (see `weighted_box_fusion`) or "nms".
        merge_thresh: IoU above which two boxes of a class are one object.
        oks_nms_thresh: OKS above which two instances of a class are one; None turns OKS-NMS off.

    Raises:
        UserError: If a setting is out of range.
    """

    def __init__(
        self,
        keypoints: KeypointSchema | str,
        classes: Classes | str,
        enabled: bool = True,
        scales: Sequence[float] = (1.0,),
        flip: bool = True,
        merge: str = "fusion",
        merge_thresh: float = 0.65,
        oks_nms_thresh: float | None = None,
    ) -> None:
        if not scales or not all(scale > 0 for scale in scales):
            raise UserError(f"tta.scales={list(scales)}: give at least one, all above 0")
        if len(set(scales)) != len(scales):
            raise UserError(f"tta.scales={list(scales)}: give each scale once")
        if merge not in MERGES:
            raise UserError(f"tta.merge={merge!r}: use {' or '.join(MERGES)}")
        if not 0 <= merge_thresh <= 1:
            raise UserError(f"tta.merge_thresh={merge_thresh}: give an IoU from 0 to 1")
        if oks_nms_thresh is not None and not 0 <= oks_nms_thresh <= 1:
            raise UserError(
                f"tta.oks_nms_thresh={oks_nms_thresh}: give an OKS from 0 to 1, or None"
            )
        self.schema = resolve_schema(keypoints)
        # Indices in the schema of each class's keypoints, in the order of the model's outputs.
        self.class_keypoints = [
            [self.schema.names.index(name) for name in names]
            for names in resolve_classes(classes).values()
        ]
        self.enabled = enabled
        self.scales = tuple(scales)
        self.flip = flip
        self.merge = merge
        self.merge_thresh = merge_thresh
        self.oks_nms_thresh = oks_nms_thresh

    def views(self, image_size: tuple[int, int]) -> list[View]:
        """The views of an image of this height and width."""
        sides = (False, True) if self.flip else (False,)
        return [View(image_size, scale, side) for scale in self.scales for side in sides]

    def augmented(self, model: GeneralizedRCNN) -> GeneralizedRCNN:
        """A model with test-time augmentation that shares the parts of `model`, which is not changed.

        Args:
            model: what optimize_for_inference returned.

        Raises:
            UserError: If the predictions of the model's parts cannot be merged.
        """
        return AugmentedRCNN(model, self) if self.enabled else model


class AugmentedRCNN(GeneralizedRCNN):
    """A GeneralizedRCNN whose inference merges several views of each image.

    Its parts are those of `model`. Images are processed one by one, so that results do not depend on the batch.
    """

    def __init__(self, model: GeneralizedRCNN, tta: KeypointTTA) -> None:
        _check_supported(model, tta)
        super().__init__(
            backbone=model.backbone,
            proposal_generator=model.proposal_generator,
            roi_heads=model.roi_heads,
            pixel_mean=[0.0] * len(model.pixel_mean),
            pixel_std=[1.0] * len(model.pixel_std),
            input_format=model.input_format,
        )
        self.pixel_mean, self.pixel_std = model.pixel_mean, model.pixel_std  # device and type, too
        self.training = model.training
        self.tta = tta

    def inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[Any]:
        """Same as GeneralizedRCNN's; with `detected_instances`, only keypoints are predicted."""
        assert not self.training
        detected = detected_instances or [None] * len(batched_inputs)
        results = [
            self._predict(sample["image"], boxes)
            for sample, boxes in zip(batched_inputs, detected, strict=True)
        ]
        if not do_postprocess:
            return results
        sizes = [instances.image_size for instances in results]
        return self._postprocess(results, batched_inputs, sizes)

    def _predict(self, image: Tensor, detected: Instances | None) -> Instances:
        height, width = image.shape[1:]
        views = self.tta.views((height, width))
        image = self._move_to_current_device(image)
        images = [self.preprocess_image([{"image": view.apply(image)}]) for view in views]
        features = [self.backbone(view_images.tensor) for view_images in images]
        if detected is None:
            seen = zip(views, images, features, strict=True)
            instances = self._merge([self._detect(*each) for each in seen])
        else:
            instances = detected.to(self.device)
            instances.pred_boxes = instances.pred_boxes.clone()  # postprocessing scales in place
        if not self.roi_heads.keypoint_on:
            return instances
        maps = self._maps(views, features, instances.pred_boxes.tensor)
        (instances,) = self.roi_heads.keypoint_head.decode(maps, [instances])
        return self._distinct(instances) if detected is None else instances

    def _detect(self, view: View, images: ImageList, features: Features) -> Instances:
        """The boxes of one view after NMS, in pixels of the image."""
        heads = self.roi_heads
        predictor = heads.box_predictor
        proposals, _ = self.proposal_generator(images, features, None)
        pooled = heads.box_pooler(
            [features[name] for name in heads.box_in_features],
            [x.proposal_boxes for x in proposals],
        )
        outputs = predictor(heads.box_head(pooled))
        (found,), _ = fast_rcnn_inference(
            predictor.predict_boxes(outputs, proposals),
            predictor.predict_probs(outputs, proposals),
            images.image_sizes,
            min(predictor.test_score_thresh, MERGE_SCORE_THRESH),
            predictor.test_nms_thresh,
            predictor.test_topk_per_image,
        )
        boxes = view.boxes_to_image(found.pred_boxes.tensor)
        return _instances(view.image_size, boxes, found.scores, found.pred_classes)

    def _merge(self, found: list[Instances]) -> Instances:
        boxes = torch.cat([x.pred_boxes.tensor for x in found])
        scores = torch.cat([x.scores for x in found])
        classes = torch.cat([x.pred_classes for x in found])
        thresh = self.tta.merge_thresh
        if self.tta.merge == "fusion":
            boxes, scores, classes = weighted_box_fusion(boxes, scores, classes, len(found), thresh)
        else:
            kept = batched_nms(boxes, scores, classes, thresh)
            boxes, scores, classes = boxes[kept], scores[kept], classes[kept]
        merged = _instances(found[0].image_size, boxes, scores, classes)
        merged = merged[merged.scores > self.roi_heads.box_predictor.test_score_thresh]
        top = self.roi_heads.box_predictor.test_topk_per_image
        return merged[:top] if top >= 0 else merged

    def _maps(self, views: list[View], features: list[Features], boxes: Tensor) -> Tensor:
        """The mean heatmaps of N boxes over all views: N x K x side x side, logits."""
        heads = self.roi_heads
        maps = []
        for view, seen in zip(views, features, strict=True):
            pooled = heads.keypoint_pooler(
                [seen[name] for name in heads.keypoint_in_features],
                [Boxes(view.boxes_from_image(boxes))],
            )
            own = heads.keypoint_head.layers(pooled)
            maps.append(view.maps_to_image(own, self.tta.schema.flip_indices))
        return torch.stack(maps).mean(dim=0)

    def _distinct(self, instances: Instances) -> Instances:
        """The instances that OKS-NMS keeps, if it is on, highest score first."""
        thresh = self.tta.oks_nms_thresh
        if thresh is None or not len(instances):
            return instances
        found = instances.to(
            "cpu"
        )  # once: the loops over classes and instances would wait for a GPU
        sigmas = found.scores.new_tensor(self.tta.schema.sigmas)
        kept = []
        for class_ in found.pred_classes.unique().tolist():
            mine = (found.pred_classes == class_).nonzero()[:, 0]
            indices = self.tta.class_keypoints[class_]
            if indices:
                own = found[mine]
                points, areas = own.pred_keypoints[:, indices], own.pred_boxes.area()
                mine = mine[oks_nms(points, own.scores, areas, sigmas[indices], thresh)]
            kept.append(mine)
        return instances[torch.cat(kept).sort().values.to(instances.scores.device)]


def _check_supported(model: GeneralizedRCNN, tta: KeypointTTA) -> None:
    heads = model.roi_heads
    if (
        model.proposal_generator is None
        or not isinstance(heads, StandardROIHeads)
        or not isinstance(heads.box_predictor, FastRCNNOutputLayers)
        or heads.mask_on
    ):
        raise UserError(
            f"test-time augmentation of {type(heads).__name__}: it needs an RPN and StandardROIHeads without a mask "
            "head; set tta.enabled=False"
        )
    if heads.num_classes != len(tta.class_keypoints):
        raise UserError(
            f"tta.classes has {len(tta.class_keypoints)} classes, the model {heads.num_classes}: "
            "give those of the model"
        )
    if heads.keypoint_on and heads.keypoint_head.num_keypoints != len(tta.schema.names):
        raise UserError(
            f"tta.keypoints has {len(tta.schema.names)} keypoints, the model "
            f"{heads.keypoint_head.num_keypoints}: give those of the model"
        )


def _instances(size: tuple[int, int], boxes: Tensor, scores: Tensor, classes: Tensor) -> Instances:
    instances = Instances(size, pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)
    instances.pred_boxes.clip(size)  # rounding may put them slightly outside
    return instances
