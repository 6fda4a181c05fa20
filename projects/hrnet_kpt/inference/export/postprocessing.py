"""From the network's boxes and heatmaps to boxes and keypoints in the image, as ONNX."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from .joining import parse
from .preprocessing import HEADER

# Bicubic interpolation as two matrix products. `distance` is that of each output row (or column) from each row of the
# heatmap, which has two more rows on either side; the kernel is Keys' with a = -0.75, as in PyTorch.
KERNEL = """
        {axis}_places = Range (zero_float, {axis}_length, one_float)
        {axis}_centres = Add ({axis}_places, half)
        {axis}_step = Div (side, {axis}_length)
        {axis}_scaled = Mul ({axis}_centres, {axis}_step)
        {axis}_sources = Sub ({axis}_scaled, half)
        {axis}_column = Unsqueeze ({axis}_sources, last)
        {axis}_difference = Sub ({axis}_column, taps)
        {axis}_distance = Abs ({axis}_difference)
        {axis}_square = Mul ({axis}_distance, {axis}_distance)
        {axis}_near_1 = Mul ({axis}_distance, near_cubic)
        {axis}_near_2 = Add ({axis}_near_1, near_square)
        {axis}_near_3 = Mul ({axis}_near_2, {axis}_square)
        {axis}_near = Add ({axis}_near_3, one_float)
        {axis}_far_1 = Sub (two, {axis}_distance)
        {axis}_far_2 = Mul ({axis}_far_1, {axis}_far_1)
        {axis}_far_3 = Sub ({axis}_distance, one_float)
        {axis}_far_4 = Mul ({axis}_far_2, {axis}_far_3)
        {axis}_far_5 = Mul ({axis}_far_4, far_factor)
        {axis}_is_far = Less ({axis}_distance, two)
        {axis}_far = Where ({axis}_is_far, {axis}_far_5, zero_float)
        {axis}_is_near = Less ({axis}_distance, one_float)
        {axis}_weights = Where ({axis}_is_near, {axis}_near, {axis}_far)
"""

# detectron2's heatmaps_to_keypoints, a region a turn; one that fills the image needs much memory for its own map alone.
KEYPOINTS = """
    extent = Sub (lower_right, upper_left)
    extents = Max (extent, one_float)
    lengths = Ceil (extents)
    corrections = Div (extents, lengths)
    padded = Pad <mode = "edge"> (detected_heatmaps, edges)
    count_shape = Shape <start = 0, end = 1> (detected_boxes)
    count = Squeeze (count_shape)
    all_keypoints = Loop (count, true) <body = decode (int64 i, bool going) => (bool still, float[{count}, 3] found) {{
        still = Identity (going)
        heatmap = Gather (detected_heatmaps, i)
        padded_heatmap = Gather (padded, i)
        region_lengths = Gather (lengths, i)
        x_length = Gather (region_lengths, zero)
        y_length = Gather (region_lengths, one)
        {x_kernel}
        {y_kernel}
        rows = MatMul (y_weights, padded_heatmap)
        x_transposed = Transpose (x_weights)
        map = MatMul (rows, x_transposed)
        flat = Reshape (map, flat_shape)
        place = ArgMax <axis = 1, keepdims = 1> (flat)
        peak = ReduceMax <keepdims = 1> (flat, last)
        row_length = Cast <to = 7> (x_length)
        x_place = Mod (place, row_length)
        y_place = Div (place, row_length)
        place_xy = Concat <axis = 1> (x_place, y_place)
        place_float = Cast <to = 1> (place_xy)
        centre = Add (place_float, half)
        correction = Gather (corrections, i)
        corrected = Mul (centre, correction)
        corner = Gather (upper_left, i)
        in_batch = Add (corrected, corner)
        in_image = Mul (in_batch, scale)
        flat_heatmap = Reshape (heatmap, flat_shape)
        relative = Sub (flat_heatmap, peak)
        powers = Exp (relative)
        sum = ReduceSum <keepdims = 1> (powers, last)
        score = Reciprocal (sum)
        found = Concat <axis = 1> (in_image, score)
    }}>
    kept_keypoints = Compress <axis = 0> (all_keypoints, nonempty)
"""

# DecodingKeypointHead's scores of whole instances, in whose order these come.
INSTANCE_SCORES = """
    keypoint_scores = Gather <axis = 2> (kept_keypoints, score_place)
    cut_off = Min (keypoint_scores, one_float)
    counted = Gather (class_keypoints, kept_classes)
    counted_scores = Mul (cut_off, counted)
    total = ReduceSum <keepdims = 0> (counted_scores, axis)
    number = ReduceSum <keepdims = 0> (counted, axis)
    divisor = Max (number, one_float)
    mean = Div (total, divisor)
    has_some = Greater (number, zero_float)
    keypoint_score = Where (has_some, mean, one_float)
    score = {score}
    kept_count = Shape (score)
    scores, best_first = TopK (score, kept_count)
    boxes = Gather (kept_boxes, best_first)
    classes = Gather (kept_classes, best_first)
    keypoints = Gather (kept_keypoints, best_first)
