"""The device of these tests, the number of times that a GPU is waited for, and small detectors.

They run on a GPU if there is one, otherwise on the CPU; with HRNET_KPT_TEST_DEVICE=cpu always on the CPU.
"""

import copy
import os
import warnings
from contextlib import contextmanager

import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from torch.overrides import TorchFunctionMode

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import train

DEVICE = os.environ.get("HRNET_KPT_TEST_DEVICE", "cuda" if torch.cuda.is_available() else "cpu")
PAGE = "hrnet_w18_small_kpt_synthetic.py"


@pytest.fixture(scope="session")
def device():
    return torch.device(DEVICE)


@pytest.fixture(scope="session")
def cuda(device):
    """The GPU, for what no CPU has."""
    if device.type != "cuda":
        pytest.skip("needs a GPU")
    return device


@pytest.fixture(scope="module", autouse=True)
def compiled_only_on_gpus():
    """Let compiled models run as they are on a CPU: a compilation takes longer than all other tests."""
    with torch.compiler.set_stance("force_eager" if DEVICE == "cpu" else "default"):
        yield


@pytest.fixture(scope="session", autouse=True)
def whole_float32():
    """No TF32 in convolutions: it has 11 bits, and a CPU has 24."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.backends.cudnn, "allow_tf32", False)
        yield


class CountReads(TorchFunctionMode):
    """Counts, on a CPU, the calls that wait for a GPU where tensors are on one."""

    READS = frozenset(
        (
            "__bool__",
            "__float__",
            "__index__",
            "__int__",
            "cpu",
            "item",
            "nonzero",
            "numpy",
            "tolist",
        )
    )

    def __init__(self):
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        self.count += name in self.READS or (
            name in ("__getitem__", "__setitem__") and is_copied_or_counted(args[1])
        )
        return func(*args, **(kwargs or {}))


def is_copied_or_counted(index):
    """Whether an index has a list, which is copied to the GPU, or a mask, whose elements are counted."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(
        isinstance(part, list) or (isinstance(part, torch.Tensor) and part.dtype is torch.bool)
        for part in parts
    )


@pytest.fixture(scope="session")
def count_waits(device):
    """Context manager of a function that returns how often the CPU has waited for the GPU in the block so far."""

    @contextmanager
    def on_gpu():
        torch.cuda.synchronize()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield lambda: sum("synchronizing" in str(one.message) for one in caught)
            finally:
                torch.cuda.set_sync_debug_mode("default")

    @contextmanager
    def on_cpu():
        with CountReads() as mode:
            yield lambda: mode.count

    return on_gpu if device.type == "cuda" else on_cpu


@pytest.fixture(scope="session")
def one_wait(device, count_waits):
    """What count_waits counts for one number that is read."""
    number = torch.ones(1, device=device)
    number.tolist()
    with count_waits() as count:
        number.tolist()
        return count()


@pytest.fixture(scope="session")
def tiny_cfg(tiny_overrides, tmp_path_factory):
    """The config of a detector that samples all anchors and regions, so that nothing hangs on random numbers."""
    options = [
        "model.backbone.bottom_up.num_modules=[1,1,1,1]",
        "model.backbone.bottom_up.norm=BN",
        "model.proposal_generator.batch_size_per_image=4000",
        "model.roi_heads.batch_size_per_image=512",
        "model.roi_heads.box_predictor.test_score_thresh=0.0",
    ]
    return load_config(PAGE, [*tiny_overrides(tmp_path_factory.mktemp("gpu")), *options])


@pytest.fixture(scope="session")
def samples(tiny_cfg):
    """A batch of two images with their instances."""
    return next(iter(instantiate(tiny_cfg.copy().dataloader.train)))


@pytest.fixture(scope="session")
def trained_detector(tiny_cfg):
    """Function of a device: a detector in training mode, the same on each.

    Its proposals are always the same: rounding would decide between proposals of like score.
    """
    torch.manual_seed(0)
    detector = instantiate(tiny_cfg.model).train()

    def build(device):
        model = copy.deepcopy(detector).to(device)

        def proposals(anchors, logits, deltas, sizes):
            corners = torch.cartesian_prod(torch.arange(0.0, 60, 12), torch.arange(0.0, 60, 12))
            boxes = Boxes(torch.cat([corners, corners + 36], dim=1).to(device))
            scores = torch.zeros(len(boxes), device=device)
            return [Instances(s, proposal_boxes=boxes, objectness_logits=scores) for s in sizes]

        model.proposal_generator.predict_proposals = proposals
        return model

    return build


@pytest.fixture(scope="session")
def detector(tiny_cfg):
    """Function of a device: a detector in evaluation mode, the same on each, whose scores are far apart."""
    torch.manual_seed(0)
    model = instantiate(tiny_cfg.model)
    with torch.no_grad():  # statistics, so that features neither vanish nor overflow
        model.train().backbone(torch.randn(2, 3, 96, 96))
    model.roi_heads.box_predictor.cls_score.weight.data *= 30
    model.eval()
    return lambda device: copy.deepcopy(model).to(device)


@pytest.fixture(scope="session")
def gpu_run(device, tiny_overrides, tmp_path_factory):
    """The run folder of a training in float16 with loss scaling, of two iterations, on the device; bfloat16 on a CPU.

    With three detections in every image.
    """
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = [f"train.device={device}", "train.amp.enabled=true", "train.amp.dtype=float16"]
    options += ["model.roi_heads.box_predictor.test_score_thresh=0.0", "train.max_iter=2"]
    with pytest.MonkeyPatch.context() as patch:  # they take half of the time
        patch.setattr("hrnet_kpt.engine.training.write_run_images", lambda *_: None)
        patch.setattr("black.format_str", lambda source, mode: source)
        train(load_config(PAGE, [*tiny_overrides(folder), *options]))
    return folder


@pytest.fixture(scope="session")
def assert_near():
    """Function of keypoints (N x K x 3 or 4; x, y, ..., score) and expected ones: within 1e-3 pixels.

    Rounding decides between pixels of all but the same value, in one of a hundred keypoints at most.
    """

    def check(found, expected, tolerance=1e-3):
        found, expected = found.cpu(), expected.cpu()
        assert found.shape == expected.shape
        torch.testing.assert_close(found[..., -1], expected[..., -1], rtol=1e-3, atol=1e-4)
        far = (found[..., :2] - expected[..., :2]).abs().amax(dim=-1) > tolerance
        assert far.sum() <= max(1, far.numel() // 100)

    return check
