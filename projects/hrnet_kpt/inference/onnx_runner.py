"""A predictor for ONNX files of tools/export_model.py, with onnxruntime or OpenVINO.

This file needs only numpy, Pillow and one of the two: it can be copied to a server without the rest of this package.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

Arrays = dict[str, np.ndarray]
ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray
RUNTIMES = ("onnxruntime", "openvino")
# Precisions of OpenVINO, which by itself takes the fastest one.
PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class OnnxPredictor:
    """Maps an image to the objects in it. It may be called from several threads; OpenVINO runs their calls in turn.

    Args:
        path: a file of `tools/export_model.py --format onnx`, of the whole detector.
        providers: onnxruntime's execution providers, in order of preference; by default CUDA, if available, and the
            CPU. For OpenVINO, its device, such as ["GPU"]; by default the CPU.
        threads: CPU threads for one image; by default the number of cores.
        runtime: "onnxruntime" or "openvino", whose threads do not survive a fork of the process.
        precision: "float32"; or, with OpenVINO and a processor that has the instructions, "bfloat16" or "float16".

    Raises:
        ValueError: If the file is something else, or the runtime does not have the precision.
        ModuleNotFoundError: If the runtime is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        runtime: str = "onnxruntime",
        precision: str = "float32",
    ) -> None:
        for name, value, known in (
            ("runtime", runtime, RUNTIMES),
            ("precision", precision, tuple(PRECISIONS)),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r}: write one of {', '.join(known)}")
        if runtime == "onnxruntime" and precision != "float32":
            raise ValueError(f"precision={precision!r}: onnxruntime computes what the file says")
        if not os.path.isfile(path):
            raise ValueError(f"{path}: there is no such file")
        if runtime == "openvino":
            loaded = _load_openvino(os.fspath(path), providers, threads, PRECISIONS[precision])
        else:
            loaded = _load_onnxruntime(os.fspath(path), providers, threads)
        self._run, text = loaded
        if not text:
            raise ValueError(f"{path} has no metadata: export it by hrnet-kpt export")
        self.info: dict[str, Any] = json.loads(text)
        if self.info["part"] != "detector":
            raise ValueError(f"{path} is only the {self.info['part']}: export --part detector")
        self.batched: bool = self.info.get("batched", False)

    def __call__(
        self,
        image: ImageLike | Sequence[ImageLike],
        color: str = "RGB",
        score_threshold: float | None = None,
    ) -> Any:
        """Detect the objects in an image, or in each of a list of images.

        Args:
            image: a path; a Pillow image, which is rotated as its EXIF data say; or height x width x 3 of uint8. Or a
                list of them: a file of `--batch` takes those of one size together.
            color: "RGB" or "BGR", the order of the channels of an array.
            score_threshold: objects of this score or less are dropped; by default the threshold of the model's config.

        Returns:
            The objects, highest score first, in pixels of the image: `class`, `score` (0 to 1), `box` (x1, y1, x2, y2)
            and, if the class has keypoints, `keypoints` (x, y and detectron2's score by name) and `confidences` (0 to
            1) of the keypoints by name; with masks, `mask`, COCO's RLE (size: height and width, counts: a string). x
            runs from 0 at the left edge to the width, y from 0 at the upper edge. Of a list, a list for each image.

        Raises:
            ValueError: If `image` is something else, or cannot be read.
        """
        many = isinstance(image, list | tuple)
        images: Sequence[Any] = image if many else [image]  # type: ignore[assignment]
        pixels = [self._pixels(one, color) for one in images]
        if score_threshold is None:
            score_threshold = self.info["score_threshold"]
        together: dict[Any, list[int]] = {}
        for i, one in enumerate(pixels):
            together.setdefault(one.shape if self.batched else i, []).append(i)
        results: list[Any] = [None] * len(pixels)
        for indices in together.values():
            found = self._predict([pixels[i] for i in indices], score_threshold)
            for i, objects in zip(indices, found, strict=True):
                results[i] = objects
        return results if many else results[0]

    def _predict(self, images: list[np.ndarray], score_threshold: float) -> list[Any]:
        """The objects in each of several images of one size."""
        height, width = images[0].shape[:2]
        image_size = height, width
        threshold = np.array(score_threshold, np.float32)
        found = self._run({**self.feeds(images), "score_threshold": threshold})
        if self.info["postprocessing"] == "outside":
            size = _new_size(height, width, self.info["resize"])
            found = postprocess(found, size, image_size, self.info)
        if not self.batched:
            return [self._objects(found, image_size)]
        owner = found.pop("image_indices")
        own = [{k: v[owner == i] for k, v in found.items()} for i in range(len(images))]
        return [self._objects(one, image_size) for one in own]

    def feeds(self, images: Sequence[ImageLike]) -> Arrays:
        """The inputs of the file for images of one size, arrays in RGB, without the threshold."""
        pixels = [self._pixels(image) for image in images]
        height, width = pixels[0].shape[:2]
        size = _new_size(height, width, self.info["resize"])
        if 0 in size:
            raise ValueError(f"{width} x {height} pixels is too elongated to be resized: crop it")
        if self.info["preprocessing"] == "inside":
            if self.batched:
                return {"images": np.stack(pixels)}
            return {"image": np.ascontiguousarray(pixels[0])}
        batch = np.concatenate([preprocess(one, self.info) for one in pixels])
        feeds = {"batch": batch, "size": np.array(size)}
        if self.info["postprocessing"] == "inside":
            feeds["image_size"] = np.array([height, width])
        return feeds

    def _pixels(self, image: ImageLike, color: str = "RGB") -> np.ndarray:
        return _pixels(image, color, self.info.get("image_range", "8-bit"))

    def _objects(self, found: Arrays, image_size: tuple[int, ...]) -> list[dict[str, Any]]:
        classes = list(self.info["classes"])
        names = self.info["keypoints"]["names"]
        objects = []
        for i, label in enumerate(found["classes"]):
            own = self.info["classes"][classes[label]]
            new: dict[str, Any] = {
                "class": classes[label],
                "score": float(found["scores"][i]),
                "box": found["boxes"][i].tolist(),
            }
            if "keypoints" in found and own:
                by_name = dict(zip(names, found["keypoints"][i].tolist(), strict=True))
                new["keypoints"] = {name: by_name[name] for name in own}
                scores = np.array([by_name[name][2] for name in own])
                new["confidences"] = dict(zip(own, self._confidences(scores), strict=True))
            if "masks" in found:
                mask = found["masks"][i]
                if self.info["masks"] == "maps":
                    mask = paste_mask(mask, found["boxes"][i], image_size)
                new["mask"] = to_rle(mask)
            objects.append(new)
        return objects

    def _confidences(self, scores: np.ndarray) -> list[float]:
        slope, offset = self.info["calibration"]
        exponent = slope * np.log(np.maximum(scores, 1e-12)) + offset
        confidences: list[float] = (1 / (1 + np.exp(-exponent))).tolist()
        return confidences


