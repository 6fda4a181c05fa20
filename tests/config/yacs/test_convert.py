"""What conversion tells, refuses and writes, whatever the codebase."""

import re

import pytest
from detectron2.config import LazyConfig

from hrnet_kpt.config.yacs import detectron2_keys, maskrcnn_benchmark_keys
from hrnet_kpt.config.yacs.convert import convert_yaml
from hrnet_kpt.errors import UserError

BASE = "_BASE_: ZOO/Base-RCNN-FPN.yaml\n"


@pytest.mark.parametrize("keys", [detectron2_keys, maskrcnn_benchmark_keys])
def test_every_key_has_its_place(keys):
    defaults = keys.defaults()
    places = [*keys.COPIED, *keys.NOTES, *keys.FIXED, *keys.COMBINED]
    missing = [k for k in defaults if k not in places and not keys.is_of_another_model(k)]
    assert not missing
    assert not set(places) - set(defaults)


def test_unknown_keys_are_told_and_kept_as_comments(write, tmp_path):
    source = write(
        "_BASE_: ZOO/COCO-Keypoints/Base-Keypoint-RCNN-FPN.yaml\n"
        "MODEL: {RPN: {NMS_TRESH: 0.5}, MY_HEAD: {WEIGHT: 3}}\n",
    )
    lines = convert_yaml(str(source), str(tmp_path / "out.py"))
    assert "unknown, not translated: MODEL.RPN.NMS_TRESH=0.5" in lines
    assert "unknown, not translated: MODEL.MY_HEAD.WEIGHT=3" in lines
    text = (tmp_path / "out.py").read_text()
    assert "# MODEL.RPN.NMS_TRESH=0.5 (is it MODEL.RPN.NMS_THRESH?)" in text
    assert "# MODEL.MY_HEAD.WEIGHT=3" in text


def test_keys_of_other_models_are_told(write, tmp_path):
    source = write(BASE + "MODEL: {RETINANET: {NUM_CONVS: 3}}")
    lines = convert_yaml(str(source), str(tmp_path / "out.py"))
    assert "no equivalent: MODEL.RETINANET.NUM_CONVS: of another model" in lines
    assert "# MODEL.RETINANET.NUM_CONVS=3: of another model" in (tmp_path / "out.py").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BASE + "MODEL: {RESNETS: {DEPTH: 18}}", "MODEL.RESNETS.DEPTH=18 has no equivalent"),
        (BASE + "MODEL: {ROI_HEADS: {NAME: Res5ROIHeads}}", "ROI_HEADS.NAME='Res5ROIHeads'"),
        (BASE + "MODEL: {MASK_ON: true, KEYPOINT_ON: true}", "both on"),
        ("a: 1\nb: 2\n", "0 of its 2 keys are known"),
        ("- 1\n", "not a config of YACS"),
        ("a: [\n", "not a readable YAML"),
        ("_BASE_: some.yaml\n", "leads back to itself"),
        ("_BASE_: gone.yaml\n", "gone.yaml: not a readable YAML"),
        ("MODEL: {WEIGHTS: !!python/object/apply:os.system ['ls']}", "not a readable YAML"),
    ],
)
def test_wrong_inputs(text, message, write, tmp_path):
    source = write(text)
    with pytest.raises(UserError, match=re.escape(message)):
        convert_yaml(str(source), str(tmp_path / "out.py"))
    assert not (tmp_path / "out.py").exists()


def test_beside_the_pages_it_imports_them(zoo, tmp_path, repository, load_tool, capsys):
    output = repository / "configs" / "trial_of_a_conversion.py"
    source = zoo / "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml"
    tool = load_tool("tools/from_yacs.py")
    try:
        assert tool.main(["--input", str(source), "--output", str(output)]) == 0
        assert "from .r50_fpn_kpt import" in output.read_text()
        assert LazyConfig.load(str(output)).train.max_iter == 270000
    finally:
        output.unlink(missing_ok=True)
    assert "settings" in capsys.readouterr().out
    assert tool.main(["--input", "gone.yaml", "--output", str(tmp_path / "a.py")]) == 2
    assert capsys.readouterr().err.startswith("error: gone.yaml: not a readable YAML")
