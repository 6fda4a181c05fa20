"""COCO-format keypoint data sets in detectron2's catalogs."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from .keypoints import KeypointSchema


def register_coco_keypoints(
    annotations: str, images: str, keypoints: KeypointSchema | str = "auto"
) -> str:
    """Make a COCO-format json and its image folder known to detectron2; return the name to ask for.

    The same arguments give the same name, any number of times. `auto` reads the schema from the json.
    Nothing else is read before the data set is asked for.
    """
    schema = KeypointSchema.from_json(annotations) if isinstance(keypoints, str) else keypoints
    digest = hashlib.sha256(repr((annotations, images, schema)).encode()).hexdigest()[:8]
    name = f"coco_{Path(annotations).stem}_{digest}"
    if name not in DatasetCatalog:
        DatasetCatalog.register(name, functools.partial(load_coco_json, annotations, images, name))
        MetadataCatalog.get(name).set(
            json_file=annotations,
            image_root=images,
            evaluator_type="coco",
            keypoint_names=list(schema.names),
            keypoint_flip_map=list(schema.flip_pairs),
            keypoint_connection_rules=[(a, b, (255, 140, 0)) for a, b in schema.skeleton],
        )
    return name
