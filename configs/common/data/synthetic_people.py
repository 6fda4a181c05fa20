from detectron2.config import LazyCall as L

from hrnet_kpt.data.synthetic import write_synthetic_people

from .coco_keypoint import data, dataloader

data.root = "${oc.env:DETECTRON2_DATASETS,datasets}/synthetic_people"
data.train = dict(annotations="${data.root}/train.json", images="${data.root}/train")
data.test = dict(annotations="${data.root}/test.json", images="${data.root}/test")
# Draws the images and both json files at the start of the first run.
data.generate = L(write_synthetic_people)(
    root="${data.root}", num_train=3000, num_test=200, image_size=192, seed=0
)
