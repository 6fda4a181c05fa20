"""int8: parts that change the objects stay in float32."""

import itertools
import json
import shutil

import numpy as np
import onnx
import pytest

from hrnet_kpt.inference.export import ExportError, quantize
from hrnet_kpt.inference.export.quantize import Agreement, agreement, layers_by_part
from hrnet_kpt.inference.onnx_runner import OnnxPredictor


@pytest.fixture
def file(exported, tmp_path, monkeypatch):
    """A copy of the exported detector, which has random weights: its scores are below SURE."""
    monkeypatch.setattr(quantize, "SURE", 0.0)
    monkeypatch.setattr(quantize, "IMAGES", 3)
    return shutil.copy(exported(), tmp_path / "people.onnx")


@pytest.fixture
def images(synthetic_people):
    return [str(path) for path in sorted((synthetic_people / "train").glob("*.jpg"))]


def weights_of(model, parts):
    """The dtypes of the weights of each part's layers."""
    stored = {value.name: value.data_type for value in model.graph.initializer}
    made_by = {node.output[0]: node for node in model.graph.node}
    nodes = {node.name: node for node in model.graph.node}
    found = {}
    for part, names in parts.items():
        for weight in (nodes[name].input[1] for name in names):
            name = made_by[weight].input[0] if weight in made_by else weight
            found.setdefault(part, set()).add(onnx.TensorProto.DataType.Name(stored[name]))
    return found


def test_parts_that_keep_the_objects_are_quantized(file, images, monkeypatch):
    monkeypatch.setattr(quantize, "LOWEST", 0.5)
    before, parts = OnnxPredictor(file), layers_by_part(onnx.load(file))
    losses = iter([0.99, 0.99, 0.5, 0.99, 0.99, 0.8])  # of the parts, and of all of them
    monkeypatch.setattr(quantize, "agreement", lambda *_: Agreement(next(losses), 1.0))
    report = quantize.quantize(file, images)
    assert [line.split()[0] for line in report[1:6]] == list(parts)
    [kept] = [line for line in report if "stays in float32" in line]
    left = kept.split()[0]
    model = onnx.load(file)
    onnx.checker.check_model(model)
    types = weights_of(model, parts)
    assert left == "rpn" and types.pop(left) == {"FLOAT"}
    assert all(kinds == {"INT8"} for kinds in types.values())
    after = OnnxPredictor(file)
    assert after.info == {**before.info, "dtype": "int8", "float32_parts": ["rpn"]}
    for image in images[:3]:
        found = after(image, score_threshold=0.0)
        assert np.isfinite([one["box"] for one in found]).all() and len(found) == 3


def test_nothing_is_written_where_no_part_can_be_quantized(file, images, monkeypatch):
    monkeypatch.setattr(quantize, "LIMIT", 1.1)
    content = file.read_bytes()
    with pytest.raises(ExportError, match="bottom_up"):
        quantize.quantize(file, images)
    assert file.read_bytes() == content
    monkeypatch.setattr(quantize, "SURE", 1.1)
    with pytest.raises(ExportError, match="nothing"):
        quantize.quantize(file, images)


def test_every_layer_belongs_to_a_part(exported):
    model = onnx.load(exported())
    weights = {value.name for value in model.graph.initializer}
    layers = [
        node.name
        for node in model.graph.node
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") and node.input[1] in weights
    ]
    parts = layers_by_part(model)
    assert sorted(itertools.chain(*parts.values())) == sorted(layers)
    assert list(parts) == ["bottom_up", "neck", "rpn", "box_head", "keypoint_head"]


def test_agreement():
    one = {"class": "a", "score": 0.9, "box": [0, 0, 10, 10], "keypoints": {"x": [1, 1, 0]}}
    moved = {**one, "box": [0, 0, 10, 5], "keypoints": {"x": [1.4, 1.3, 0]}}  # by 0.5 of 10
    assert agreement([[one]], [[moved]]) == Agreement(0.5, 1.0)
    moved["keypoints"] = {"x": [1.4, 1.31, 0]}
    assert agreement([[one]], [[moved]]) == Agreement(0.5, 0.0)
    assert agreement([[one], [one]], [[], [one]]) == Agreement(0.5, 0.5)
    assert agreement([[one]], [[{**one, "class": "b"}]]) == Agreement(0.0, 0.0)
    unsure = {**one, "score": 0.4}
    bare = {key: one[key] for key in ("class", "score", "box")}
    assert agreement([[bare, unsure]], [[bare]]) == Agreement(1.0, 1.0)
    assert json.dumps(agreement([[one]], [[one]])) == "[1.0, 1.0]"
