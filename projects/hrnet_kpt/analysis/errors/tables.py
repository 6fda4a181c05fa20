"""Error statistics by keypoint and by image, and their tables as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from ...data.schema import KeypointSchema
from ...errors import UserError
from ...evaluation.ground_truth import GroundTruth
from .matching import KINDS, Matches, Pair, match
from .stages import AREAS, STAGES, break_down_ap

MOST_ROWS = 40  # keypoints in a table or a plot
NAMES = {stage: stage.replace("_", " ") for stage in STAGES} | {"good": "good, not perfect"}


def analyze_errors(
    truth: GroundTruth, results: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], Matches]:
    """Analyze COCO-format results.

    Returns:
        JSON-compatible data, with fractions and OKS from 0 to 1, and the matches. `AP`: see break_down_ap; `keypoints`:
        a table for each area, see keypoint_table; `images`: see image_scores.

    Raises:
        UserError: If every instance is a crowd or has no labelled keypoints.
    """
    matches = match(truth, results)
    counted = len(matches.pairs) + len(matches.missed)
    if not counted:
        raise UserError("annotations: every instance is a crowd, or has no labelled keypoints")
    with_keypoints = sum(
        len(truth.keypoint_indices[result["category_id"]]) > 0 for result in results
    )
    return {
        "instances": {
            "counted": counted,
            "found": len(matches.pairs),
            "missed": len(matches.missed),
            "mean_oks_of_found": _mean([pair.oks for pair in matches.pairs]),
            **_pixels(np.concatenate([[], *(pair.distance for pair in matches.pairs)])),
        },
        "detections": {
            "paired": len(matches.pairs),
            "double": len(matches.doubles),
            "background": len(matches.background),
            "left_out": len(matches.left_out),
            "beyond_limit": with_keypoints - len(matches.seen),
            "limit": truth.detection_limit("keypoints"),
        },
        "AP": break_down_ap(matches),
        "keypoints": {
            area: keypoint_table(within(matches.pairs, area), truth.schema) for area in AREAS
        },
        "images": image_scores(matches),
    }, matches


def within(pairs: Sequence[Pair], area: str) -> list[Pair]:
    """The pairs whose instance is in one of COCO's area ranges."""
    low, high = AREAS[area]
    return [pair for pair in pairs if low <= pair.annotation["area"] <= high]


def keypoint_table(pairs: Sequence[Pair], schema: KeypointSchema) -> list[dict[str, Any]]:
    """Count the errors of each keypoint of the schema, and the OKS that they cost.

    Returns:
        A row for each keypoint. `labelled`: number of pairs whose ground truth labels it. `count`: number of them by
        kind. `lost`: by kind the sum over pairs of (1 - similarity) / number of labelled keypoints of the instance.
        Over all keypoints and kinds, `lost` adds up to the sum of 1 - OKS of the pairs. `error_px`, `median_px`: mean
        and median distance in pixels.
    """
    indices = np.concatenate([[], *(pair.indices for pair in pairs)])
    distances = np.concatenate([[], *(pair.distance for pair in pairs)])
    count = np.zeros((len(schema.names), len(KINDS)), dtype=int)
    lost = np.zeros(count.shape)
    for pair in pairs:
        labelled = pair.kind >= 0
        cells = pair.indices[labelled], pair.kind[labelled]
        np.add.at(count, cells, 1)
        np.add.at(lost, cells, pair.lost[labelled])
    return [
        {
            "keypoint": name,
            "labelled": int(counts.sum()),
            "count": dict(zip(KINDS, counts.tolist(), strict=True)),
            "lost": dict(zip(KINDS, losses.tolist(), strict=True)),
            **_pixels(distances[indices == index]),
        }
        for index, (name, counts, losses) in enumerate(zip(schema.names, count, lost, strict=True))
    ]


