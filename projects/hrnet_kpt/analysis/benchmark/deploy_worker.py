"""One model of the deployment benchmark, in a process of its own: what it finds in images, its times and its memory.

It reads a job as json from its standard input, and writes json. For exported files it imports only the runner, as a
server does, so that the memory is that of a server.
"""

import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from hrnet_kpt.memory import peak_memory

WARM_UP = 3  # calls


def load(job: dict[str, Any]) -> Callable[[str], list[dict[str, Any]]]:
    """Function of the path of an image: the objects in it."""
    if job["runtime"] == "pytorch":
        import torch

        from hrnet_kpt.config import load_config
        from hrnet_kpt.inference import Predictor

        torch.set_num_threads(job["threads"])
        cfg = load_config(job["config"], [f"inference.dtype={job['precision']}"])
        predictor = Predictor(cfg, job["weights"], "cpu")
        return lambda path: predictor(path).objects
    spec = importlib.util.spec_from_file_location("onnx_runner", job["runner"])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    providers = ["CPUExecutionProvider"] if job["runtime"] == "onnxruntime" else None
    options = {"runtime": job["runtime"], "precision": job["precision"]}
    return module.OnnxPredictor(job["file"], providers, job["threads"], **options)  # type: ignore[no-any-return]


def main() -> None:
    job = json.load(sys.stdin)
    start = time.perf_counter()
    predict = load(job)
    loading = time.perf_counter() - start
    for _ in range(WARM_UP):
        predict(job["images"][0])
    times, objects = [], []
    for path in job["images"]:
        start = time.perf_counter()
        objects.append(predict(path))
        times.append(time.perf_counter() - start)
    found = {"loading": loading, "seconds": statistics.median(times), "memory": peak_memory()}
    json.dump({**found, "objects": objects}, sys.stdout)


if __name__ == "__main__":
    main()
