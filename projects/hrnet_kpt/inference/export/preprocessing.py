"""What evaluation does to an image before the network, as ONNX."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from .joining import parse

OPSET = 18
BLOCK = 64  # columns that are resized together
HEADER = f'<ir_version: 10, opset_import: ["" : {OPSET}]>'

# ResizeShortestEdge.get_output_shape, in double precision as there.
NEW_SIZE = """
    sides = Cast <to = 11> (image_size)
    shorter = ReduceMin <keepdims = 1> (sides)
    height_side = Gather (sides, first)
    width_side = Gather (sides, second)
    wide = Less (height_side, width_side)
    high = Not (wide)
    is_shorter = Concat <axis = 0> (wide, high)
    scale = Div (short_edge, shorter)
    scaled = Mul (scale, sides)
    wanted = Where (is_shorter, short_edge, scaled)
    longer = ReduceMax <keepdims = 1> (wanted)
    too_long = Greater (longer, max_size)
    to_max = Div (max_size, longer)
    factor = Where (too_long, to_max, one)
    limited = Mul (wanted, factor)
    half_up = Add (limited, half)
    size = Cast <to = 7> (half_up)
    new_height = Gather (size, first_scalar)
    new_width = Gather (size, second_scalar)
    {resize_width}
    columns_first = Transpose <perm = [0, 2, 1]> (width_resized)
    {resize_height}
    resized = Transpose <perm = [0, 2, 1]> (height_resized)
"""
# Pillow's bilinear filter along the last axis, number for number: weights in double precision, then whole multiples
# of 2^-22, and each sum rounded to 8 bits. onnxruntime's Resize has weights in single precision, which moves some
# pixels by a level, and keypoints with them. Sums of whole numbers are exact in double precision, in any order.
# A block of output columns a turn: the weights of one are few beside those of all.
RESIZE_AXIS = """
    {axis}_old_length = Shape <start = 2, end = 3> ({source})
    {axis}_old = Squeeze ({axis}_old_length)
    {axis}_old_double = Cast <to = 11> ({axis}_old)
    {axis}_new_double = Cast <to = 11> ({length})
    {axis}_scale = Div ({axis}_old_double, {axis}_new_double)
    {axis}_support = Max ({axis}_scale, one_double)
    {axis}_inverse = Reciprocal ({axis}_support)
    {axis}_before = Add ({length}, block_less_one)
    {axis}_blocks = Div ({axis}_before, block)
    {axis}_stacked = Loop ({axis}_blocks, true) <body = {axis}_block
        (int64 i, bool going) => (bool still, uint8[channels, lines, columns] found)
    {{
        still = Identity (going)
        begin = Mul (i, block)
        end = Add (begin, block)
        places = Range (begin, end, second_scalar)
        places_double = Cast <to = 11> (places)
        middles = Add (places_double, half_double)
        centres = Mul (middles, {axis}_scale)
        first_centre = Gather (centres, first_scalar)
        last_centre = Gather (centres, last_scalar)
        left = Sub (first_centre, {axis}_support)
        left_whole = Cast <to = 7> (left)
        start = Max (left_whole, first_scalar)
        right = Add (last_centre, {axis}_support)
        right_whole = Cast <to = 7> (right)
        right_beyond = Add (right_whole, second_scalar)
        stop = Min (right_beyond, {axis}_old)
        taps = Range (start, stop, second_scalar)
        taps_double = Cast <to = 11> (taps)
        tap_middles = Add (taps_double, half_double)
        taps_column = Unsqueeze (tap_middles, second)
        apart = Sub (taps_column, centres)
        scaled_apart = Mul (apart, {axis}_inverse)
        distance = Abs (scaled_apart)
        triangle = Sub (one_double, distance)
        weights = Max (triangle, zero_double)
        sum = ReduceSum (weights, first)
        total = Max (sum, smallest)
        shares = Div (weights, total)
        multiples = Mul (shares, precision)
        multiples_half = Add (multiples, half_double)
        whole = Floor (multiples_half)
        start_1 = Unsqueeze (start, first)
        stop_1 = Unsqueeze (stop, first)
        seen = Slice ({source}, start_1, stop_1, third)
        seen_double = Cast <to = 11> (seen)
        sums = MatMul (seen_double, whole)
        sums_scaled = Div (sums, precision)
        sums_half = Add (sums_scaled, half_double)
        levels = Floor (sums_half)
        limited_levels = Min (levels, highest)
        found = Cast <to = 2> (limited_levels)
    }}>
    {axis}_side_by_side = Transpose <perm = [1, 2, 0, 3]> ({axis}_stacked)
    {axis}_flat = Reshape ({axis}_side_by_side, keep_two)
    {axis}_length_1 = Unsqueeze ({length}, first)
    {axis}_resized = Slice ({axis}_flat, first, {axis}_length_1, third)
