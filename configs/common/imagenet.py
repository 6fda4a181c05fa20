# Public ImageNet weights by the width of the HRNet; the hash in each name is verified. See docs/weights.md.
imagenet = dict(
    w18="https://download.openmmlab.com/pretrain/third_party/hrnetv2_w18-00eb2006.pth",
    w32="https://download.openmmlab.com/pretrain/third_party/hrnetv2_w32-dc9eeb4f.pth",
    w40="https://download.openmmlab.com/pretrain/third_party/hrnetv2_w40-ed0b031c.pth",
    w48="https://download.openmmlab.com/pretrain/third_party/hrnetv2_w48-d2186c55.pth",
)
