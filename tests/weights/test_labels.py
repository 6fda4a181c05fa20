"""Checkpoints hold the names of keypoints and classes: rows are selected by name, in any order of the data."""

import json

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hrnet_kpt.cli.convert_weights import convert_files
from hrnet_kpt.config import load_config
from hrnet_kpt.config.checks.resume import check_resume
from hrnet_kpt.config.resolve import labels_of_config
from hrnet_kpt.engine import evaluate
from hrnet_kpt.engine.run_state import RunState
from hrnet_kpt.inference import Predictor
from hrnet_kpt.weights import load_weights
from hrnet_kpt.weights.labels import match_rows, select_classes, select_keypoints
from hrnet_kpt.weights.read import read_checkpoint

CLASSES = ["cat", "dog", "horse"]
KEYPOINTS = ["nose", "tail", "left ear", "right ear"]
some_names = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=6, unique=True)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), theirs=some_names, others=some_names)
def test_each_name_gets_its_own_row_or_stays(data, theirs, others):
    """Numbered rows: of the file its indices, of the model negative numbers."""
    ours = data.draw(st.permutations(list(dict.fromkeys(theirs + others))))
    ours = ours[: data.draw(st.integers(1, len(ours)))]
    common = [name for name in ours if name in theirs]
    rows, clause = match_rows("keypoints", theirs, ours, strict=False)
    if rows is None:
        assert list(theirs) == ours or not common
        return
    assert clause
    expected = [theirs.index(name) if name in theirs else -1 - i for i, name in enumerate(ours)]
    head = "roi_heads.keypoint_head.score_lowres."
    count = torch.arange(len(theirs)).float()
    own = -1 - torch.arange(len(ours)).float()
    tensors = {
        head + "weight": count[None, :, None, None].expand(2, -1, 4, 4),
        head + "bias": count,
    }
    select_keypoints(
        tensors,
        rows,
        {head + "weight": own[None, :, None, None].expand(2, -1, 4, 4), head + "bias": own},
    )
    assert tensors[head + "bias"].tolist() == expected
    assert (tensors[head + "weight"] == torch.tensor(expected)[None, :, None, None]).all()

    box, background = "roi_heads.box_predictor.", torch.tensor([99.0])
    tensors = {
        box + "cls_score.weight": torch.cat([count, background])[:, None],
        box + "bbox_pred.bias": count.repeat_interleave(4),
        "roi_heads.mask_head.predictor.bias": count,
    }
    model = {
        box + "cls_score.weight": torch.cat([own, background])[:, None],
        box + "bbox_pred.bias": own.repeat_interleave(4),
        "roi_heads.mask_head.predictor.bias": own,
    }
    select_classes(tensors, rows, model)
    assert tensors[box + "cls_score.weight"][:, 0].tolist() == [*expected, 99]
    assert tensors[box + "bbox_pred.bias"].unflatten(0, (-1, 4)).T.tolist() == [expected] * 4
    assert tensors["roi_heads.mask_head.predictor.bias"].tolist() == expected


@pytest.fixture
def trained(detector):
    """A detector of three classes and four keypoints, and the content of its checkpoint."""
    torch.manual_seed(0)
    model = detector(3, keypoints=4, norm="BN")
    for parameter in model.roi_heads.parameters():
        nn.init.normal_(parameter, std=0.1)
    labels = {"keypoints": KEYPOINTS, "classes": {name: KEYPOINTS for name in CLASSES}}
    return model, {"model": model.state_dict(), "labels": labels}


def outputs(model, regions):
    heads = model.roi_heads
    with torch.no_grad():
        scores, deltas = heads.box_predictor(heads.box_head(regions))
        return (
            scores,
            deltas.unflatten(1, (-1, 4)),
            heads.mask_head.layers(regions),
            heads.keypoint_head.layers(regions),
        )


