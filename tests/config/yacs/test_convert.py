"""The conversion of YAMLs of either codebase: keys, reports, errors, and the tables of docs/migration.md."""

import re

import pytest
from detectron2.config import LazyConfig

from hrnet_kpt.config.yacs.convert import CODEBASES, convert_yaml
from hrnet_kpt.errors import UserError

BASE = "_BASE_: ZOO/Base-RCNN-FPN.yaml\n"


# Values with which the translation reads every key that it knows.
CLIP, FC = "SOLVER.CLIP_GRADIENTS.", {"MODEL.ROI_BOX_HEAD.NUM_FC": 2}
VARIANTS = {
    "detectron2": [
        {**FC, "MODEL.MASK_ON": True, f"{CLIP}ENABLED": True, f"{CLIP}CLIP_TYPE": "full_model"},
        {**FC, "MODEL.KEYPOINT_ON": True, "SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR"},
    ],
    "maskrcnn-benchmark": [
        {
            "MODEL.MASK_ON": True,
            "MODEL.KEYPOINT_ON": True,
            **{f"MODEL.HRNET.STAGE{n}.NUM_CHANNELS": [18, 36, 72, 144][:n] for n in range(2, 5)},
        },
        {"MODEL.BACKBONE.CONV_BODY": "R-50-FPN"},
    ],
}


class Recording(dict):
    """A dict that records the keys that are read."""

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)


def read_keys(name):
    codebase, Recording.read = CODEBASES[name], set()
    fixed = {key: values[0] for key, values in codebase.FIXED.items()}
    for variant in VARIANTS[name]:
        codebase.translate(Recording({**codebase.DEFAULTS, **fixed, **variant}))
    return Recording.read


@pytest.mark.parametrize("name", CODEBASES)
def test_every_key_is_translated_or_has_a_note(name):
    codebase = CODEBASES[name]
    others = {key for key in codebase.DEFAULTS if key.startswith(codebase.OTHER_MODELS)}
    assert read_keys(name) | set(codebase.NOTES) | others == set(codebase.DEFAULTS)


@pytest.mark.parametrize("name", CODEBASES)
def test_every_key_is_in_the_tables_of_the_docs(name, repository):
    codebase = CODEBASES[name]
    page = (repository / "docs" / "migration.md").read_text()
    section = page.partition(f"\n## {name}")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| (`.*?`) \| (.*) \|$", section, re.MULTILINE))
    table = {key: text for cell, text in rows.items() for key in re.findall(r"`(.*?)`", cell)}
    for key, path in codebase.COPIED.items():
        assert table[key] == f"`{path}`"
    for key, text in codebase.NOTES.items():
        assert table[key] == text
    assert read_keys(name) - set(codebase.FIXED) <= set(table)


def test_unknown_keys_are_reported_and_kept_as_comments(write, tmp_path):
    source = write(
        "_BASE_: ZOO/COCO-Keypoints/Base-Keypoint-RCNN-FPN.yaml\n"
        "MODEL: {RPN: {NMS_TRESH: 0.5}, MY_HEAD: {WEIGHT: 3}}\n",
    )
    lines = convert_yaml(str(source), str(tmp_path / "out.py"))
    assert "unknown, not translated: MODEL.RPN.NMS_TRESH=0.5" in lines
    assert "unknown, not translated: MODEL.MY_HEAD.WEIGHT=3" in lines
    text = (tmp_path / "out.py").read_text()
    assert re.search(r"# MODEL.RPN.NMS_TRESH=0.5 .*MODEL.RPN.NMS_THRESH", text)
    assert "# MODEL.MY_HEAD.WEIGHT=3" in text


def test_keys_of_other_models_are_reported(write, tmp_path):
    source = write(BASE + "MODEL: {RETINANET: {NUM_CONVS: 3}}")
    lines = convert_yaml(str(source), str(tmp_path / "out.py"))
    assert any(line.startswith("no equivalent: MODEL.RETINANET.NUM_CONVS") for line in lines)
    assert "# MODEL.RETINANET.NUM_CONVS=3" in (tmp_path / "out.py").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BASE + "MODEL: {RESNETS: {DEPTH: 18}}", "MODEL.RESNETS.DEPTH=18"),
        (BASE + "MODEL: {ROI_HEADS: {NAME: Res5ROIHeads}}", "ROI_HEADS.NAME='Res5ROIHeads'"),
        (BASE + "MODEL: {MASK_ON: true, KEYPOINT_ON: true}", "MODEL.MASK_ON"),
        ("a: 1\nb: 2\n", "0 of its 2 keys"),
        ("- 1\n", "some.yaml"),
        ("a: [\n", "some.yaml"),
        ("_BASE_: some.yaml\n", "_BASE_"),
        ("_BASE_: gone.yaml\n", "gone.yaml"),
        ("MODEL: {WEIGHTS: !!python/object/apply:os.system ['ls']}", "some.yaml"),
    ],
)
def test_wrong_inputs(text, message, write, tmp_path):
    source = write(text)
    with pytest.raises(UserError, match=re.escape(message)):
        convert_yaml(str(source), str(tmp_path / "out.py"))
    assert not (tmp_path / "out.py").exists()


def test_output_in_configs_imports_its_page(zoo, tmp_path, repository, load_tool, capsys):
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
    assert capsys.readouterr().err.startswith("error: gone.yaml")
