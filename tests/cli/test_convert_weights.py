"""The convert-weights command: files, output, and errors in one line."""

import os
import pickle
import re

import pytest
import timm
import torch
from detectron2.config import instantiate

from hrnet_kpt.cli.convert_weights import main
from hrnet_kpt.config import load_config
from hrnet_kpt.modeling import HRNet
from hrnet_kpt.weights import load_weights

SMALL = (16, 32, (1, 1, 1, 1), (1, 2, 2, 2))
PAGE = "hrnet_w18_small_kpt_synthetic.py"
STEM = ["model.backbone.bottom_up.stem_channels=64"]  # as in the files of others


class Trap:
    def __reduce__(self):
        return os.system, ("exit 1",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of weights: an HRNet of timm, one of another size, pickles of heads, and a text file."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(timm.create_model("hrnet_w18_small").state_dict(), folder / "imagenet.pth")
    torch.save(HRNet(18, 64, (1, 1, 3, 2), (2, 2, 2, 2)).state_dict(), folder / "v2.pth")
    model = instantiate(load_config(PAGE, STEM).model)
    heads = {k: v.numpy() for k, v in model.state_dict().items() if not k.startswith("backbone.")}
    heads["backbone.fpn_lateral2.weight"] = torch.zeros(4, 4, 1, 1).numpy()
    with (folder / "zoo.pkl").open("wb") as file:
        pickle.dump({"model": heads, "__author__": "somebody"}, file)
    with (folder / "trap.pkl").open("wb") as file:
        pickle.dump({"model": heads, "x": Trap()}, file)
    (folder / "text.pth").write_text("no weights")
    return folder


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_bottom_up_of_timm_is_converted(folder, tmp_path, capsys, suffix):
    output = tmp_path / f"bottom_up{suffix}"
    assert main(["--input", str(folder / "imagenet.pth"), "--output", str(output)]) == 0
    lines, errors = capsys.readouterr()
    assert errors == ""
    for words in ("HRNet-W18-small-v1: 355 of 355 ", "timm", "model.input_format=RGB"):
        assert words in lines
    model = instantiate(load_config(PAGE, STEM).model)
    load_weights(model, output)
    expected = torch.load(folder / "imagenet.pth")
    for name, value in model.backbone.bottom_up.state_dict().items():
        assert torch.equal(value, expected[name])


def test_two_files_are_joined_and_fit_the_config(folder, tmp_path, capsys):
    output = tmp_path / "joined.safetensors"
    inputs = [str(folder / "imagenet.pth"), str(folder / "zoo.pkl")]
    config = ["--config-file", PAGE, *STEM, "model.backbone.bottom_up.norm=FrozenBN"]
    assert main(["--input", *inputs, "--output", str(output), *config]) == 0
    assert "RPN, box head, keypoint head from detectron2" in capsys.readouterr().out
    model = instantiate(load_config(PAGE, config[2:]).model)
    assert load_weights(model, output).absent == ["neck"]


def test_the_first_file_has_priority(folder, tmp_path):
    other = tmp_path / "other.pth"
    torch.save(HRNet(*SMALL).state_dict(), other)
    output = tmp_path / "first.pth"
    arguments = ["--input", str(folder / "imagenet.pth"), str(other), "--output", str(output)]
    assert main(arguments) == 0
    first = torch.load(folder / "imagenet.pth")["conv1.weight"]
    assert torch.equal(torch.load(output)["model"]["backbone.bottom_up.conv1.weight"], first)


def test_classes_and_keypoints_are_those_of_the_config(folder, tmp_path):
    """Five of COCO's keypoints in another order, selected by name."""
    names = ["right_ankle", "nose", "left_wrist", "left_eye", "right_hip"]
    output = tmp_path / "five.pth"
    config = ["--config-file", PAGE, f"data.keypoints={{names:[{','.join(names)}]}}"]
    arguments = ["--input", str(folder / "zoo.pkl"), "--allow-pickle", "--output", str(output)]
    assert main([*arguments, *config, "data.classes={person:[" + ",".join(names) + "]}"]) == 0
    with (folder / "zoo.pkl").open("rb") as file:
        theirs = pickle.load(file)["model"]["roi_heads.keypoint_head.score_lowres.bias"]
    ours = torch.load(output)["model"]["roi_heads.keypoint_head.score_lowres.bias"]
    assert ours.tolist() == theirs[[16, 0, 9, 1, 12]].tolist()


def test_bottom_up_is_converted_to_timm(folder, tmp_path):
    output = tmp_path / "timm.pth"
    arguments = ["--input", str(folder / "imagenet.pth"), "--output", str(output), "--to", "timm"]
    assert main(arguments) == 0
    classifier = timm.create_model("hrnet_w18_small")
    loaded = classifier.load_state_dict(torch.load(output)["model"], strict=False)
    assert loaded.unexpected_keys == []
    heads = {name.split(".")[0] for name in loaded.missing_keys}
    assert heads == {"incre_modules", "downsamp_modules", "final_layer", "classifier"}


def test_hash_in_the_name_is_verified(folder, tmp_path, capsys, refused):
    arguments = ["--input", str(folder / "imagenet.pth"), "--output", str(tmp_path / "w.pth")]
    assert main([*arguments, "--add-hash"]) == 0
    [path] = tmp_path.glob("*.pth")
    assert re.fullmatch(r"w-[0-9a-f]{8}\.pth", path.name)
    assert str(path) in capsys.readouterr().out
    path.write_bytes(path.read_bytes()[:-1])
    [line] = refused(main, ["--input", path, "--output", tmp_path / "x.pth"])
    assert str(path) in line


def test_output_may_be_the_input(tmp_path):
    path = tmp_path / "w.pth"
    bottom_up = HRNet(*SMALL).state_dict()
    torch.save(bottom_up, path)
    assert main(["--input", str(path), "--output", str(path)]) == 0
    written = torch.load(path)["model"]
    assert torch.equal(written["backbone.bottom_up.conv1.weight"], bottom_up["conv1.weight"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.pth"], ["nowhere.pth"]),
        (["text.pth"], ["text.pth"]),
        (["trap.pkl"], ["trap.pkl", "system"]),
        (["imagenet.pth", "v2.pth"], ["v2.pth", "HRNet-W18-small-v2", "HRNet-W18-small-v1"]),
        (["imagenet.pth", "--layout", "tim"], ["layout tim ", "timm"]),
        (["imagenet.pth", "--layout", "mmdet"], ["imagenet.pth"]),
        (["imagenet.pth", "--to", "onnx"], ["onnx", "timm"]),
        (["v2.pth", "--config-file", PAGE], ["v2.pth", "HRNet-W18-small-v2"]),
        (["imagenet.pth", "--config-file", "nowhere.py"], ["nowhere.py"]),
        (["imagenet.pth", "--config-file", PAGE, "model.backbone.width=3"], ["model.backbone.width"]),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line(folder, tmp_path, refused, monkeypatch, arguments, words):
    monkeypatch.chdir(folder)
    [line] = refused(main, ["--input", *arguments, "--output", tmp_path / "w.pth"])
    assert all(word in line for word in words)
    assert not (tmp_path / "w.pth").exists()


@pytest.mark.parametrize("output", ["w.onnx", "nowhere/w.pth", "folder.pth"])
def test_output_that_cannot_be_written_is_refused_first(tmp_path, refused, output):
    (tmp_path / "folder.pth").mkdir()
    path = tmp_path / output
    [line] = refused(main, ["--input", "nowhere.pth", "--output", path])
    assert line.startswith(f"error: {path} ")
