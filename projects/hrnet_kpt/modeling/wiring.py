"""Which feature goes where."""

from __future__ import annotations

from detectron2.modeling import GeneralizedRCNN


def check_features(model: GeneralizedRCNN) -> None:
    """Check that every feature that RPN and ROI heads ask for by name is one that the backbone produces.

    Raises ValueError with the part, the name and what there is; forward would raise a bare KeyError.
    """
    produced = list(model.backbone.output_shape())
    consumers = {
        "proposal_generator.in_features": getattr(model.proposal_generator, "in_features", []),
        "roi_heads.box_in_features": getattr(model.roi_heads, "box_in_features", []),
        "roi_heads.keypoint_in_features": getattr(model.roi_heads, "keypoint_in_features", []),
    }
    for consumer, features in consumers.items():
        unknown = [name for name in features if name not in produced]
        if unknown:
            raise ValueError(
                f"model.{consumer} asks for {unknown}, but model.backbone produces {produced}"
            )
