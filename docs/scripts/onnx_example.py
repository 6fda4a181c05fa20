#!/usr/bin/env python
"""Detect objects in an image with an ONNX file of tools/export_model.py, print them, and draw them.

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
    parser.add_argument("model", help="an .onnx file")
    parser.add_argument("image")
    parser.add_argument("--output", metavar="FILE", help="draw the detections into this file")
    parser.add_argument("--score-threshold", type=float, default=0.5)
    args = parser.parse_args(argv)

    onnxruntime.set_default_logger_severity(3)  # no warnings about inputs with a default
    session = onnxruntime.InferenceSession(args.model)
    info = json.loads(session.get_modelmeta().custom_metadata_map["hrnet_kpt"])
    slope, offset = info["calibration"]
    image = ImageOps.exif_transpose(Image.open(args.image)).convert("RGB")
    inputs = {"image": np.asarray(image), "score_threshold": np.array(args.score_threshold, "f")}
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, inputs), strict=True))
    draw = ImageDraw.Draw(image)
    for n, box in enumerate(found["boxes"]):
        name, own = list(info["classes"].items())[found["classes"][n]]
        print(f"{name} {found['scores'][n]:.2f} at {' '.join(f'{value:.1f}' for value in box)}")
        if info["masks"] == "maps":  # probabilities in the box
            x0, y0, x1, y1 = box.round().astype(int).tolist()
            mask = Image.fromarray(found["masks"][n]).resize((max(x1 - x0, 1), max(y1 - y0, 1)))
            draw.bitmap((x0, y0), Image.fromarray(np.asarray(mask) >= 0.5), fill="teal")
        draw.rectangle(box.tolist(), outline="orange")
        points = {}
        for keypoint in own if "keypoints" in found else []:
            i = info["keypoints"]["names"].index(keypoint)
            x, y, score = found["keypoints"][n, i].tolist()
            confidence = 1 / (1 + np.exp(-slope * np.log(score) - offset))
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
