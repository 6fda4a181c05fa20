"""What a file is that is no HRNet's."""

from __future__ import annotations

import re
from collections.abc import Collection

# Expressions that some name has to match from its beginning, behind what wraps it, and the architecture.
WRAPPED = r"(?:backbone\.|model\.|encoder\.|bottom_up\.|body\.|img_backbone\.|trunk\.)*"
ARCHITECTURES = (
    (r"deconv_layers\.", "HigherHRNet, for bottom-up pose"),
    (r"stage\d\.\d+\.layers\.", "a Lite-HRNet"),
    (r"last_layer\.|decode_head\.|ocr_|aux_head\.", "an HRNet for segmentation"),
    (r"layers\.\d\.blocks\.\d+\.attn\.|layers_\d", "a Swin transformer"),
    (r"(blocks\.\d+\.attn|cls_token|pos_embed|layers\.\d+\.ln1)", "a vision transformer"),
    (r"stages\.\d\.blocks\.\d+\.(conv_dw|dwconv|gamma)|downsample_layers\.", "a ConvNeXt"),
    (r"transformer\.(encoder|decoder)\.", "a DETR"),
    (r"(stem|res\d)\.", "a ResNet of detectron2"),
    (r"layer[1-4]\.\d+\.(conv|bn)\d\.", "a ResNet"),
    (r"\d+\.(conv|cv\d|m\.\d+)\.", "a YOLO of Ultralytics"),
    (r"blocks\.\d+\.\d+\.(conv_pw|conv_dw|se)\.", "an EfficientNet or MobileNet"),
    (r"features\.\d+\.", "a VGG, MobileNet or DenseNet of torchvision"),
)


def looks_like(names: Collection[str]) -> str:
    """ "this looks like ...", by what the tensors are called."""
    for pattern, architecture in ARCHITECTURES:
        expression = re.compile(WRAPPED + pattern)
        if any(expression.match(name) for name in names):
            return f"this looks like {architecture}"
    first = ", ".join(list(names)[:3])
    return f"this looks like no network that is known here (its first tensors are {first})"
