"""Measure the configs of MODEL_ZOO.md, and print a row of its tables for each.

python docs/scripts/model_zoo.py [NAME...]

Parameters include batch norms. Multiply-accumulates are for an image of 800 x 1333 with 1000 proposals and 100
detections. Times are for an image of 800 x 1216 with 1000 proposals and 10 detections, plain and optimized, the min of
two. Memory is the peak of the optimized model beyond its weights. Run nothing else on the machine meanwhile.
"""

import sys
from pathlib import Path

import torch
from detectron2.config import instantiate

from hrnet_kpt.analysis.benchmark.models import calm_init, limit_detections
from hrnet_kpt.analysis.benchmark.timing import peak_memory, seconds
from hrnet_kpt.analysis.inspect.structure import count_flops
from hrnet_kpt.config import load_config
from hrnet_kpt.inference import optimize_for_inference
from hrnet_kpt.memory import keep_freed_memory

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CPU = torch.device("cpu")


def row(name):
    cfg = load_config(name)
    with torch.device("meta"):
        model = instantiate(cfg.model)
        image = torch.zeros(1, 3, 832, 1344)
    affine = [b for n, b in model.named_buffers() if n.endswith((".weight", ".bias"))]
    parameters = sum(t.numel() for t in [*model.parameters(), *affine]) / 1e6
    flops = []
    count_flops(model, image, flops)
    macs = sum(part["macs"] for part in flops) / 1e9

    torch.manual_seed(0)
    model = instantiate(cfg.model).eval()
    calm_init(model)
    limit_detections(model, 10)
    pixels = torch.randint(0, 256, (3, 800, 1216), dtype=torch.uint8)
    inputs = [{"image": pixels, "height": 800, "width": 1216}]
    keep_freed_memory()
    times = []
    for measured in (model, optimize_for_inference(model)):

        def work(measured=measured):
            with torch.inference_mode():
                measured(inputs)

        work()
        times.append(min(seconds(work, CPU) for _ in range(2)))
    memory = peak_memory(work, CPU)
    return f"| `{name}` | {parameters:.1f} | {macs:.0f} | {times[0]:.2f} | {times[1]:.2f} | {memory:.0f} |"


def main(names):
    for name in names or sorted(path.name for path in CONFIGS.glob("*.py")):
        print(row(name), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
