from detectron2.config import LazyCall as L

from hrnet_kpt.data.schema import KeypointSchema

from .coco_keypoint import data, dataloader

data.train.annotations = "${data.root}/annotations/instances_train2017.json"
data.test.annotations = "${data.root}/annotations/instances_val2017.json"
data.keypoints = L(KeypointSchema)(names=[])  # only boxes and masks
