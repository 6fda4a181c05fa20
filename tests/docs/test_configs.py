"""What docs/configs.md and docs/tracebacks.md say is so."""

import re
import shlex

import pytest

from hrnet_kpt.config import check_config, load_config
from hrnet_kpt.config.differences import format_differences
from hrnet_kpt.config.loading import load_with_changes


@pytest.fixture
def page(repository):
    return (repository / "docs" / "configs.md").read_text()


@pytest.fixture
def blocks(page):
    """Function of a language: the code blocks of the page in it."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return lambda language: [block for name, block in found if name == language]


def findings_in_the_code(repository):
    """Names of findings, by the calls that make them."""
    code = "".join(
        path.read_text() for path in (repository / "projects/hrnet_kpt/config").rglob("*.py")
    )
    names = re.findall(r'(?:error|warning)\(\s*"([a-z]+-[a-z-]+)"', code)
    known = re.search(r"^KNOWN.*?^\)\n", code, re.DOTALL | re.MULTILINE)[0]
    names += re.findall(r'"([a-z]+-[a-z]+)"', known)
    names += re.findall(r'name = "([a-z]+-[a-z]+)"', code)
    return set(names)


def test_every_finding_is_in_the_tables_and_nothing_else(page, repository):
    tables = page.partition("## What the check finds")[2]
    listed = set(
        re.findall(
            r"`([a-z]+-[a-z-]+)`", " ".join(re.findall(r"^\| (`.*?) \|", tables, re.MULTILINE))
        )
    )
    assert listed == findings_in_the_code(repository)


def test_findings_that_take_the_place_of_tracebacks_exist(repository):
    text = (repository / "docs" / "tracebacks.md").read_text()
    named = set(re.findall(r"`([a-z]+-[a-z]+(?:-[a-z]+)*)`", text))
    assert len(named) > 10 and named <= findings_in_the_code(repository)


def test_every_override_of_the_table_is_taken(page):
    rows = re.findall(
        r"^\| (`.*`) \| ", page.partition("| typed | means |")[2].partition("\n\n")[0], re.MULTILINE
    )
    typed = [
        override
        for row in rows
        for code in re.findall(r"`([^`]*)`", row)
        for override in shlex.split(code)
    ]
    assert len(typed) > 12
    for override in typed:
        load_config("hrnet_w18_kpt.py", [override])


def test_table_of_changes_is_what_the_run_prints(blocks):
    arguments = shlex.split(blocks("")[0].replace("\\\n", " "))
    _, changes = load_with_changes(arguments[2], arguments[3:])
    assert format_differences(changes) == blocks("text")[0].strip()


def test_commands_are_ones_that_the_tools_take(blocks, load_tool):
    lines = [line for block in blocks("") for line in re.sub(r"\\\n", " ", block).splitlines()]
    assert len(lines) == 5
    for name, *arguments in map(shlex.split, lines):
        load_tool(name).parser().parse_intermixed_args(arguments)


def test_file_of_your_own_is_healthy(blocks, repository, tmp_path):
    [example] = blocks("python")
    copy = tmp_path / "mine"
    copy.mkdir()
    for part in (repository / "configs").iterdir():
        (copy / part.name).symlink_to(part)
    (copy / "w32_light.py").write_text(example)
    cfg = load_config(copy / "w32_light.py")
    assert check_config(cfg) == []
    assert cfg.model.roi_heads.keypoint_head.conv_dims == [256] * 4
