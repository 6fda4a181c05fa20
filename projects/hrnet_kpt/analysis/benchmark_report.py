"""A benchmark's numbers as text and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..io import replace_text, to_json
from .parts import PARTS
from .text_table import text_table

COLORS = (
    *("#b8bfc4", "#1f6f8b", "#5fa8c2", "#e2a83e", "#c65b3c", "#7f4f8f", "#c79fd0"),
    "#8a9196",
)


def benchmark_text(found: Mapping[str, Any]) -> str:
    """What run_benchmark returns, as tables; times in milliseconds, the shortest and the longest in brackets."""
    machine = found["machine"]
    lines = [f"{machine['device']}, {machine['threads']} CPU threads, torch {machine['torch']}"]
    for dtype, limits in machine["limits"].items():
        lines.append(
            f"{dtype}: at most {limits['convolution']:.0f} GMAC/s in a 3x3 convolution of 256 channels, "
            f"{limits['matrix']:.0f} in a matrix product of 4096 x 4096"
        )
    for case in found["inference"]:
        lines += ["", f"Inference, {_title(case)}", text_table([*_rows(case, machine)], 1)]
        lines += ["", "Its parts, ms", text_table([*_part_rows(case)], 1)]
    if found["decoding"]:
        lines += ["", "Decoding of keypoints, ms"]
        rows = [["detections", "sides of boxes", "detectron2", "ours", "times as fast"]]
        for case in found["decoding"]:
            low, high = case["sides"]
            ratio = case["detectron2"]["median"] / case["ours"]["median"]
            own = (_times(case["detectron2"]), _times(case["ours"]), f"{ratio:.2f}")
            rows.append([str(case["detections"]), f"{low} to {high} px", *own])
        lines.append(text_table(rows, 1))
    training = found["training"]
    if training:
        size = f"{training['height']} x {training['width']}, batch {training['batch_size']}"
        rows = [["", "ms", "times as fast", "MiB"]]
        for name in ("plain", "ours"):
            ratio = training["plain"]["step"]["median"] / training[name]["step"]["median"]
            memory = _number(training[name]["memory"])
            rows.append([name, _times(training[name]["step"]), f"{ratio:.2f}", memory])
        lines += ["", f"A training step, {size}", text_table(rows, 1)]
    return "\n".join(lines)


def write_benchmark(found: Mapping[str, Any], folder: str) -> list[str]:
    """Write benchmark.json and benchmark.png; return lines that say where they are."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    data, picture = Path(folder) / "benchmark.json", Path(folder) / "benchmark.png"
    replace_text(data, to_json(found, indent=1) + "\n")
    draw_benchmark(found, picture)
    return ["", f"{data} has all numbers, {picture} shows the parts"]


def _title(case: Mapping[str, Any]) -> str:
    images = "one image" if case["batch_size"] == 1 else f"{case['batch_size']} images"
    return f"{case['height']} x {case['width']}, {images}, {case['detections']} detections"


def _rows(case: Mapping[str, Any], machine: Mapping[str, Any]) -> Iterator[list[str]]:
    yield [
        *("", "whole, ms", "times as fast", "images/s", "trunk, ms", "times as fast"),
        *("of the limit", "MiB", "difference"),
    ]
    plain = next(iter(case["results"].values()))
    for name, result in case["results"].items():
        whole = result.get("whole")
        # A trunk of another kind computes something else.
        same = result["kind"] != "detectron2"
        limit = machine["limits"][result["dtype"]]["convolution"]
        rate = case["trunk_macs"] / 1e9 / result["trunk"]["median"]
        yield [
            name,
            _times(whole) if whole else "-",
            f"{plain['whole']['median'] / whole['median']:.2f}" if whole else "-",
            f"{result['images_per_second']:.2f}" if whole else "-",
            _times(result["trunk"]),
            f"{plain['trunk']['median'] / result['trunk']['median']:.2f}" if same else "-",
            f"{rate / limit:.0%}" if same else "-",
            _number(result["memory"]),
            f"{result['difference']:.0e}" if "difference" in result else "-",
        ]


def _part_rows(case: Mapping[str, Any]) -> Iterator[list[str]]:
    shown = {name: result["parts"] for name, result in case["results"].items() if result["parts"]}
    yield ["", *shown]
    for part in PARTS:
        yield [part, *(f"{1000 * parts[part]:.1f}" for parts in shown.values())]


def _times(time: Mapping[str, float]) -> str:
    median, least, most = (1000 * time[name] for name in ("median", "least", "most"))
    return f"{median:.0f} ({least:.0f} to {most:.0f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def draw_benchmark(found: Mapping[str, Any], output: Path) -> None:
    """Plot the parts of each contender, a panel for each size, batch size and number of detections."""
    cases: Sequence[Mapping[str, Any]] = found["inference"]
    figure = Figure(figsize=(9, 1.2 + 2.6 * len(cases)), dpi=110, layout="constrained")
    panels = figure.subplots(len(cases), 1, squeeze=False)[:, 0]
    for axes, case in zip(panels, cases, strict=True):
        shown = {name: result for name, result in case["results"].items() if "whole" in result}
        for row, result in enumerate(shown.values()):
            start = 0.0
            parts = result["parts"]
            for part, color in zip(PARTS, COLORS, strict=True):
                time = max(0.0, parts.get(part, 0.0))
                axes.barh(row, time, left=start, color=color, height=0.7)
                start += time
            if not parts:
                start = result["whole"]["median"]
                axes.barh(row, start, color="0.6", height=0.7)
            axes.annotate(
                f" {result['whole']['median']:.2f} s", (start, row), va="center", ha="left"
            )
        axes.set_yticks(range(len(shown)), [*shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.margins(x=0.1)
        axes.set(xlabel="seconds", title=_title(case))
        axes.spines[["top", "right"]].set_visible(False)
    handles = [
        axes.barh(0, 0, color=color, label=part) for part, color in zip(PARTS, COLORS, strict=True)
    ]
    handles.append(axes.barh(0, 0, color="0.6", label="compiled as a whole"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(output)