@pytest.mark.parametrize(
    ("place", "whole"),
    [("checkpoint", True), ("config.yaml", True), ("safetensors", False)],
)
def test_other_order_gives_the_same_by_name(
    place, whole, trained, detector, regions, write, tmp_path
):
    model, content = trained
    labels = content["labels"]
    if place == "config.yaml":  # of runs before checkpoints had names
        content = {"model": content["model"]}
        data = {
            "keypoints": {"_target_": "x", "names": labels["keypoints"]},
            "classes": labels["classes"],
        }
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": data}, sort_keys=False))
    path = write(content)
    if place == "safetensors":
        convert_files([path], str(tmp_path / "w.safetensors"))
        path = str(tmp_path / "w.safetensors")
        assert read_checkpoint(tmp_path / "w.safetensors")[1].to_dict() == labels
    classes, keypoints = [2, 0, 1], [3, 1, 0, 2]
    other = detector(3, keypoints=4, norm="BN")
    loaded = load_weights(
        other,
        path,
        whole=whole,
        classes=[CLASSES[i] for i in classes],
        keypoints=[KEYPOINTS[i] for i in keypoints],
    )
    assert [clause.split()[0] for clause in loaded.conversion.clauses] == ["classes", "keypoints"]
    found, expected = outputs(other, regions), outputs(model, regions)
    assert torch.equal(found[0], expected[0][:, [*classes, 3]])
    assert torch.equal(found[1], expected[1][:, classes])
    assert torch.equal(found[2], expected[2][:, classes])
    assert torch.equal(found[3], expected[3][:, keypoints])


def test_other_names(trained, detector, write, refusal):
    _, content = trained
    path = write(content)
    same = {"classes": CLASSES, "keypoints": KEYPOINTS}
    # One keypoint goes by another name.
    differing = same | {"keypoints": ["nose", "tail", "left ear", "right eye"]}
    for whole in (True, False):
        model = detector(3, keypoints=4, norm="BN")
        message = refusal(load_weights, model, path, whole=whole, **differing)
        assert "right ear" in message and "right eye" in message and "nose" not in message
    model = detector(3, keypoints=4, norm="BN")
    head = model.roi_heads.keypoint_head.score_lowres
    begun = head.weight.detach().clone()
    load_weights(model, path, strict=False, **differing)
    theirs = content["model"]["roi_heads.keypoint_head.score_lowres.weight"]
    assert torch.equal(head.weight[:, :3], theirs[:, :3])
    assert torch.equal(head.weight[:, 3], begun[:, 3])
    # All of other names: a transfer to other things, row by row; no evaluation.
    renamed = {"classes": ["a", "b", "c"], "keypoints": ["1", "2", "3", "4"]}
    load_weights(model, path, **renamed)
    assert torch.equal(head.weight, theirs)
    assert "cat" in refusal(load_weights, model, path, whole=True, **renamed)
    # Fewer: those are taken.
    fewer = detector(1, keypoints=2, norm="BN")
    load_weights(fewer, path, classes=["horse"], keypoints=["right ear", "nose"])
    assert torch.equal(fewer.roi_heads.keypoint_head.score_lowres.weight, theirs[:, [3, 0]])
    scores = content["model"]["roi_heads.box_predictor.cls_score.bias"]
    assert torch.equal(fewer.roi_heads.box_predictor.cls_score.bias, scores[[2, 3]])


@pytest.fixture(scope="module")
def other_order(run_folder, synthetic_people, tmp_path_factory):
    """A json whose ground truth is the run's predictions, with its keypoints in another order."""
    content = json.loads((synthetic_people / "test.json").read_text())
    [category] = content["categories"]
    count = len(category["keypoints"])
    order = [(5 * i + 3) % count for i in range(count)]
    assert sorted(order) == list(range(count)) != order
    category["keypoints"] = [category["keypoints"][i] for i in order]
    category["skeleton"] = []
    assert not category.get("sigmas")  # they follow from the names
    results = json.loads((run_folder / "inference" / "coco_instances_results.json").read_text())
    content["annotations"] = []
    for number, result in enumerate(results, 1):
        points = [[*result["keypoints"][3 * i : 3 * i + 2], 2] for i in order]
        _, _, width, height = result["bbox"]
        ids = {"id": number, "image_id": result["image_id"], "category_id": category["id"]}
        points = {"keypoints": [v for point in points for v in point], "num_keypoints": count}
        box = {"bbox": result["bbox"], "area": width * height, "iscrowd": 0}
        content["annotations"].append(ids | points | box)
    path = tmp_path_factory.mktemp("order") / "test.json"
    path.write_text(json.dumps(content))
    return path