def _load_onnxruntime(
    path: str, providers: Sequence[str] | None, threads: int | None
) -> tuple[Callable[[Arrays], Arrays], str]:
    """Function of inputs by name to outputs by name, and the file's metadata."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no warnings about inputs with a default
    if threads:
        options.intra_op_num_threads = threads
    if providers is None:
        available = onnxruntime.get_available_providers()
        preferred = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in preferred if name in available]
    try:
        session = onnxruntime.InferenceSession(path, options, list(providers))
    except Exception as error:  # onnxruntime's own classes have no common parent
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: onnxruntime cannot load it ({reason})") from error
    names = [output.name for output in session.get_outputs()]
    text = session.get_modelmeta().custom_metadata_map.get("hrnet_kpt", "")
    return lambda feeds: dict(zip(names, session.run(None, feeds), strict=True)), text


def _load_openvino(
    path: str, providers: Sequence[str] | None, threads: int | None, precision: str
) -> tuple[Callable[[Arrays], Arrays], str]:
    """The same with OpenVINO."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": precision}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    try:
        model = openvino.Core().read_model(path)
        # An input with a default, which is read as a constant.
        for constant in model.get_ops():
            if constant.get_friendly_name() == "score_threshold":
                threshold = openvino.opset13.parameter([], np.float32, name="score_threshold")
                threshold.output(0).set_names({"score_threshold"})
                constant.output(0).replace(threshold.output(0))
                model.add_parameters([threshold])
        compiled = openvino.compile_model(model, (providers or ["CPU"])[0], settings)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: OpenVINO cannot load it ({reason})") from error
    text = ""
    if model.has_rt_info(["framework", "hrnet_kpt"]):
        text = model.get_rt_info(["framework", "hrnet_kpt"]).value
    request = compiled.create_infer_request()
    # Two threads in OpenVINO 2026.4.1 can wait for each other: one holds the GIL, the other a tensor. One image takes
    # all threads anyway.
    lock = threading.Lock()

    def run(feeds: Arrays) -> Arrays:
        with lock:
            found = request.infer(feeds)
            return {output.any_name: found[output].copy() for output in compiled.outputs}

    return run, text


