"""The small HRNet Keypoint R-CNN for a folder of your own, of tools/import_data.py: data.root=FOLDER."""

from .common.data.folder import data, dataloader
from .hrnet_w18_small_kpt_synthetic import inference, lr_multiplier, model, optimizer, train

dataloader.train.mapper.augmentations[0].update(short_edge_length=[192], max_size=192)
dataloader.test.mapper.augmentations[0].update(short_edge_length=192, max_size=192)
dataloader.train.update(total_batch_size=4, num_workers=1)
dataloader.test.num_workers = 0
