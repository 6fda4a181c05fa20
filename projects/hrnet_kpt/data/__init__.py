"""Data sets: the keypoint schema, COCO-format json, loading and augmentation, synthetic people."""

from .schema import COCO_PERSON, KeypointSchema

__all__ = ["COCO_PERSON", "KeypointSchema"]
