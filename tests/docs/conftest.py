"""What the tests of pages share."""

import re

import pytest


@pytest.fixture
def code_blocks(repository):
    """Function of a page of docs/ and a language: the page's code blocks in it."""

    def code_blocks(page, language):
        text = (repository / "docs" / page).read_text()
        found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        return [block for name, block in found if name == language]

    return code_blocks


@pytest.fixture
def parse_commands(load_tool):
    """Function of commands, lists of words: the tools that they start take them; returns what the parsers make."""
    return lambda commands: [
        load_tool(name).parser().parse_intermixed_args(arguments) for name, *arguments in commands
    ]
