"""Pre- and postprocessing of the detector's ONNX file, as onnxscript functions.

Their bodies are translated to ONNX: each operator is a node, variables of the enclosing Python scope become constants,
and an `if` on such a variable is evaluated during translation. The body of a loop, marked by @graph, can use only
variables of the function around it; so it casts by CastLike.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,no-any-return"
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import helper
from onnxscript import BOOL, DOUBLE, FLOAT, INT64, UINT8, graph, ir, opset18, script

op: Any = opset18  # its annotations allow neither literals nor operators
BLOCK = 64  # columns that are resized together


def add_preprocessing(model: onnx.ModelProto, info: dict[str, Any]) -> onnx.ModelProto:
    """Replace the inputs `batch` and `size` of a model by `image` (height x width x 3 of uint8, RGB).

    A batched model gets `images`, B x height x width x 3. They are resized as by detectron2's ResizeShortestEdge
    (Pillow's bilinear filter), normalised, and padded with zeros on the right and below. If the model has an input
    `image_size` (height and width), it is replaced, too.

    Args:
        model: an ONNX model.
        info: batched, resize ({"short_edge", "max_size"} in pixels, or None), pixel_mean, pixel_std, divisor (the batch
            is padded to multiples of it) and image_format ("RGB" or "BGR", the order of its channels).
    """
    resize = info["resize"] or {}
    short_edge, max_size = (float(resize.get(key, 0)) for key in ("short_edge", "max_size"))
    order = [0, 1, 2] if info["image_format"] == "RGB" else [2, 1, 0]
    mean, std = (np.float32(info[key]).reshape(3, 1, 1) for key in ("pixel_mean", "pixel_std"))
    divisor = int(info["divisor"])
    batched = info["batched"]

    @script()
    def preprocess(image):
        if batched:
            images = op.Identity(image)
        else:
            images = op.Unsqueeze(image, [0])
        image_size = op.Shape(images, start=1, end=3)
        channels = op.Transpose(op.Gather(images, order, axis=3), perm=[0, 3, 1, 2])
        # B * 3 x height x width
        pixels = op.Reshape(channels, op.Concat([-1], image_size, axis=0))
        if resize:
            # ResizeShortestEdge.get_output_shape, in double precision as there.
            sides = op.Cast(image_size, to=DOUBLE.dtype)
            height, width = sides[0:1], sides[1:2]
            scale = short_edge / op.Min(height, width)
            short = op.CastLike(short_edge, sides)
            new_height = op.Where(height < width, short, scale * height)
            new_width = op.Where(height < width, scale * width, short)
            factor = op.Min(max_size / op.Max(new_height, new_width), op.CastLike(1, sides))
            limited = op.Concat(new_height * factor, new_width * factor, axis=0)
            size = op.Cast(limited + 0.5, to=INT64.dtype)
            columns = op.Transpose(resize_rows(pixels, size[1]), perm=[0, 2, 1])
            pixels = op.Transpose(resize_rows(columns, size[0]), perm=[0, 2, 1])
        else:
            size = op.Identity(image_size)
        batch = op.Reshape(pixels, op.Concat([-1, 3], size, axis=0))
        normalised = (op.Cast(batch, to=FLOAT.dtype) - mean) / std
        pads = op.Concat([0, 0, 0, 0, 0, 0], op.Mod(op.Neg(size), divisor), axis=0)
        return op.Pad(normalised, pads), size, image_size

    produced = ["batch", "size", "image_size"]
    inputs = [value for value in model.graph.input if value.name not in produced]
    shape: list[str | int] = ["height", "width", 3]
    name, shape = ("images", ["images", *shape]) if batched else ("image", shape)
    _replace(model.graph.input, [helper.make_tensor_value_info(name, UINT8.dtype, shape), *inputs])
    _replace(model.graph.node, [_call(preprocess, [name], produced), *model.graph.node])
    return _inlined(model, [resize_rows, preprocess])


@script()
def resize_rows(pixels, length):
    """Pillow's bilinear filter along the last axis, bit by bit: C x H x W to C x H x length of uint8.

    Its weights are computed in double precision and rounded to multiples of 2^-22, and each sum is rounded to 8 bits.
    onnxruntime's Resize has weights in single precision, which changes some pixels by one level, and so keypoints. Sums
    of integers are exact in double precision, in any order.
    """
    old_length = op.Squeeze(op.Shape(pixels, start=2, end=3))
    scale = op.Cast(old_length, to=DOUBLE.dtype) / op.Cast(length, to=DOUBLE.dtype)
    support = op.Max(scale, op.CastLike(1, scale))
    inverse = op.Reciprocal(support)
    precision = op.CastLike(4194304, scale)
    block = op.Constant(value_int=BLOCK)

    # One block of output columns per iteration needs less memory for weights than all columns.
    @graph()
    def resize_block(i: INT64, going: BOOL):
        columns = op.Range(i * block, op.Add(i, 1) * block, 1)
        centres = (op.CastLike(columns, scale) + 0.5) * scale
        start = op.Max(op.CastLike(centres[0] - support, i), 0)
        stop = op.Min(op.CastLike(centres[-1] + support, i) + 1, old_length)
        taps = op.CastLike(op.Range(start, stop, 1), scale) + 0.5
        distance = op.Abs((op.Unsqueeze(taps, [1]) - centres) * inverse)
        weights = op.Max(1.0 - distance, op.CastLike(0, scale))
        weights = weights / op.Max(op.ReduceSum(weights, [0]), op.CastLike(1e-9, scale))
        whole = op.Floor(weights * precision + 0.5)
        read = op.Slice(pixels, op.Unsqueeze(start, [0]), op.Unsqueeze(stop, [0]), [2])
        sums = op.MatMul(op.CastLike(read, scale), whole)
        levels = op.Floor(sums / precision + 0.5)
        found = op.CastLike(op.Min(levels, op.CastLike(255, scale)), pixels)
        return op.Identity(going), found

    blocks = op.Loop((length + block - 1) / block, True, body=resize_block)
    rows = op.Reshape(op.Transpose(blocks, perm=[1, 2, 0, 3]), [0, 0, -1])
    return op.Slice(rows, [0], op.Unsqueeze(length, [0]), [2])


def add_postprocessing(
    model: onnx.ModelProto,
    instance_score: str,
    class_keypoints: Sequence[Sequence[int]],
    paste: bool = False,
) -> onnx.ModelProto:
    """Replace the outputs of `Detector` by `boxes`, `scores`, `classes`, `masks` and `keypoints` of the image.

    Those of a batched detector have `image_indices`, too.

    The computation is that of detectron2's heatmaps_to_keypoints and detector_postprocess: keypoints are N x K x 3 (x,
    y, score), and boxes that are empty after clipping are dropped. x and y are the detector's positions if it has that
    output (DARK). The model gets an input `image_size`, height and width in pixels.

    Args:
        model: the ONNX model of a `Detector`.
        instance_score: see DecodingKeypointHead.
        class_keypoints: see DecodingKeypointHead.
        paste: `masks` are N x height x width (0 or 1, uint8); else they are probabilities in the boxes, N x S x S.
    """
    detector = ir.from_proto(model)
    shapes: dict[str | None, Any] = {value.name: value.shape for value in detector.graph.outputs}
    for value in detector.graph.outputs:
        value.name = f"detected_{value.name}"
    model = ir.to_proto(detector)
    outputs: dict[str, tuple[Any, list[Any]]] = {
        "boxes": (FLOAT, ["m", 4]),
        "scores": (FLOAT, ["m"]),
        "classes": (INT64, ["m"]),
    }
    found, sizes = [f"detected_{name}" for name in outputs], ["size", "image_size"]
    reordered = "heatmaps" in shapes and instance_score != "box"
    prefix = "kept_" if reordered else ""
    nodes = [
        _call(boxes_to_image, [*found, *sizes], [*(prefix + name for name in outputs), "nonempty"])
    ]
    functions: list[Any] = [boxes_to_image]
    if "image_indices" in shapes:
        outputs["image_indices"] = INT64, ["m"]
        kept = [f"{prefix}image_indices"]
        inputs = ["detected_image_indices", "nonempty"]
        nodes.append(helper.make_node("Compress", inputs, kept, axis=0))
    if "masks" in shapes:
        side = shapes["masks"][1]
        outputs["masks"] = (
            (UINT8, ["m", "height", "width"]) if paste else (FLOAT, ["m", side, side])
        )
        inside = f"{prefix}{'inner_' * paste}masks"
        nodes.append(helper.make_node("Compress", ["detected_masks", "nonempty"], [inside], axis=0))
        if paste:
            inputs = [f"{prefix}boxes", inside, "image_size"]
            nodes.append(_call(paste_masks, inputs, [f"{prefix}masks"]))
            functions += [mask_weights, paste_masks]
    if "heatmaps" in shapes:
        number = shapes["heatmaps"][1]
        outputs["keypoints"] = FLOAT, ["m", number, 3]
        inputs = ["detected_boxes", "detected_heatmaps", "nonempty", *sizes]
        highest = f"{prefix}{'highest_' * ('positions' in shapes)}keypoints"
        nodes.append(_call(keypoints_to_image, inputs, [highest]))
        functions += [bicubic_weights, keypoints_to_image]
        if "positions" in shapes:
            inputs = [highest, "detected_positions", "nonempty", *sizes]
            nodes.append(_call(at_positions, inputs, [f"{prefix}keypoints"]))
            functions.append(at_positions)
    if reordered:
        own = np.array([[i in indices for i in range(number)] for indices in class_keypoints])
        order = order_by_keypoints(own.astype(np.float32), instance_score == "combined")
        inputs = [prefix + name for name in ("scores", "classes", "keypoints")]
        nodes.append(_call(order, inputs, ["scores", "best_first"]))
        functions.append(order)
        nodes += [
            helper.make_node("Gather", [prefix + name, "best_first"], [name], axis=0)
            for name in outputs
            if name != "scores"
        ]
    model.graph.node.extend(nodes)
    model.graph.input.append(helper.make_tensor_value_info("image_size", INT64.dtype, [2]))
    make = helper.make_tensor_value_info
    _replace(model.graph.output, [make(k, v.dtype, shape) for k, (v, shape) in outputs.items()])
    return _inlined(model, functions)


@script()
def boxes_to_image(boxes, scores, classes, size, image_size):
    """Scale and clip boxes (N x 4), and drop empty ones; the last output (N bools) says which were kept."""
    limits = op.Gather(op.Cast(image_size, to=FLOAT.dtype), [1, 0, 1, 0])
    scales = limits / op.Gather(op.Cast(size, to=FLOAT.dtype), [1, 0, 1, 0])
    clipped = op.Min(op.Max(boxes * scales, 0.0), limits)
    nonempty = op.ReduceMin(clipped[:, 2:4] - clipped[:, 0:2], [1], keepdims=0) > 0.0
    kept_boxes = op.Compress(clipped, nonempty, axis=0)
    kept_scores = op.Compress(scores, nonempty, axis=0)
    return kept_boxes, kept_scores, op.Compress(classes, nonempty, axis=0), nonempty


@script()
def bicubic_weights(length, side):
    """Weights of `side` cells, with two more at either end, in `length` interpolated values: length x (side + 4).

    Keys' kernel with a = -0.75, as in PyTorch.
    """
    sources = (op.Range(0.0, length, 1.0) + 0.5) * (op.CastLike(side, length) / length) - 0.5
    cells = op.Cast(op.Range(-2, side + 2, 1), to=FLOAT.dtype)
    x = op.Abs(op.Unsqueeze(sources, [-1]) - cells)
    near = (x * 1.25 + -2.25) * (x * x) + 1.0
    far = (2.0 - x) * (2.0 - x) * (x - 1.0) * -0.75
    return op.Where(x < 1.0, near, op.Where(x < 2.0, far, 0.0))


@script()
def keypoints_to_image(boxes, heatmaps, nonempty, size, image_size):
    """Decode the heatmaps (N x K x S x S) of nonempty boxes (N x 4): M x K x 3, x, y and score."""
    corners = boxes[:, 0:2]
    extents = op.Max(boxes[:, 2:4] - corners, 1.0)
    lengths = op.Ceil(extents)
    corrections = extents / lengths
    scale = op.Gather(op.Cast(image_size, to=FLOAT.dtype) / op.Cast(size, to=FLOAT.dtype), [1, 0])
    side = op.Squeeze(op.Shape(heatmaps, start=3, end=4))
    padded = op.Pad(heatmaps, [0, 0, 2, 2, 0, 0, 2, 2], mode="edge")

    # One region per iteration: the resized heatmap of one that fills the image is large.
    @graph()
    def decode_region(i: INT64, going: BOOL):
        own = op.Gather(lengths, i)
        width = op.CastLike(own[0], i)
        rows = op.MatMul(bicubic_weights(own[1], side), op.Gather(padded, i))
        stretched = op.MatMul(rows, op.Transpose(bicubic_weights(own[0], side)))
        flat = op.Reshape(stretched, [0, -1])
        index = op.ArgMax(flat, axis=1, keepdims=1)
        xy = op.Concat(op.Mod(index, width), index / width, axis=1)
        in_box = (op.CastLike(xy, scale) + 0.5) * op.Gather(corrections, i)
        in_image = (in_box + op.Gather(corners, i)) * scale
        logits = op.Reshape(op.Gather(heatmaps, i), [0, -1])
        powers = op.Exp(logits - op.ReduceMax(flat, [-1], keepdims=1))
        score = op.Reciprocal(op.ReduceSum(powers, [-1], keepdims=1))
        return op.Identity(going), op.Concat(in_image, score, axis=1)

    count = op.Squeeze(op.Shape(boxes, start=0, end=1))
    return op.Compress(op.Loop(count, True, body=decode_region), nonempty, axis=0)


@script()
def at_positions(keypoints, positions, nonempty, size, image_size):
    """Replace x and y of keypoints (M x K x 3) by the positions (N x K x 2) of nonempty boxes."""
    scale = op.Gather(op.Cast(image_size, to=FLOAT.dtype) / op.Cast(size, to=FLOAT.dtype), [1, 0])
    in_image = op.Compress(positions, nonempty, axis=0) * scale
    return op.Concat(in_image, op.Slice(keypoints, [2], [3], [2]), axis=2)


@script()
def mask_weights(start, end, length, side):
    """Bilinear weights of `side` cells between start and end in `length` pixels: length x side."""
    sources = (op.Range(0.0, length, 1.0) + 0.5 - start) / (end - start) * op.CastLike(
        side, start
    ) - 0.5
    cells = op.CastLike(op.Range(0, side, 1), start)
    return op.Max(1.0 - op.Abs(op.Unsqueeze(sources, [-1]) - cells), 0.0)


@script()
def paste_masks(boxes, masks, image_size):
    """detectron2's paste_masks_in_image: probabilities in boxes (M x S x S) to M x height x width of 0 and 1."""
    side = op.Squeeze(op.Shape(masks, start=1, end=2))
    lengths = op.Cast(image_size, to=FLOAT.dtype)

    # One mask per iteration: those of all objects, in single precision, would be large.
    @graph()
    def paste_mask(i: INT64, going: BOOL):
        box = op.Gather(boxes, i)
        rows = mask_weights(box[1], box[3], lengths[0], side)
        columns = mask_weights(box[0], box[2], lengths[1], side)
        pasted = op.MatMul(op.MatMul(rows, op.Gather(masks, i)), op.Transpose(columns))
        return op.Identity(going), op.Cast(pasted >= 0.5, to=UINT8.dtype)

    return op.Loop(op.Squeeze(op.Shape(boxes, start=0, end=1)), True, body=paste_mask)