"""
SAME_SIZE = """
    size = Identity (image_size)
    resized = Identity (channels_first)
"""


def preprocessing(
    resize: tuple[int, int] | None,
    pixel_mean: Sequence[float],
    pixel_std: Sequence[float],
    divisor: int,
    image_format: str,
) -> onnx.ModelProto:
    """From `image` (height x width x 3 of uint8, RGB) to `batch`, `size` and `image_size`.

    batch: 1 x 3 x H x W, resized as by detectron2's ResizeShortestEdge (Pillow's bilinear filter), normalised, padded
        with zeros on the right and below to multiples of `divisor`.
    size, image_size: height and width in pixels after and before resizing.

    resize: lengths in pixels that the shorter edge shall have, and that the longer may have; None to leave the size.
    pixel_mean, pixel_std: of the three channels in the order of image_format.
    image_format: "RGB" or "BGR", the order of the channels in the batch.
    """
    short_edge, max_size = resize or (0, 0)
    resizing = SAME_SIZE
    if resize:
        width = RESIZE_AXIS.format(axis="width", source="channels_first", length="new_width")
        height = RESIZE_AXIS.format(axis="height", source="columns_first", length="new_height")
        resizing = NEW_SIZE.format(resize_width=width, resize_height=height)
    order = "0, 1, 2" if image_format == "RGB" else "2, 1, 0"
    text = f"""{HEADER}
preprocessing (uint8[height, width, 3] image)
    => (float[1, 3, padded_height, padded_width] batch, int64[2] size, int64[2] image_size)
<
    int64[1] first = {{0}}, int64[1] second = {{1}}, int64[1] third = {{2}}, int64[3] order = {{{order}}},
    double[1] short_edge = {{{short_edge}}}, double[1] max_size = {{{max_size}}}, double[1] one = {{1}},
    double[1] half = {{0.5}}, double half_double = {{0.5}}, double one_double = {{1}}, double zero_double = {{0}},
    double precision = {{4194304}}, double highest = {{255}}, double smallest = {{1e-9}}, bool true = {{1}},
    int64[3] keep_two = {{0, 0, -1}},
    int64 first_scalar = {{0}}, int64 second_scalar = {{1}}, int64 last_scalar = {{-1}},
    int64 block = {{{BLOCK}}}, int64 block_less_one = {{{BLOCK - 1}}},
    int64[1] divisor = {{{max(divisor, 1)}}}, int64[6] no_padding = {{0, 0, 0, 0, 0, 0}},
    float[1, 3, 1, 1] mean = {{{_numbers(pixel_mean)}}}, float[1, 3, 1, 1] deviation = {{{_numbers(pixel_std)}}}
>
{{
    image_size = Shape <start = 0, end = 2> (image)
    ordered = Gather <axis = 2> (image, order)
    channels_first = Transpose <perm = [2, 0, 1]> (ordered)
    {resizing}
    one_image = Unsqueeze (resized, first)
    values = Cast <to = 1> (one_image)
    centred = Sub (values, mean)
    normalised = Div (centred, deviation)
    minus_size = Neg (size)
    padding = Mod (minus_size, divisor)
    pads = Concat <axis = 0> (no_padding, padding)
    batch = Pad (normalised, pads)
}}"""
    return parse(text, "preprocessing/")


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(repr(float(value)) for value in values)
