"""Data sets: the keypoint schema, COCO-format json, loading and augmentation, synthetic people, pictures."""

from .coco_person import COCO_PERSON
from .keypoints import KeypointSchema

__all__ = ["COCO_PERSON", "KeypointSchema"]
