"""Exported detectors in onnxruntime give the predictor's results, without this package."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from PIL import Image

from hrnet_kpt.data.schema import COCO_PERSON
from hrnet_kpt.inference.onnx_runner import OnnxPredictor

# Nothing but numpy, onnxruntime and Pillow may be imported.
BLOCK = """
import sys
for name in ("torch", "torchvision", "detectron2", "hrnet_kpt", "onnx"):
    sys.modules[name] = None
"""


@pytest.fixture(params=["inside-inside", "inside-outside", "outside-inside", "outside-outside"])
def path(request, exported):
    return exported(*request.param.split("-"))


@pytest.fixture(scope="module")
def runner(exported):
    return OnnxPredictor(exported())


@pytest.fixture(scope="module")
def image(synthetic_people):
    path = min((synthetic_people / "test").glob("*.jpg"))
    return Image.open(path).convert("RGB")


@pytest.fixture
def threshold(predictor, monkeypatch):
    """Function that sets the threshold of the predictor."""
    return lambda value: monkeypatch.setattr(
        predictor.model.roi_heads.box_predictor, "test_score_thresh", value
    )


def same(found, expected):
    """Compare scores up to 1e-4, and positions up to 0.05 px, because of sums in another order."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys() and one["class"] == other["class"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
        assert one["box"] == pytest.approx(other["box"], abs=0.05)
        assert list(one["keypoints"]) == list(other["keypoints"])
        for name, (x, y, score) in other["keypoints"].items():
            assert one["keypoints"][name] == pytest.approx([x, y, score], abs=0.05)
            assert one["confidences"][name] == pytest.approx(other["confidences"][name], abs=1e-3)


# No size is the traced one.
@pytest.mark.parametrize("size", [(96, 96), (80, 60), (40, 96), (640, 481), (17, 90), (5, 5)])
def test_same_objects_as_the_predictor(predictor, path, image, size):
    image = image.resize(size)
    expected = predictor(image).objects
    assert len(expected) == 3
    same(OnnxPredictor(path, threads=1)(image), expected)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_none_one_and_many_by_the_threshold(predictor, path, image, threshold, count):
    scores = [found["score"] for found in predictor(image).objects]
    value = {0: 1.0, 1: (scores[0] + scores[1]) / 2, 3: 0.0}[count]
    threshold(value)
    expected = predictor(image).objects
    assert len(expected) == count
    same(OnnxPredictor(path)(image, score_threshold=value), expected)