"""
SAME_SCORES = """
    boxes = Identity (kept_boxes)
    scores = Identity (kept_scores)
    classes = Identity (kept_classes)
"""


def postprocessing(
    heatmaps: tuple[int, int] | None,
    instance_score: str = "box",
    class_keypoints: Sequence[Sequence[int]] = (),
) -> onnx.ModelProto:
    """From what `Detector` returns, `size` and `image_size` to the image's `boxes`, `scores`, `classes`, `keypoints`.

    The same as detectron2's heatmaps_to_keypoints and detector_postprocess: keypoints are N x K x 3 (x, y, score), and
    boxes that are empty after clipping are dropped. The inputs are called detected_boxes, ...

    heatmaps: number of keypoints, and side of a heatmap; None for a model that has boxes only.
    instance_score, class_keypoints: see DecodingKeypointHead.
    """
    number, side = heatmaps or (0, 0)
    taps = ", ".join(str(place) for place in range(-2, side + 2))
    inputs = f", float[n, {number}, {side}, {side}] detected_heatmaps" if heatmaps else ""
    outputs = f", float[m, {number}, 3] keypoints" if heatmaps else ""
    decoding, scoring, table = "", SAME_SCORES, ""
    if heatmaps:
        kernels = {f"{axis}_kernel": KERNEL.format(axis=axis) for axis in "xy"}
        decoding = KEYPOINTS.format(count=number, **kernels)
        scoring += "    keypoints = Identity (kept_keypoints)"
    if heatmaps and instance_score != "box":
        alone = instance_score == "keypoints"
        score = "Identity (keypoint_score)" if alone else "Mul (keypoint_score, kept_scores)"
        scoring = INSTANCE_SCORES.format(score=score)
        rows = [[int(i in places) for i in range(number)] for places in class_keypoints]
        values = ", ".join(str(value) for row in rows for value in row)
        table = f"float[{len(rows)}, {number}] class_keypoints = {{{values}}},"
    text = f"""{HEADER}
postprocessing (float[n, 4] detected_boxes, float[n] detected_scores, int64[n] detected_classes{inputs},
                int64[2] size, int64[2] image_size)
    => (float[m, 4] boxes, float[m] scores, int64[m] classes{outputs})
<
    {table}
    int64 zero = {{0}}, int64 one = {{1}}, int64[1] last = {{-1}}, int64[2] flat_shape = {{0, -1}},
    int64[1] axis = {{1}}, int64[1] from_0 = {{0}}, int64[1] from_2 = {{2}}, int64[1] to_4 = {{4}},
    int64[2] width_first = {{1, 0}}, int64[4] width_first_twice = {{1, 0, 1, 0}}, bool true = {{1}},
    int64[8] edges = {{0, 0, 2, 2, 0, 0, 2, 2}}, float[{side + 4}] taps = {{{taps}}}, int64 score_place = {{2}},
    float zero_float = {{0}}, float half = {{0.5}}, float one_float = {{1}}, float two = {{2}}, float side = {{{side}}},
    float near_cubic = {{1.25}}, float near_square = {{-2.25}}, float far_factor = {{-0.75}}
>
{{
    size_float = Cast <to = 1> (size)
    image_size_float = Cast <to = 1> (image_size)
    ratio = Div (image_size_float, size_float)
    scale = Gather (ratio, width_first)
    scales = Gather (ratio, width_first_twice)
    limits = Gather (image_size_float, width_first_twice)
    scaled = Mul (detected_boxes, scales)
    positive = Max (scaled, zero_float)
    clipped = Min (positive, limits)
    clipped_upper_left = Slice (clipped, from_0, from_2, axis)
    clipped_lower_right = Slice (clipped, from_2, to_4, axis)
    upper_left = Slice (detected_boxes, from_0, from_2, axis)
    lower_right = Slice (detected_boxes, from_2, to_4, axis)
    sides = Sub (clipped_lower_right, clipped_upper_left)
    shorter = ReduceMin <keepdims = 0> (sides, axis)
    nonempty = Greater (shorter, zero_float)
    kept_boxes = Compress <axis = 0> (clipped, nonempty)
    kept_scores = Compress <axis = 0> (detected_scores, nonempty)
    kept_classes = Compress <axis = 0> (detected_classes, nonempty)
    {decoding}
    {scoring}
}}"""
    return parse(text, "postprocessing/")
