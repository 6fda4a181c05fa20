"""Where ROI poolers get their scales from."""

from __future__ import annotations

from collections.abc import Sequence


def pooler_scales(
    features: Sequence[str], all_features: Sequence[str], strides: Sequence[int]
) -> list[float]:
    """Scales (1 / stride) of an ROIPooler over `features`.

    features: names of the levels that the pooler reads.
    all_features, strides: the pyramid's levels and their strides in pixels.

    Raises ValueError where a feature has no stride.
    """
    stride_of = dict(zip(all_features, strides, strict=False))
    missing = [name for name in features if name not in stride_of]
    if missing or not features:
        raise ValueError(
            f"ROI pooler: no stride is known for {missing or 'its empty list of features'}: "
            f"proposal_generator.in_features are {list(all_features)}, with strides {list(strides)}"
        )
    return [1.0 / stride_of[name] for name in features]
