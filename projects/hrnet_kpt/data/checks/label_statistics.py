"""What a data set labels, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tabulate import tabulate

from ..sides import left_right_pairs
from .annotation_table import AnnotationTable, annotation_table, listed_names
from .findings import counted


def describe(content: Mapping[str, Any], where: str) -> str:
    """Tables of the categories, and of the keypoints of each, as text. Arguments as for check_annotations."""
    table = annotation_table(content, where)
    empty = len(table.images) - len(set(table.image[table.image >= 0].tolist()))
    lines = [
        f"{where}: {counted(len(table.images), 'image')} ({empty} without annotations), "
        f"{counted(len(table.annotations), 'annotation')} ({table.crowd.sum()} of crowds)",
        "",
        _text([category_row(table, i) for i in range(len(table.categories))]),
    ]
    for i in range(len(table.categories)):
        rows = keypoint_rows(table, i)
        if rows:
            pairs = left_right_pairs(listed_names(table.categories[i]))
            lines += [
                "",
                f"{table.categories[i].get('name')}: {counted(len(rows), 'keypoint')}, "
                f"{counted(len(pairs), 'pair')} that a mirror exchanges. Percent of its instances that are no crowds; "
                "x and y: mean place in the box, from 0 to 1.",
                _text(rows),
            ]
    return "\n".join(lines)


def category_row(table: AnnotationTable, category: int) -> dict[str, Any]:
    """How much there is of a category; instances are annotations of no crowds."""
    own = table.category == category
    instances = own & ~table.crowd
    rows, points = table.keypoints(category)
    labelled = (points[~table.crowd[rows], :, 2] > 0).sum(axis=1)
    sides = table.boxes[instances, 2:]
    usable = np.isfinite(sides).all(axis=1) & (sides > 0).all(axis=1)
    scale = float(np.median(np.sqrt(sides[usable].prod(axis=1)))) if usable.any() else np.nan
    return {
        "category": table.categories[category].get("name"),
        "instances": int(instances.sum()),
        "crowds": int((own & table.crowd).sum()),
        "images": len(set(table.image[own & (table.image >= 0)].tolist())),
        "with keypoints": int((labelled > 0).sum()),
        "keypoints each": float(labelled[labelled > 0].mean()) if labelled.any() else 0.0,
        "box, median px": scale,
    }


def keypoint_rows(table: AnnotationTable, category: int) -> list[dict[str, Any]]:
    """For each keypoint of a category: who it trades places with in a mirror, how often it is labelled, and where."""
    names = listed_names(table.categories[category])
    rows, points = table.keypoints(category)
    if not names or len(names) != points.shape[1]:
        return []
    partner = {a: b for pair in left_right_pairs(names) for a, b in (pair, pair[::-1])}
    instances = max(1, int(((table.category == category) & ~table.crowd).sum()))
    alone = ~table.crowd[rows]
    boxes, points = table.boxes[rows[alone]][:, None], points[alone]
    with np.errstate(all="ignore"):
        places = (points[..., :2] - boxes[..., :2]) / boxes[..., 2:]
    found = []
    for k, name in enumerate(names):
        labelled = points[:, k, 2] > 0
        seen = places[labelled & np.isfinite(places[:, k]).all(axis=-1), k]
        x, y = seen.mean(axis=0) if len(seen) else (np.nan, np.nan)
        found.append(
            {
                "keypoint": name,
                "mirrored": partner.get(name, ""),
                "labelled": 100 * float(labelled.sum()) / instances,
                "visible": 100 * float((points[:, k, 2] == 2).sum()) / instances,
                "x": float(x),
                "y": float(y),
            }
        )
    return found


def _text(rows: list[dict[str, Any]]) -> str:
    columns = list(rows[0]) if rows else []
    formats = [".2f" if name in ("x", "y") else ".1f" for name in columns]
    return tabulate(rows, headers="keys", tablefmt="simple", floatfmt=formats)
