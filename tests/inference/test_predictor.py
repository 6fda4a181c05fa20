"""The predictor gives the results of evaluation, for images of any kind."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from hrnet_kpt.config import load_config
from hrnet_kpt.data.schema import COCO_PERSON
from hrnet_kpt.engine import evaluate
from hrnet_kpt.inference import Predictor
from hrnet_kpt.inference.predictor import files_of_run
from hrnet_kpt.weights.run_checkpoints import newest_checkpoint


def same(a, b, tolerance=0.0):
    """Compare predictions; `tolerance` is in pixels, and of scores."""
    assert len(a) == len(b) and a.size == b.size
    fields_a, fields_b = a.instances.get_fields(), b.instances.get_fields()
    assert fields_a.keys() == fields_b.keys()
    for name in fields_a:
        values = [getattr(fields[name], "tensor", fields[name]) for fields in (fields_a, fields_b)]
        torch.testing.assert_close(*values, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def paths(synthetic_people):
    return sorted((synthetic_people / "test").glob("*.jpg"))


def test_results_are_those_of_evaluation(predictor, run_folder, synthetic_people):
    """The run's last evaluation wrote them, in COCO's format: box corner and size, and keypoints 0.5 px further up."""
    results = json.loads((run_folder / "inference" / "coco_instances_results.json").read_text())
    images = json.loads((synthetic_people / "test.json").read_text())["images"]
    assert len(images) == 4 and len(results) == 12
    for image in images:
        expected = [result for result in results if result["image_id"] == image["id"]]
        objects = predictor(synthetic_people / "test" / image["file_name"]).objects
        assert len(objects) == len(expected)
        for ours, theirs in zip(objects, expected, strict=True):
            x1, y1, x2, y2 = ours["box"]
            assert ours["class"] == "person"
            assert [x1, y1, x2 - x1, y2 - y1] == pytest.approx(theirs["bbox"], abs=1e-4)
            assert ours["score"] == pytest.approx(theirs["score"], abs=1e-4)
            points = np.array([ours["keypoints"][name] for name in COCO_PERSON.names])
            points[:, :2] -= 0.5
            assert points.ravel().tolist() == pytest.approx(theirs["keypoints"], abs=1e-4)


def expected_objects(results, annotations):
    """Boxes, scores and keypoints by file name, of COCO-format results: corner and size, and half a pixel less."""
    found = {image["file_name"]: [] for image in annotations["images"]}
    names = {image["id"]: image["file_name"] for image in annotations["images"]}
    for result in results:
        x, y, width, height = result["bbox"]
        points = np.array(result["keypoints"]).reshape(-1, 3) + np.array([0.5, 0.5, 0])
        found[names[result["image_id"]]].append(
            [x, y, x + width, y + height, result["score"], *points.ravel()]
        )
    return found


@pytest.mark.parametrize("score", ["box", "combined"])
def test_results_on_photographs_are_those_of_eval_only(run_folder, photographs, tmp_path, score):
    folder = photographs / "coco"
    cfg = load_config(
        str(run_folder / "config.yaml"),
        [
            f"data.test.annotations={folder / 'annotations.json'}",
            f"data.test.images={folder}",
            f"train.output_dir={tmp_path}",
            f"inference.instance_score={score}",
            f"train.init_checkpoint={run_folder / 'model_final.pth'}",
        ],
    )
    evaluate(cfg)
    results = json.loads((tmp_path / "inference" / "coco_instances_results.json").read_text())
    annotations = json.loads((folder / "annotations.json").read_text())
    predictor = Predictor(cfg, run_folder / "model_final.pth")
    total = 0
    for name, expected in expected_objects(results, annotations).items():
        objects = predictor(folder / name).objects
        found = [
            [*o["box"], o["score"], *np.array(list(o["keypoints"].values())).ravel()]
            for o in objects
        ]
        assert np.array(found) == pytest.approx(np.array(expected), abs=1e-4)
        total += len(found)
    assert total > 10


def test_keypoints_are_pooled_with_the_samples_of_inference(run_folder, paths):
    """Boxes are not; without a number of its own, inference has that of training."""
    more, trained, fewer = (load_config(str(run_folder / "config.yaml")) for _ in range(3))
    more.inference.keypoint_sampling_ratio = 3
    trained.model.roi_heads.keypoint_pooler.sampling_ratio = 3
    more, trained, fewer = (
        Predictor(cfg, run_folder / "model_final.pth")(paths[0]) for cfg in (more, trained, fewer)
    )
    same(more, trained)
    assert torch.equal(more.instances.pred_boxes.tensor, fewer.instances.pred_boxes.tensor)
    assert not torch.equal(more.instances.pred_keypoints, fewer.instances.pred_keypoints)


def test_kinds_of_images_give_the_same(predictor, paths):
    path = paths[0]
    expected = predictor(path)
    assert len(expected) == 3
    opened = Image.open(path)
    array = np.asarray(opened)
    for image in (str(path), opened, array, torch.tensor(array).permute(2, 0, 1)):
        same(predictor(image), expected)
    same(predictor(array[..., ::-1], color="BGR"), expected)
    reddish = predictor(array[..., ::-1])
    assert not torch.equal(reddish.instances.scores, expected.instances.scores)


def test_gray_images_and_those_with_an_alpha_channel_are_converted(predictor, paths):
    gray = Image.open(paths[0]).convert("L")
    expected = predictor(gray)
    same(predictor(np.asarray(gray)), expected)
    same(predictor(gray.convert("RGBA")), expected)


def test_list_gives_a_list_whatever_is_in_it(predictor, paths):
    sizes = [(96, 96), (50, 96), (96, 96), (96, 50), (50, 96)]
    images = [Image.open(paths[i % 4]).resize(size) for i, size in enumerate(sizes)]
    together = predictor(images)
    assert [p.size for p in together] == [(height, width) for width, height in sizes]
    for image, prediction in zip(images, together, strict=True):
        # In a batch, sums of another order.
        same(prediction, predictor(image), tolerance=1e-3)
    assert predictor([]) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (8000, 6000), (133, 8000)])
def test_any_size_works_and_results_are_in_its_pixels(predictor, size):
    width, height = size
    prediction = predictor(Image.new("RGB", size, (200, 90, 30)))
    assert prediction.size == (height, width)
    for found in prediction.objects:
        x1, y1, x2, y2 = found["box"]
        assert 0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height


def test_image_without_detections(run_folder, paths):
    predictor = Predictor.from_run(run_folder)
    predictor.model.roi_heads.box_predictor.test_score_thresh = 1.0
    prediction = predictor(paths[0])
    assert len(prediction) == 0 and prediction.objects == []
    assert prediction.instances.pred_keypoints.shape == (0, 17, 3)


def test_threads_get_the_same_as_one(predictor, paths):
    expected = [predictor(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(predictor, paths * 4))
    for i, prediction in enumerate(results):
        same(prediction, expected[i % 4])


def test_objects_are_serialized_to_json(predictor, paths):
    objects = predictor(paths[0]).objects
    assert json.loads(json.dumps(objects)) == objects
    assert list(objects[0]["keypoints"]) == list(COCO_PERSON.names)
    scores = [found["score"] for found in objects]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("image", "color", "named"),
    [
        ("https://example.org/a.jpg", "RGB", "https://example.org/a.jpg"),
        ("nowhere.jpg", "RGB", "nowhere.jpg"),
        (np.zeros((4, 4, 3)), "RGB", "float64"),
        (np.zeros((4, 4, 4), np.uint8), "RGB", "(4, 4, 4)"),
        (np.zeros((0, 4, 3), np.uint8), "RGB", "(0, 4, 3)"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), "RGB", "(4, 4, 3)"),
        (torch.zeros(3, 4, 4), "RGB", "float32"),
        (np.zeros((4, 4, 3), np.uint8), "rgb", "'rgb'"),
        ({"image": 3}, "RGB", "dict"),
        (np.zeros((1, 9000, 3), np.uint8), "RGB", "9000 x 1"),
    ],
)
def test_other_inputs_are_refused_in_one_line(predictor, image, color, named, refusal):
    assert named in refusal(predictor, image, color=color)


def test_weights_of_the_whole_model_are_needed(run_folder, tmp_path, refusal):
    cfg = load_config(str(run_folder / "config.yaml"))
    assert "weights" in refusal(Predictor, cfg, "")
    state = torch.load(run_folder / "model_final.pth")["model"]
    backbone = {name: value for name, value in state.items() if name.startswith("backbone.")}
    torch.save(backbone, tmp_path / "backbone.pth")
    assert "RPN, box head, keypoint head" in refusal(Predictor, cfg, tmp_path / "backbone.pth")


def test_run_predicts_without_its_initial_weights(run_folder, paths):
    cfg = load_config(str(run_folder / "config.yaml"), ["train.init_checkpoint=nowhere.pth"])
    same(
        Predictor(cfg, run_folder / "model_final.pth")(paths[0]),
        Predictor.from_run(run_folder)(paths[0]),
    )


def test_confidences_are_calibrated_by_the_evaluation_beside_the_weights(
    run_folder, paths, tmp_path
):
    shutil.copytree(run_folder, tmp_path / "run")
    path = tmp_path / "run" / "inference" / "evaluation.json"
    path.write_text(json.dumps({"calibration": {"slope": 2.0, "offset": 1.0}}))
    prediction = Predictor.from_run(tmp_path / "run")(paths[0])
    scores = prediction.instances.pred_keypoints[..., 2].numpy()
    assert prediction.confidences == pytest.approx(1 / (1 + np.exp(-1) / scores**2), abs=1e-6)
    found = prediction.objects[0]
    assert list(found["confidences"]) == list(found["keypoints"])
    assert found["confidences"]["nose"] == pytest.approx(prediction.confidences[0, 0])


def test_scores_of_box_and_keypoints_are_given_beside_the_score(run_folder, paths):
    cfg = load_config(str(run_folder / "config.yaml"), ["inference.instance_score=combined"])
    instances = Predictor(cfg, run_folder / "model_final.pth")(paths[0]).instances
    product = instances.box_scores * instances.keypoint_scores
    assert torch.equal(instances.scores, product)
    assert torch.equal(instances.scores, instances.scores.sort(descending=True).values)
    raw = instances.pred_keypoints[..., 2]
    torch.testing.assert_close(instances.keypoint_scores, raw.clamp(max=1).mean(dim=1))


def test_augmented_prediction_differs_and_has_the_same_fields(run_folder, predictor, paths):
    cfg = load_config(str(run_folder / "config.yaml"), ["inference.tta.enabled=true"])
    plain, augmented = predictor(paths[0]), Predictor(cfg, run_folder / "model_final.pth")(paths[0])
    assert augmented.size == plain.size and len(augmented)
    assert augmented.instances.get_fields().keys() == plain.instances.get_fields().keys()
    assert augmented.objects != plain.objects


def test_config_of_a_run_without_inference_node_predicts(run_folder, predictor, paths):
    """As older runs have saved it."""
    cfg = load_config(str(run_folder / "config.yaml"))
    del cfg["inference"]
    same(Predictor(cfg, run_folder / "model_final.pth")(paths[0]), predictor(paths[0]))


def test_folder_without_config_or_checkpoint_is_refused(tmp_path, run_folder, refusal):
    assert "config.yaml" in refusal(Predictor.from_run, tmp_path)
    shutil.copy(run_folder / "config.yaml", tmp_path)
    assert "checkpoint" in refusal(Predictor.from_run, tmp_path)


@pytest.mark.parametrize("damage", ["none", "last_checkpoint", "cut", "newer"])
def test_files_of_a_run_are_those_that_resume_takes(damage, run_folder, tmp_path):
    """After a crash, too: without last_checkpoint, with a file that is cut short, with a run that went on."""
    content = torch.load(run_folder / "model_final.pth", weights_only=True)
    (tmp_path / "config.yaml").write_text((run_folder / "config.yaml").read_text())
    for name in ("model_0000001.pth", "model_final.pth"):
        torch.save(
            {key: content[key] for key in ("model", "trainer", "iteration")}, tmp_path / name
        )
    (tmp_path / "last_checkpoint").write_text("model_final.pth")
    if damage == "last_checkpoint":
        (tmp_path / "last_checkpoint").unlink()
    if damage == "newer":
        shutil.copy(tmp_path / "model_final.pth", tmp_path / "model_0000009.pth")
        (tmp_path / "last_checkpoint").write_text("model_0000009.pth")
    if damage == "cut":
        whole = (tmp_path / "model_final.pth").read_bytes()
        (tmp_path / "model_final.pth").write_bytes(whole[: len(whole) // 2])
    expected = {"cut": "model_0000001.pth", "newer": "model_0000009.pth"}
    path, _ = newest_checkpoint(tmp_path)
    assert path.name == expected.get(damage, "model_final.pth")
    assert files_of_run(tmp_path) == (str(tmp_path / "config.yaml"), str(path))
