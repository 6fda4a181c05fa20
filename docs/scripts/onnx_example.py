#!/usr/bin/env python
"""Detect people in an image with an ONNX file of tools/export_model.py, print them, and draw them.

It only needs numpy, onnxruntime and Pillow. The file must have pre- and postprocessing inside, which is the default.
"""

import argparse
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps

MIN_CONFIDENCE = 0.3  # of a keypoint that is drawn


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("model", help="an .onnx file")
    add("image")
    add("--output", metavar="FILE", help="draw the detections into this file")
    add("--score-threshold", type=float, default=0.5)
    args = parser.parse_args(argv)

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no warnings about inputs with a default
    session = onnxruntime.InferenceSession(args.model, options)
    info = json.loads(session.get_modelmeta().custom_metadata_map["hrnet_kpt"])
    slope, offset = info["calibration"]

    image = ImageOps.exif_transpose(Image.open(args.image)).convert("RGB")
    threshold = np.array(args.score_threshold, np.float32)
    inputs = {"image": np.asarray(image), "score_threshold": threshold}
    boxes, scores, classes, keypoints = session.run(None, inputs)
    confidences = 1 / (1 + np.exp(-slope * np.log(keypoints[..., 2]) - offset))

    draw = ImageDraw.Draw(image)
    for n, box in enumerate(boxes):
        name, own = list(info["classes"].items())[classes[n]]
        print(f"{name} {scores[n]:.2f} at {' '.join(f'{value:.1f}' for value in box)}")
        draw.rectangle(box.tolist(), outline="orange")
        points = {}
        for keypoint in own:
            i = info["keypoints"]["names"].index(keypoint)
            (x, y), confidence = keypoints[n, i, :2].tolist(), confidences[n, i]
            print(f"  {keypoint} {confidence:.2f} at {x:.1f} {y:.1f}")
            if confidence >= MIN_CONFIDENCE:
                points[keypoint] = (x, y)
                draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill="red")
        for a, b in info["keypoints"]["skeleton"]:
            if a in points and b in points:
                draw.line((*points[a], *points[b]), fill="lime")
    if args.output:
        image.save(args.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
