"""Data sets: the keypoint schema, COCO-format json, drawn people."""

from .keypoints import COCO_PERSON, KeypointSchema

__all__ = ["COCO_PERSON", "KeypointSchema"]