def test_runner_of_the_package_imports_neither_torch_nor_detectron2(exported, image, tmp_path):
    """Nor anything else that is slow to import, with `hrnet_kpt` installed as a whole."""
    image.save(tmp_path / "image.png")
    code = """
import sys
from hrnet_kpt.inference.onnx_runner import OnnxPredictor
assert len(OnnxPredictor(sys.argv[1])(sys.argv[2], score_threshold=0.0)) == 3
print(*{name.partition(".")[0] for name in sys.modules if sys.modules[name]})
"""
    words = [sys.executable, "-c", code, exported(), tmp_path / "image.png"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    others = {*done.stdout.split()} - sys.stdlib_module_names
    assert {"hrnet_kpt", "numpy", "PIL", "onnxruntime"} <= others
    assert not others & {"torch", "torchvision", "detectron2", "matplotlib", "omegaconf", "yaml"}


SIZES = [
    (96, 96),
    (80, 60),
    (60, 80),
    (40, 96),
    (192, 192),
    (640, 481),
    (481, 640),
    (17, 90),
    (90, 17),
    (5, 5),
]


def openvino(repository, arguments):
    """Results of OnnxPredictor with OpenVINO, in a process of its own: its threads do not survive a fork of this one.

    arguments: path of the file, precision, paths of images or lists of them, and score thresholds.
    """
    code = """
import json, runpy
from concurrent.futures import ThreadPoolExecutor
module = runpy.run_path(sys.argv[1])
path, precision, images, thresholds = json.loads(sys.argv[2])
runner = module["OnnxPredictor"](path, threads=1, runtime="openvino", precision=precision)
with ThreadPoolExecutor(4) as pool:
    calls = [pool.submit(runner, image, score_threshold=t) for image in images for t in thresholds]
    print(json.dumps([call.result() for call in calls]))
"""
    source = repository / "projects" / "hrnet_kpt" / "inference" / "onnx_runner.py"
    return json.loads(run(code, source, json.dumps(arguments)))


@pytest.mark.parametrize("places", [("inside", "inside"), ("outside", "outside")])
def test_openvino_has_the_objects_of_onnxruntime(repository, exported, image, tmp_path, places):
    """In single precision, where onnxruntime resizes in double: some pixels differ by one of 255 levels."""
    path, thresholds, images = str(exported(*places)), [None, 0.0, 1.0], []
    for width, height in SIZES:
        images.append(str(tmp_path / f"{width}x{height}.png"))
        image.resize((width, height)).save(images[-1])
    plain = OnnxPredictor(path, threads=1)
    results = iter(openvino(repository, [path, "float32", images, thresholds]))
    for name in images:
        for threshold in thresholds:
            found, expected = next(results), plain(name, score_threshold=threshold)
            assert len(found) == len(expected) == (0 if threshold == 1.0 else 3)
            for one, two in zip(found, expected, strict=True):
                assert one["score"] == pytest.approx(two["score"], abs=1e-3)
                assert one["box"] == pytest.approx(two["box"], abs=0.5)
                apart = np.subtract(
                    list(one["keypoints"].values()), list(two["keypoints"].values())
                )
                assert (np.abs(apart[:, :2]).max(axis=1) < 0.5).mean() > 0.9


def test_batches_of_images_and_their_mirror_images(repository, mirrored, image, tmp_path):
    predictor, path = mirrored
    paths = []
    for number, size in enumerate([(96, 96), (80, 60), (96, 96), (5, 5)]):
        paths.append(str(tmp_path / f"{number}.png"))
        image.rotate(90 * number).resize(size).save(paths[-1])
    expected = [prediction.objects for prediction in predictor(paths)]
    assert min(map(len, expected)) > 1
    runner = OnnxPredictor(path)
    for found, wanted in zip(runner(paths), expected, strict=True):
        same(found, wanted)
    same(runner(paths[1]), expected[1])
    assert runner([]) == [] and runner(paths[:3], score_threshold=1.0) == [[], [], []]
    [found] = openvino(repository, [str(path), "float32", [paths], [None]])
    for ours, wanted in zip(found, expected, strict=True):
        assert [one["box"] for one in ours] == [
            pytest.approx(one["box"], abs=0.5) for one in wanted
        ]


def test_lists_of_images_in_a_file_for_one(runner, image):
    found = runner([image, image.resize((80, 60))])
    assert found == [runner(image), runner(image.resize((80, 60)))]


def test_openvino_in_half_precision(repository, exported, image, tmp_path):
    image.save(tmp_path / "image.png")
    arguments = [str(exported()), "bfloat16", [str(tmp_path / "image.png")], [None]]
    [found] = openvino(repository, arguments)
    expected = OnnxPredictor(exported())(image)
    assert len(found) == len(expected) == 3
    for one, other in zip(found, expected, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=0.05)


def test_unknown_runtimes_and_precisions(exported, refusal):
    for options, named in (
        ({"runtime": "tensorrt"}, "runtime='tensorrt'"),
        ({"precision": "int4"}, "precision='int4'"),
        ({"precision": "bfloat16"}, "precision='bfloat16'"),
    ):
        assert named in refusal(OnnxPredictor, exported(), **options)


def test_openvino_refuses_other_files(repository, tmp_path):
    (tmp_path / "text.onnx").write_text("no model")
    code = "import runpy; runpy.run_path(sys.argv[1])['OnnxPredictor'](sys.argv[2], runtime='openvino')"
    source = repository / "projects" / "hrnet_kpt" / "inference" / "onnx_runner.py"
    command = [sys.executable, "-c", BLOCK + code, str(source), str(tmp_path / "text.onnx")]
    last = subprocess.run(command, capture_output=True, text=True).stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: ") and "text.onnx" in last


def test_kinds_of_images(runner, image, tmp_path, monkeypatch, refusal):
    expected = runner(image)
    array = np.asarray(image)
    same(runner(array), expected)
    same(runner(array[..., ::-1], color="BGR"), expected)
    turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 270 degrees
    turned.save(tmp_path / "turned.png", exif=exif)
    same(runner(tmp_path / "turned.png"), expected)
    assert runner.info["image_range"] == "8-bit"
    gray = np.asarray(image.convert("L"))
    deep = Image.fromarray(gray.astype(np.uint16) * 257)
    assert str(257 * int(gray.max())) in refusal(runner, deep)
    monkeypatch.setitem(runner.info, "image_range", [0, 65535])
    same(runner(deep), runner(image.convert("L")))
    monkeypatch.setitem(runner.info, "image_range", [-1, 1])
    same(runner(Image.fromarray((gray / 127.5 - 1).astype(np.float32))), runner(image.convert("L")))


def test_metadata_of_the_file(runner, exported):
    info = runner.info
    assert info["keypoints"]["names"] == list(COCO_PERSON.names)
    assert info["classes"] == {"person": list(COCO_PERSON.names)}
    assert info["resize"] == {"short_edge": 96, "max_size": 96}
    assert ["left_eye", "right_eye"] in info["keypoints"]["flip_pairs"]
    model = onnx.load(exported())
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["image", "score_threshold"]
    names = [value.name for value in model.graph.output]
    assert names == ["boxes", "scores", "classes", "keypoints"]


@pytest.mark.parametrize(
    ("image", "color", "named"),
    [
        ("nowhere.jpg", "RGB", "nowhere.jpg"),
        (np.zeros((4, 4, 3)), "RGB", "float64"),
        (np.zeros((4, 4), np.uint8), "RGB", "(4, 4)"),
        (np.zeros((4, 4, 3), np.uint8), "rgb", "color='rgb'"),
        (np.zeros((1, 9000, 3), np.uint8), "RGB", "9000 x 1"),
        (3, "RGB", "int"),
    ],
)
def test_other_inputs_are_refused_in_one_line(runner, image, color, named, refusal):
    assert named in refusal(runner, image, color=color)


def test_other_files_are_refused_in_one_line(exported, tmp_path, refusal):
    (tmp_path / "text.onnx").write_text("no model")
    model = onnx.load(exported())
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    for name in ("nowhere.onnx", "text.onnx", "bare.onnx"):
        assert name in refusal(OnnxPredictor, tmp_path / name)


def run(code, *arguments):
    command = [sys.executable, "-c", BLOCK + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_runner_needs_nothing_of_this_package(repository, runner, exported, image, tmp_path):
    image.save(tmp_path / "image.png")
    code = """
import json, runpy
module = runpy.run_path(sys.argv[1])
print(json.dumps(module["OnnxPredictor"](sys.argv[2])(sys.argv[3])))
"""
    source = repository / "projects" / "hrnet_kpt" / "inference" / "onnx_runner.py"
    found = json.loads(run(code, source, exported("outside", "outside"), tmp_path / "image.png"))
    same(found, runner(image))


def test_example_prints_and_draws(repository, runner, exported, image, tmp_path):
    image.save(tmp_path / "image.png")
    code = "import runpy; runpy.run_path(sys.argv[1])['main'](sys.argv[2:])"
    script = repository / "docs" / "scripts" / "onnx_example.py"
    options = ["--output", tmp_path / "drawn.png", "--score-threshold", "0"]
    text = run(code, script, exported(), tmp_path / "image.png", *options)
    expected = runner(image)
    lines = [line for line in text.splitlines() if not line.startswith(" ")]
    assert len(lines) == len(expected) == 3
    first = [float(value) for value in lines[0].split(" at ")[1].split()]
    assert first == pytest.approx(expected[0]["box"], abs=0.06)
    assert text.count("left_eye") == 3
    drawn = Image.open(tmp_path / "drawn.png")
    assert drawn.size == image.size and drawn.tobytes() != image.tobytes()
    assert len(script.read_text().splitlines()) <= 60


def test_example_of_the_page_runs(
    repository, predictor, exported, image, tmp_path, monkeypatch, capsys
):
    page = (repository / "docs" / "deployment.md").read_text()
    [example] = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    image.save("photo.jpg")
    shutil.copy(exported(), "people.onnx")
    monkeypatch.syspath_prepend(repository / "projects" / "hrnet_kpt" / "inference")
    monkeypatch.delitem(sys.modules, "onnx_runner", raising=False)
    example = example.replace("score_threshold=0.5", "score_threshold=0.0")
    exec(compile(example, "deployment.md", "exec"), {})
    del sys.modules["onnx_runner"]
    lines = capsys.readouterr().out.splitlines()
    expected = predictor("photo.jpg").objects
    assert len(lines) == len(expected) == 3
    for line, found in zip(lines, expected, strict=True):
        word, score = line.split()[:2]
        assert word == found["class"] and float(score) == pytest.approx(found["score"], abs=1e-3)
