"""Apple's GPUs, without one: torch has kernels for all operators that training and prediction use, and no float64."""

from pathlib import Path

import pytest
import torch
import torchgen
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances, Keypoints, PolygonMasks
from detectron2.utils.events import EventStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchgen.gen import parse_native_yaml
from torchgen.model import DispatchKey

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import trainer
from hrnet_kpt.inference.build import inference_model

SCRATCH = ["train.init_checkpoint=", "model.backbone.bottom_up.norm=BN"]
FEW = ["model.proposal_generator.pre_nms_topk=[20,20]", "model.roi_heads.batch_size_per_image=8"]
# torchvision/csrc/ops/mps; the second kind are marks for the profiler.
OTHERS = {"torchvision::nms", "torchvision::roi_align", "torchvision::_roi_align_backward",
          "profiler::_record_function_enter_new", "profiler::_record_function_exit._RecordFunction"}  # fmt: skip


class Recorder(TorchDispatchMode):
    """Records the operators, those of the backward pass too, and the types of their tensors."""

    def __init__(self):
        super().__init__()
        self.used = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        schema = function._schema
        name = ".".join(filter(None, (schema.name, schema.overload_name)))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        self.used.setdefault(name, set()).update(x.dtype for x in tensors)
        return result


@pytest.fixture(scope="module")
def has_kernel():
    """Function of an operator's name: whether torch has a kernel for it on MPS, or makes it of others."""
    folder = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native"
    table = parse_native_yaml(str(folder / "native_functions.yaml"), str(folder / "tags.yaml"))
    functions = {f"aten::{function.func.name}": function for function in table.native_functions}
    mps = table.backend_indices[DispatchKey.MPS]

    def has_kernel(name):
        function = functions[name]
        if function.structured_delegate is not None:
            function = functions[f"aten::{function.structured_delegate}"]
        return function.has_composite_kernel or mps.has_kernel(function)

    return has_kernel


def sample(model):
    """An image of 64 pixels with two objects that have what the model has heads for."""
    objects = Instances((64, 64))
    objects.gt_boxes = Boxes(torch.tensor([[4.0, 4, 40, 60], [20, 8, 60, 50]]))
    objects.gt_classes = torch.zeros(2, dtype=torch.int64)
    keypoints = torch.rand(2, 17, 3) * 20 + 20
    keypoints[..., 2] = 2
    if getattr(model.roi_heads, "keypoint_on", False):
        objects.gt_keypoints = Keypoints(keypoints)
    if model.roi_heads.mask_on:
        objects.gt_masks = PolygonMasks([[box.numpy()] for box in keypoints[:, :3, :2].flatten(1)])
    return {"image": torch.zeros(3, 64, 64, dtype=torch.uint8), "instances": objects}


@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        ("hrnet_w18_small_kpt_synthetic.py", ["inference.keypoint_decoding=dark"]),
        ("hrnet_w18_small_kpt_synthetic.py", ["inference.tta.enabled=true"]),
        pytest.param("hrnet_w18_mask_kpt.py", SCRATCH, marks=pytest.mark.slow),
        pytest.param("hrnet_w18_cascade.py", SCRATCH, marks=pytest.mark.slow),
    ],
    ids=["keypoints", "tta", "masks", "cascade"],
)
def test_operators_of_a_step_and_a_prediction_have_kernels(config, overrides, has_kernel, shallow):
    cfg = shallow(load_config(config, [*overrides, *FEW]))
    torch.manual_seed(0)
    model = instantiate(cfg.model)
    optimizer = torch.optim.AdamW(model.parameters())
    with EventStorage(), Recorder() as step:
        losses = model([sample(model)] * 2)
        trainer._numbers(losses)
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        torch.nn.utils.clip_grad_value_(model.parameters(), 1.0)
        optimizer.step()
    predictors = model.roi_heads.box_predictor
    for predictor in predictors if isinstance(predictors, torch.nn.ModuleList) else [predictors]:
        predictor.test_score_thresh = 0.0
    with Recorder() as prediction, torch.no_grad():
        (found,) = inference_model(cfg, model.eval())([{"image": sample(model)["image"]}])
    assert len(found["instances"])
    used = {*step.used, *prediction.used}
    assert len(used) > 80
    assert [name for name in sorted(used - OTHERS) if not has_kernel(name)] == []
    assert [name for name, types in step.used.items() if torch.float64 in types] == []