def image_scores(matches: Matches) -> list[dict[str, Any]]:
    """Score each image, by ascending id.

    Returns:
        A row for each image. `oks`: mean OKS of its instances, 0 for missed ones; None if all are ignored.
        `false_positives`: doubles and background detections of any score, so that detectors with a low score
        threshold have many.
    """
    images = matches.truth.coco.imgs
    found: dict[Any, list[float]] = {id_: [] for id_ in images}
    missed: Counter[Any] = Counter(annotation["image_id"] for annotation in matches.missed)
    for pair in matches.pairs:
        found[pair.annotation["image_id"]].append(pair.oks)
    unmatched = [*matches.doubles, *matches.background]
    false = Counter(matches.results[i]["image_id"] for i in unmatched)
    return [
        {
            "image_id": id_,
            "file_name": images[id_]["file_name"],
            "instances": len(found[id_]) + missed[id_],
            "missed": missed[id_],
            "oks": _mean(found[id_] + [0.0] * missed[id_]),
            "false_positives": false[id_],
        }
        for id_ in sorted(found)
    ]


def worst_keypoints(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """The first MOST_ROWS labelled keypoints by descending lost OKS, and a remark if there are more."""
    labelled = [row for row in rows if row["labelled"]]
    labelled.sort(key=lambda row: -sum(row["lost"].values()))
    more = len(labelled) > MOST_ROWS
    remark = f"the worst {MOST_ROWS} of {len(labelled)} keypoints" if more else ""
    return labelled[:MOST_ROWS], remark


def tables(analysis: Mapping[str, Any]) -> str:
    """Format the analysis as text, in percent."""
    instances, detections = analysis["instances"], analysis["detections"]
    areas = analysis["AP"]
    stages = [["AP", *(f"{100 * areas[area]['AP']:.1f}" for area in areas)]]
    for stage in STAGES:
        gains = (100 * areas[area]["contributions"][stage] for area in areas)
        stages.append([f"+ {NAMES[stage]}", *(f"{gain:+.1f}" for gain in gains)])
    parts = [
        f"{instances['counted']} instances: {instances['found']} found, {instances['missed']} missed. "
        f"Detections: {detections['paired']} paired, {detections['double']} double, "
        f"{detections['background']} on background, {detections['left_out']} left out, {detections['beyond_limit']} "
        f"beyond the first {detections['limit']} of an image and a class.",
        "AP of keypoints, and what the errors cost, percent:\n" + _text(stages, ["", *areas]),
    ]
    if instances["found"]:
        rows, remark = worst_keypoints(analysis["keypoints"]["all"])
        parts.append(
            f"Keypoints of the instances found{f' ({remark})' if remark else ''}: percent with each kind "
            "of error, and what that takes from the\nmean OKS of these instances, which is "
            f"{100 * instances['mean_oks_of_found']:.1f}; mean and median error in pixels of the image, "
            f"{instances['error_px']:.2f} and {instances['median_px']:.2f} of all:\n"
            + _keypoint_text(rows, instances["found"])
        )
    return "\n\n".join(parts)


def _keypoint_text(rows: Sequence[Mapping[str, Any]], found: int) -> str:
    lines = []
    for row in rows:
        lost = {kind: 100 * row["lost"][kind] / found for kind in KINDS}
        cells = [
            f"{100 * row['count'][kind] / row['labelled']:.1f}  {lost[kind]:5.2f}" for kind in KINDS
        ]
        cells.append(f"{sum(lost.values()):.2f}")
        cells.append(f"{row['error_px']:.1f}  {row['median_px']:5.1f}")
        lines.append([row["keypoint"], str(row["labelled"]), *cells])
    return _text(lines, ["keypoint", "labelled", *KINDS, "in all", "pixels"])


def _text(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers=headers, colalign=align, disable_numparse=True)


def _pixels(distances: np.ndarray) -> dict[str, float | None]:
    """Mean and median of the distances that are not NaN, those of labelled keypoints; None if there are none."""
    known = distances[~np.isnan(distances)]
    return {"error_px": _mean(known), "median_px": float(np.median(known)) if len(known) else None}


def _mean(values: Sequence[float] | np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None