def order_by_keypoints(class_keypoints: np.ndarray, combined: bool) -> Any:
    """A function that sorts DecodingKeypointHead's scores of instances: the scores, and the indices of the instances.

    Args:
        class_keypoints: C x K of float32: for each class, 1 for its keypoints, else 0.
        combined: multiply the score by that of the box.
    """

    @script()
    def order(box_scores, classes, keypoints):
        counted = op.Gather(class_keypoints, classes)
        total = op.ReduceSum(
            op.Min(op.Gather(keypoints, 2, axis=2), 1.0) * counted, [1], keepdims=0
        )
        count = op.ReduceSum(counted, [1], keepdims=0)
        scores = op.Where(count > 0.0, total / op.Max(count, 1.0), 1.0)
        if combined:
            scores = scores * box_scores
        ordered, best_first = op.TopK(scores, op.Shape(scores))
        return ordered, best_first

    return order


def _call(function: Any, inputs: list[str], outputs: list[str]) -> onnx.NodeProto:
    return helper.make_node(function.name, inputs, outputs, domain=function.opset.domain)


def _inlined(model: onnx.ModelProto, functions: Sequence[Any]) -> onnx.ModelProto:
    model.functions.extend(function.to_function_proto() for function in functions)
    domains = list(model.opset_import)
    model.opset_import.append(helper.make_opsetid(functions[0].opset.domain, 1))
    model = onnx.inliner.inline_local_functions(model)
    _replace(model.opset_import, domains)
    return model


def _replace(field: Any, values: Sequence[Any]) -> None:
    values = list(values)
    del field[:]
    field.extend(values)
