"""HRNet-W18 with ImageNet weights, light at 640 pixels, for a folder of tools/import_data.py: data.root=FOLDER.

tools/new_config.py writes a config on top of this one if there is a GPU. MODEL_ZOO.md has the cost.
"""

from .hrnet_w18_kpt_lighter_head import inference, lr_multiplier, model, optimizer, train
from .own import data, dataloader

# Photographs of one's own have few objects: 300 proposals cost 4 GMAC in the box head, COCO's 1000 cost 14.
model.proposal_generator.update(pre_nms_topk=[1000, 500], post_nms_topk=[500, 300])
model.roi_heads.batch_size_per_image = 128

dataloader.train.mapper.augmentations[0].update(short_edge_length=[640], max_size=1152)
dataloader.train.mapper.augmentations[1].size = [640, 640]
dataloader.test.mapper.augmentations[0].update(short_edge_length=640, max_size=1152)
dataloader.train.update(total_batch_size=16, num_workers=4)
dataloader.test.num_workers = 4

train.amp.enabled = True
train.ema.update(enabled=True, decay=0.999)
inference.keypoint_decoding = "dark"  # between the pixels of the heatmap
