"""What a file is that is no HRNet's."""

from __future__ import annotations

import re
from collections.abc import Collection

# Expressions that some name has to match from its beginning, behind what wraps it, and the architecture. The first that
# matches counts: those of one network's own layers come before those that several share.
WRAPPED = r"(?:backbone\.|model\.|encoder\.|trunk\.|body\.|img_backbone\.|bottom_up\.|net\.)*"
ARCHITECTURES = (
    (
        r"(?:(?:keypoint_)?head\.)?deconv_layers\.\d+\.\d+\.\d+\.",
        "a HigherHRNet, for bottom-up pose",
    ),
    (r"stage\d\.\d+\.layers\.", "a Lite-HRNet"),
    (r"stage\d\.\d+\.branches\.\d+\.\d+\.attn\.", "an HRFormer"),
    (r"last_layer\.\d|ocr_|aux_head\.", "an HRNet for segmentation"),
    (r"stage4\.\d+\.(branches|fuse_layers)\.", "an HRNet under names of no layout"),
    (r"transformer\.(encoder|decoder)\.", "a DETR"),
    (
        # torchvision's after "features"; timm's features_only writes "layers_0".
        r"((layers|stages)[._]\d+\.blocks|features\.\d+)\.\d+\.attn\.(w_msa\.)?(relative_position_|logit_scale)",
        "a Swin transformer",
    ),
    (r"(blocks|layers)\.\d+\.(attn|ln1)\.|cls_token|class_token|pos_embed", "a vision transformer"),
    (
        r"stages[._]\d\.blocks\.\d+\.conv_dw|downsample_layers\.|features\.\d+\.\d+\.layer_scale",
        "a ConvNeXt",
    ),
    # The second is Caffe2's, in the zoo's oldest pickles.
    (r"res[2-5]\.\d+\.(conv\d|shortcut)\.|res[2-5]_\d+_branch", "a ResNet of detectron2"),
    (r"layer[1-4]\.\d+\.(conv|bn)\d\.", "a ResNet"),
    (r"s[1-4]\.b\d+\.|trunk_output\.block", "a RegNet"),
    (r"(dark[2-5]|stage[1-4]\.\d+)\.(\d+\.)?conv\.", "a CSPDarknet, as YOLOX and RTMPose have"),
    (r"model\.\d+\.(conv|cv\d|m\.\d+)\.", "a YOLO of Ultralytics"),
    (
        r"blocks\.\d+\.\d+\.(conv_pwl?|conv_dw|dw_mid|pw_exp)\.|"
        r"(features\.)?\d+\.(\d+\.)?(block\.\d+\.\d+|conv\.\d+\.\d+)\.",
        "an EfficientNet or MobileNet",
    ),
    (r"features[._]denseblock", "a DenseNet"),
    (r"features[._]\d+\.(weight|bias)$", "a VGG, AlexNet or SqueezeNet"),
)


def looks_like(names: Collection[str]) -> str:
    """ "this looks like ...", by what the tensors are called."""
    for pattern, architecture in ARCHITECTURES:
        expression = re.compile(f"{WRAPPED}(?:{pattern})")
        if any(expression.match(name) for name in names):
            return f"this looks like {architecture}"
    first = ", ".join(list(names)[:3])
    return f"this looks like no network that is known here (its first tensors are {first})"