def preprocess(pixels: np.ndarray, info: dict[str, Any]) -> np.ndarray:
    """Resize, normalise and pad an RGB image, height x width x 3 of uint8, to a batch of 1 x 3 x H x W."""
    height, width = _new_size(pixels.shape[0], pixels.shape[1], info["resize"])
    if (height, width) != pixels.shape[:2]:
        resized = Image.fromarray(np.ascontiguousarray(pixels))
        pixels = np.asarray(resized.resize((width, height), Image.Resampling.BILINEAR))
    if info["image_format"] == "BGR":
        pixels = pixels[..., ::-1]
    mean, deviation = (np.float32(info[key]) for key in ("pixel_mean", "pixel_std"))
    normalised = (pixels.astype(np.float32) - mean) / deviation
    padding = [(0, -height % info["divisor"]), (0, -width % info["divisor"]), (0, 0)]
    return np.ascontiguousarray(np.pad(normalised, padding).transpose(2, 0, 1)[None])


def postprocess(
    found: Arrays,
    size: tuple[int, int],
    image_size: tuple[int, ...],
    info: dict[str, Any],
) -> Arrays:
    """Convert boxes and heatmaps of the resized image (height, width) to boxes and keypoints of the image."""
    scale = np.array(image_size[::-1], np.float32) / np.array(size[::-1], np.float32)
    limits = np.tile(np.array(image_size[::-1], np.float32), 2)
    boxes = np.clip(found["boxes"] * np.tile(scale, 2), 0, limits)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    new = {"boxes": boxes, "scores": found["scores"], "classes": found["classes"]}
    new |= {name: found[name] for name in ("masks", "image_indices") if name in found}
    if "heatmaps" in found:
        new["keypoints"] = decode_heatmaps(found["heatmaps"], found["boxes"])
        if "positions" in found:  # DARK
            new["keypoints"][..., :2] = found["positions"]
        new["keypoints"][..., :2] *= scale
        if info["instance_score"] != "box":
            new["scores"] = _instance_scores(new, info)
    new = {name: values[kept] for name, values in new.items()}
    order = np.argsort(-new["scores"], kind="stable")
    return {name: values[order] for name, values in new.items()}


