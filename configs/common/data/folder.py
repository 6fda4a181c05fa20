from .coco_keypoint import data, dataloader

# A folder with train.json, test.json and images/, as tools/import_data.py writes it.
data.root = "datasets/mine"
data.train = dict(annotations="${data.root}/train.json", images="${data.root}")
data.test = dict(annotations="${data.root}/test.json", images="${data.root}")