def in_other_order(run_folder, path, output):
    return load_config(
        str(run_folder / "config.yaml"),
        [
            f"data.test.annotations={path}",
            "data.keypoints=auto",
            "data.classes=auto",
            f"train.output_dir={output}",
            f"train.init_checkpoint={run_folder / 'model_final.pth'}",
        ],
    )


def test_evaluation_on_a_json_of_another_order_scores_the_same(run_folder, other_order, tmp_path):
    """The README's `--eval-only train.init_checkpoint=model_final.pth` finds the ground truth."""
    scores = evaluate(in_other_order(run_folder, other_order, tmp_path))
    assert scores["keypoints"]["AP"] > 95


@pytest.mark.slow
def test_predictor_of_another_config_finds_the_same_by_name(
    run_folder, other_order, synthetic_people, tmp_path
):
    cfg = in_other_order(run_folder, other_order, tmp_path)
    image = next((synthetic_people / "test").glob("*.jpg"))
    found, expected = (
        Predictor(config, run_folder / "model_final.pth")(image).objects
        for config in (cfg, load_config(str(run_folder / "config.yaml")))
    )
    assert list(found[0]["keypoints"]) != list(expected[0]["keypoints"])
    for ours, theirs in zip(found, expected, strict=True):
        for name, point in theirs["keypoints"].items():
            assert ours["keypoints"][name] == pytest.approx(point, abs=1e-4)


def test_resumed_run_keeps_its_order(run_folder, other_order, refusal):
    """Because the optimizer's momenta have it, too."""
    cfg = in_other_order(run_folder, other_order, run_folder)
    errors = [f for f in check_resume(cfg, None) if f.level == "error"]
    assert [(f.name, f.keys) for f in errors] == [("resume-differs", ("data.keypoints",))]
    state = RunState(run_folder, None, 0, 1, labels_of_config(cfg))
    content = torch.load(run_folder / "model_final.pth", weights_only=True)
    assert "nose" in refusal(state.restore, run_folder / "model_final.pth", content)


@pytest.mark.slow
def test_converted_weights_have_the_names_of_their_config(run_folder, tmp_path):
    output = tmp_path / "w.pth"
    convert_files(
        [str(run_folder / "model_final.pth")],
        str(output),
        config_file=str(run_folder / "config.yaml"),
    )
    cfg = load_config(str(run_folder / "config.yaml"))
    _, labels = read_checkpoint(output)
    assert labels.keypoints == list(cfg.data.keypoints.names)
    assert labels.to_dict()["classes"] == {"person": labels.keypoints}
    assert torch.load(output, weights_only=True)["labels"] == labels.to_dict()
    # A backbone alone has no labels.
    bottom_up = {
        k: v for k, v in torch.load(output)["model"].items() if k.startswith("backbone.bottom_up.")
    }
    torch.save(bottom_up, tmp_path / "bottom_up.pth")
    convert_files(
        [str(tmp_path / "bottom_up.pth")], str(output), config_file=str(run_folder / "config.yaml")
    )
    assert read_checkpoint(output)[1] is None


@pytest.mark.parametrize(
    "labels",
    [3, [], {}, {"keypoints": "nose"}, {"keypoints": [1], "classes": {}}, {"classes": ["a"]}, {"classes": {"a": 1}}],
)  # fmt: skip
def test_something_else_under_that_key_is_ignored(labels, tmp_path):
    torch.save({"model": {"w": torch.ones(1)}, "labels": labels}, tmp_path / "w.pth")
    assert read_checkpoint(tmp_path / "w.pth")[1] is None
