"""One export of a tiny model, and files of it."""

import onnx
import pytest
from detectron2.config import instantiate

from hrnet_kpt.config import load_config
from hrnet_kpt.inference.export.exporting import description, onnx_file
from hrnet_kpt.inference.export.tracing import module_of, to_onnx, trace


@pytest.fixture(scope="session")
def converted(predictor):
    """The detector of the run, as the exporter of torch writes it."""
    model = predictor.model
    module = module_of(model, "detector")
    return to_onnx(model, module, trace(model, module, "detector", 64))


@pytest.fixture(scope="session")
def exported(predictor, converted, tmp_path_factory):
    """Function of where pre- and postprocessing are: the path of a file."""
    folder = tmp_path_factory.mktemp("exported")

    def path(before="inside", after="inside"):
        path = folder / f"{before}_{after}.onnx"
        if not path.exists():
            info = description(predictor, "detector", before, after, "float32")
            onnx.save(onnx_file(predictor.model, converted, info), path)
        return path

    return path


@pytest.fixture
def tiny_model(tiny):
    """Function of overrides: a tiny model with weights by chance, of 2 classes at least, in eval mode."""

    def build(*overrides):
        cfg = load_config("hrnet_w18_small_kpt_synthetic.py", [*tiny, *overrides])
        return instantiate(cfg.model).eval()

    return build
