"""Format and plot the results of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ...io import replace_text, to_json
from ..inspect.structure import text_table
from .timing import PARTS


def benchmark_text(found: Mapping[str, Any]) -> str:
    """Format the results of run_benchmark as tables; times are in milliseconds: median (min to max)."""
    machine, training = found["machine"], found["training"]
    lines = [f"{machine['device']}, {machine['threads']} CPU threads, torch {machine['torch']}"]
    for case in found["inference"]:
        lines += ["", f"Inference, {_title(case)}", text_table([*_rows(case)], 1)]
        lines += ["", "Its parts, ms", text_table([*_part_rows(case)], 1)]
    if training:
        size = f"{training['height']} x {training['width']}, batch {training['batch_size']}"
        step = f"{times_text(training['step'])} ms, {_number(training['memory'])} MiB"
        lines += ["", f"A training step, {size}: {step}"]
    return "\n".join(lines)


def write_benchmark(found: Mapping[str, Any], folder: str) -> list[str]:
    """Write benchmark.json and benchmark.png; return lines of text with their paths."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    data, plot = Path(folder) / "benchmark.json", Path(folder) / "benchmark.png"
    replace_text(data, to_json(found, indent=1) + "\n")
    draw_benchmark(found, plot)
    return ["", f"{data} has all numbers, {plot} shows the parts"]


def draw_benchmark(found: Mapping[str, Any], output: Path) -> None:
    """Plot the time of each part, with one panel per size, batch size and number of detections."""
    cases: Sequence[Mapping[str, Any]] = found["inference"]
    figure = Figure(figsize=(9, 1.2 + 2.6 * len(cases)), dpi=110, layout="constrained")
    panels = figure.subplots(len(cases), 1, squeeze=False)[:, 0]
    colors = {part: f"C{index}" for index, part in enumerate(PARTS)} | {"compiled": "0.6"}
    for axes, case in zip(panels, cases, strict=True):
        for row, result in enumerate(case["results"].values()):
            whole = result["whole"]["median"]
            start = 0.0
            for part, time in (result["parts"] or {"compiled": whole}).items():
                axes.barh(row, max(0.0, time), left=start, color=colors[part], height=0.7)
                start += max(0.0, time)
            axes.annotate(f" {whole:.2f} s", (start, row), va="center", ha="left")
        axes.set_yticks(range(len(case["results"])), [*case["results"]])
        axes.set_ylim(len(case["results"]) - 0.5, -0.5)
        axes.margins(x=0.1)
        axes.set(xlabel="seconds", title=_title(case))
        axes.spines[["top", "right"]].set_visible(False)
    handles = [axes.barh(0, 0, color=color, label=part) for part, color in colors.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(output)


def times_text(time: Mapping[str, float]) -> str:
    """Format the result of timing.summary in milliseconds."""
    median, low, high = (1000 * time[name] for name in ("median", "min", "max"))
    digits = 0 if median >= 100 else 1
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _title(case: Mapping[str, Any]) -> str:
    images = "one image" if case["batch_size"] == 1 else f"{case['batch_size']} images"
    return f"{case['height']} x {case['width']}, {images}, {case['detections']} detections"


def _rows(case: Mapping[str, Any]) -> Iterator[list[str]]:
    yield ["", "ms", "times as fast", "images/s", "MiB"]
    plain = next(iter(case["results"].values()))["whole"]["median"]
    for name, result in case["results"].items():
        ratio, rate = plain / result["whole"]["median"], result["images_per_second"]
        memory = _number(result["memory"])
        yield [name, times_text(result["whole"]), f"{ratio:.2f}", f"{rate:.2f}", memory]


def _part_rows(case: Mapping[str, Any]) -> Iterator[list[str]]:
    shown = {name: result["parts"] for name, result in case["results"].items() if result["parts"]}
    yield ["", *shown]
    for part in PARTS:
        yield [part, *(f"{1000 * parts[part]:.1f}" for parts in shown.values())]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
