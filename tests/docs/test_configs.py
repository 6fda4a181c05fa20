"""docs/configs.md and docs/tracebacks.md: findings, overrides, commands, outputs and examples are right."""

import ast
import re
import shlex

import pytest
from detectron2.config import instantiate

from hrnet_kpt.config import check_config, load_config
from hrnet_kpt.config.diff import format_differences
from hrnet_kpt.config.load import load_with_changes


@pytest.fixture
def page(repository):
    return (repository / "docs" / "configs.md").read_text()


@pytest.fixture
def blocks(page):
    """Function of a language: the code blocks of the page in it."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return lambda language: [block for name, block in found if name == language]


def findings_in_the_code(repository):
    """Names of findings: all strings of their form in the code of config/."""
    files = [*(repository / "projects/hrnet_kpt/config").glob("*.py")]
    files += (repository / "projects/hrnet_kpt/config/checks").glob("*.py")
    nodes = (node for path in files for node in ast.walk(ast.parse(path.read_text())))
    values = {str(node.value) for node in nodes if isinstance(node, ast.Constant)}
    return {value for value in values if re.fullmatch(r"[a-z]+(-[a-z]+)+", value)}


def test_the_tables_list_every_finding(page, repository):
    tables = page.partition("## What the check finds")[2]
    cells = " ".join(re.findall(r"^\| (`.*?) \|", tables, re.MULTILINE))
    assert set(re.findall(r"`([a-z]+-[a-z-]+)`", cells)) == findings_in_the_code(repository)


def test_findings_in_place_of_tracebacks_exist(repository):
    text = (repository / "docs" / "tracebacks.md").read_text()
    named = set(re.findall(r"`([a-z]+-[a-z]+(?:-[a-z]+)*)`", text))
    assert len(named) > 10 and named <= findings_in_the_code(repository)


def test_every_override_of_the_table_is_valid(page):
    table = page.partition("| override | effect |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (`.*`) \| ", table, re.MULTILINE)
    codes = [code for cell in cells for code in re.findall(r"`([^`]*)`", cell)]
    overrides = [override for code in codes for override in shlex.split(code)]
    assert len(overrides) > 12
    for override in overrides:
        load_config("hrnet_w18_kpt.py", [override])


def test_table_of_changes_is_what_the_run_prints(blocks):
    arguments = shlex.split(blocks("")[0].replace("\\\n", " "))
    _, changes = load_with_changes(arguments[2], arguments[3:])
    assert format_differences(changes) == blocks("text")[0].strip()


def test_commands_are_valid(blocks, load_tool):
    lines = [line for block in blocks("") for line in re.sub(r"\\\n", " ", block).splitlines()]
    assert len(lines) == 5
    for name, *arguments in map(shlex.split, lines):
        load_tool(name).parser().parse_intermixed_args(arguments)


def code_lines(example):
    """Lines of a file that are neither imports nor documentation."""
    text = re.sub(r'""".*?"""', "", example, flags=re.DOTALL)
    return [x for x in text.splitlines() if x.strip() and not x.startswith(("from ", "import "))]


def test_example_configs_have_no_errors(blocks, repository, tmp_path, monkeypatch):
    configs = [example for example in blocks("python") if "class " not in example]
    [module] = [example for example in blocks("python") if "class " in example]
    copy = tmp_path / "mine"
    copy.mkdir()
    for part in (repository / "configs").iterdir():
        (copy / part.name).symlink_to(part)
    (tmp_path / "my_backbones.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    assert len(configs) == 6
    for number, example in enumerate(configs):
        assert len(code_lines(example)) <= 10
        (copy / f"mine_{number}.py").write_text(example)
        cfg = load_config(copy / f"mine_{number}.py")
        assert not [str(f) for f in check_config(cfg) if f.level == "error"]
    assert load_config(copy / "mine_0.py").model.roi_heads.keypoint_head.conv_dims == [256] * 4
    assert len(code_lines(module)) <= 10


def test_schedules_are_overrides(blocks):
    twice, thrice = (shlex.split(line) for line in blocks("sh")[0].splitlines())
    # detectron2's: common/coco_schedule.py.
    for overrides, drops in ((twice, (120000, 160000, 180000)), (thrice, (210000, 250000, 270000))):
        cfg = load_config("hrnet_w18_kpt.py", overrides)
        scheduler = instantiate(cfg.lr_multiplier.scheduler)
        assert cfg.train.max_iter == drops[-1]
        for iteration in range(0, drops[-1], 997):
            expected = 0.1 ** sum(iteration >= drop for drop in drops)
            assert scheduler(iteration / drops[-1]) == pytest.approx(expected)