def decode_heatmaps(heatmaps: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Find the maxima of heatmaps (N x K x S x S, logits) in their boxes (N x 4): N x K x 3, x, y and score."""
    keypoints = np.zeros((*heatmaps.shape[:2], 3), np.float32)
    side = heatmaps.shape[-1]
    padded = np.pad(heatmaps, [(0, 0), (0, 0), (2, 2), (2, 2)], mode="edge")
    for i, (corner, other) in enumerate(zip(boxes[:, :2], boxes[:, 2:], strict=True)):
        extent = np.maximum(other - corner, np.float32(1))
        width, height = (int(length) for length in np.ceil(extent))
        stretched = _bicubic(height, side) @ padded[i] @ _bicubic(width, side).T
        flat = stretched.reshape(len(stretched), -1)
        index = flat.argmax(axis=1)
        centre = np.stack([index % width, index // width], axis=1).astype(np.float32) + 0.5
        keypoints[i, :, :2] = centre * (extent / np.ceil(extent)) + corner
        peak = flat.max(axis=1)[:, None, None]
        keypoints[i, :, 2] = 1 / np.exp(heatmaps[i] - peak).sum(axis=(1, 2))
    return keypoints


def paste_mask(mask: np.ndarray, box: np.ndarray, image_size: tuple[int, ...]) -> np.ndarray:
    """detectron2's paste_masks_in_image: probabilities in a box (S x S) to height x width of bool."""
    side = np.float32(len(mask))

    def weights(start: np.float32, end: np.float32, length: int) -> np.ndarray:
        pixels = np.arange(length, dtype=np.float32) + np.float32(0.5)
        sources = (pixels - start) / (end - start) * side - np.float32(0.5)
        distances = np.abs(sources[:, None] - np.arange(len(mask), dtype=np.float32))
        return np.maximum(1 - distances, 0)

    rows, columns = weights(box[1], box[3], image_size[0]), weights(box[0], box[2], image_size[1])
    pasted: np.ndarray = rows @ mask @ columns.T >= 0.5
    return pasted


def to_rle(mask: np.ndarray) -> dict[str, Any]:
    """COCO's RLE of a mask (height x width): the lengths of runs of 0 and 1 in columns, as text."""
    values = np.concatenate([[0], mask.T.ravel().astype(np.int8)])
    changes = np.flatnonzero(np.diff(values))
    counts = np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()
    text = []
    for i, count in enumerate(counts):
        # From the fourth one on, the difference from that before the last; 5 bits a character, the sixth: more follow.
        rest = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            bits, rest = rest & 31, rest >> 5
            more = rest != (-1 if bits & 16 else 0)
            text.append(chr(48 + bits + 32 * more))
    return {"size": [*mask.shape], "counts": "".join(text)}


def _bicubic(length: int, side: int) -> np.ndarray:
    """Bicubic weights (a = -0.75) of `side` cells, with two more at either end: length x (side + 4)."""
    sources = (np.arange(length, dtype=np.float32) + 0.5) * np.float32(side / length) - 0.5
    x = np.abs(sources[:, None] - np.arange(-2, side + 2, dtype=np.float32))
    near, far = (1.25 * x - 2.25) * x * x + 1, -0.75 * (2 - x) * (2 - x) * (x - 1)
    return np.where(x < 1, near, np.where(x < 2, far, 0)).astype(np.float32)


def _instance_scores(found: Arrays, info: dict[str, Any]) -> np.ndarray:
    """The mean score of the keypoints of an instance's class, or its product with the box's score."""
    names = info["keypoints"]["names"]
    own = [[name in of_class for name in names] for of_class in info["classes"].values()]
    counted = np.array(own, np.float32)[found["classes"]]
    total = (np.minimum(found["keypoints"][..., 2], 1) * counted).sum(axis=1)
    count = counted.sum(axis=1)
    means = np.where(count > 0, total / np.maximum(count, 1), 1).astype(np.float32)
    return means * found["scores"] if info["instance_score"] == "combined" else means


def _new_size(height: int, width: int, resize: dict[str, int] | None) -> tuple[int, int]:
    """Height and width after detectron2's ResizeShortestEdge."""
    if resize is None:
        return height, width
    scale = resize["short_edge"] / min(height, width)
    new = [scale * height, scale * width]
    new[0 if height < width else 1] = float(resize["short_edge"])
    if max(new) > resize["max_size"]:
        factor = resize["max_size"] / max(new)
        new = [length * factor for length in new]
    return int(new[0] + 0.5), int(new[1] + 0.5)


def _pixels(
    image: ImageLike,
    color: str,
    image_range: str | Sequence[float],
) -> np.ndarray:
    if color not in ("RGB", "BGR"):
        raise ValueError(f"color={color!r}: write RGB or BGR, the order of the channels")
    if isinstance(image, str | os.PathLike):
        try:
            with Image.open(image) as stored:
                return _upright(stored, image_range)
        except FileNotFoundError as error:
            raise ValueError(f"{image}: there is no such image") from error
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{image}: the image cannot be read ({reason})") from error
    if isinstance(image, Image.Image):
        return _upright(image, image_range)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        what = getattr(image, "dtype", type(image).__name__)
        raise ValueError(
            f"{what} is not an image: give a path, a Pillow image or an array of uint8"
        )
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"the array is {image.shape}: give height x width x 3")
    return image if color == "RGB" else image[..., ::-1]


def _upright(image: Image.Image, image_range: str | Sequence[float]) -> np.ndarray:
    with contextlib.suppress(Exception):  # damaged EXIF data raise many kinds of errors
        image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":  # more than 8 bits
        values = np.asarray(image).astype(np.float64)
        if isinstance(image_range, str):
            if values.min(initial=0) < 0 or values.max(initial=0) > 255:
                raise ValueError(
                    f"its values are {values.min():g} to {values.max():g}, but the model is for images of 8 bits"
                )
            image_range = (0, 255)
        low, high = image_range
        values = (np.nan_to_num(values, nan=low) - low) * (255 / (high - low))
        image = Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))
    return np.asarray(image.convert("RGB"))
