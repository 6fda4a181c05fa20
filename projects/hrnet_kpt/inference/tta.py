"""Test-time augmentation: an image is seen at several scales and mirrored, and what is found in all views is merged."""

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

# A box that the model's threshold would drop still votes from here on: else a high threshold would change what is
# fused, not only leave out what is unsure. It is detectron2's default for the model's threshold.
LOWEST_VOTE = 0.05


class KeypointTTA:
    """Settings of test-time augmentation, and what makes a model of a model by them.

    Args:
        keypoints, classes: those of the data; they say which keypoints a mirror swaps, and which each class has.
        enabled: False leaves models as they are.
        scales: factors of the image's size, as the model gets it.
        flip: see each scale mirrored, too.
        merge: "fusion" (see `weighted_box_fusion`) or "nms", which takes the best box of those that overlap.
        merge_thresh: overlap (IoU) above which two boxes of a class are one object.
        oks_nms_thresh: similarity of keypoints above which two instances of a class are one; None for no such check.

    Raises:
        UserError: where a setting is out of range.
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
            raise UserError(f"tta.merge_thresh={merge_thresh}: give an overlap, 0 to 1")
        if oks_nms_thresh is not None and not 0 <= oks_nms_thresh <= 1:
            raise UserError(
                f"tta.oks_nms_thresh={oks_nms_thresh}: give a similarity, 0 to 1, or None"
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
        """Those of an image of that height and width."""
        sides = (False, True) if self.flip else (False,)
        return [View(image_size, scale, side) for scale in self.scales for side in sides]

    def augmented(self, model: GeneralizedRCNN) -> GeneralizedRCNN:
        """A model that predicts by test-time augmentation with the parts of `model`, which stays as it is.

        Args:
            model: as optimize_for_inference returns it.

        Raises:
            UserError: where the model has parts whose predictions cannot be merged.
        """
        return AugmentedRCNN(model, self) if self.enabled else model


class AugmentedRCNN(GeneralizedRCNN):
    """A GeneralizedRCNN whose inference merges several views of each image.

    Its parts are those of `model`. Images go through the model one by one, so a result does not depend on what else is
    in the batch.
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
        """As GeneralizedRCNN's, which see; with `detected_instances`, only keypoints are predicted."""
        assert not self.training
        given = detected_instances or [None] * len(batched_inputs)
        results = [
            self._predict(sample["image"], boxes)
            for sample, boxes in zip(batched_inputs, given, strict=True)
        ]
        if not do_postprocess:
            return results
        sizes = [instances.image_size for instances in results]
        return self._postprocess(results, batched_inputs, sizes)

    def _predict(self, image: Tensor, given: Instances | None) -> Instances:
        height, width = image.shape[1:]
        views = self.tta.views((height, width))
        image = self._move_to_current_device(image)
        images = [self.preprocess_image([{"image": view.show(image)}]) for view in views]
        features = [self.backbone(shown.tensor) for shown in images]
        if given is None:
            seen = zip(views, images, features, strict=True)
            instances = self._merge([self._detect(*each) for each in seen])
        else:
            instances = given.to(self.device)
            instances.pred_boxes = instances.pred_boxes.clone()  # postprocessing scales in place
        if not self.roi_heads.keypoint_on:
            return instances
        maps = self._maps(views, features, instances.pred_boxes.tensor)
        (instances,) = self.roi_heads.keypoint_head.decode(maps, [instances])
        return self._distinct(instances) if given is None else instances

    def _detect(self, view: View, images: ImageList, features: Features) -> Instances:
        """The boxes that one view shows, after its own suppression, in the image."""
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
            min(predictor.test_score_thresh, LOWEST_VOTE),
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
        """Of each of N boxes of the image, the mean of the views' heatmaps: N x K x side x side, logits."""
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
        """Those that OKS-NMS keeps, if it is on, best score first."""
        thresh = self.tta.oks_nms_thresh
        if thresh is None or not len(instances):
            return instances
        sigmas = instances.scores.new_tensor(self.tta.schema.sigmas)
        kept = []
        for class_ in instances.pred_classes.unique().tolist():
            mine = (instances.pred_classes == class_).nonzero()[:, 0]
            indices = self.tta.class_keypoints[class_]
            if indices:
                own = instances[mine]
                points, areas = own.pred_keypoints[:, indices], own.pred_boxes.area()
                mine = mine[oks_nms(points, own.scores, areas, sigmas[indices], thresh)]
            kept.append(mine)
        return instances[torch.cat(kept).sort().values]


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
    instances.pred_boxes.clip(size)  # sums of rounded numbers may lie a little outside
    return instances
