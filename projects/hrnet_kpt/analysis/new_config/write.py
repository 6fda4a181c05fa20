"""The file of a new config: a page, and the values that differ from it, each with its reason."""

from __future__ import annotations

import hashlib
import json
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...config.load import PAGE_NODES
from ...errors import UserError
from ...io import replace_text
from .choose import Choice

WIDTH = 120  # of comments
CHECKSUM = re.compile(r"^Checksum: ([0-9a-f]{8})$", re.MULTILINE)
UNKNOWN = "Checksum: --------"


def config_source(
    facts: Sequence[str], page: str, page_reason: str, choices: Sequence[Choice]
) -> str:
    """The source of the config file.

    Args:
        facts: Lines of its docstring: a title, then what was read and measured.
        page: Name or path of the page.
        page_reason: Why this one.
        choices: What is set, in this order.
    """
    lines = ['"""' + _docstring(facts[0])[0], ""]
    lines += [line for fact in facts[1:] for line in _docstring(fact)]
    lines += [UNKNOWN, '"""', ""]
    lines += ["from hrnet_kpt.config import load_page", ""]
    lines += [*_comment(page_reason), f"{', '.join(PAGE_NODES)} = load_page({_code(page)})"]
    for choice in choices:
        lines += [*_comment(choice.reason), *_assignments(choice.settings)]
    source = "\n".join(lines) + "\n"
    return source.replace(UNKNOWN, f"Checksum: {_checksum(source)}")


def _docstring(fact: str) -> list[str]:
    """Lines that are the fact as it is, inside of a string in triple quotes."""
    text = fact.replace("\\", "\\\\").replace('"', '\\"')
    options = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ", **options)  # type: ignore[arg-type]


def _comment(reason: str) -> list[str]:
    return textwrap.wrap(
        reason, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )


def _assignments(settings: dict[str, Any]) -> list[str]:
    """Statements; values of one node that follow one another are one `update`."""
    nodes: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        parent, _, name = key.rpartition(".")
        if isinstance(value, dict):
            nodes[key] = value
        else:
            nodes.setdefault(parent, {})[name] = value
    lines = []
    for node, values in nodes.items():
        target = re.sub(r"\.(\d+)", r"[\1]", node)
        if len(values) == 1:
            [(name, value)] = values.items()
            lines.append(f"{target}.{name} = {_code(value)}")
        else:
            arguments = ", ".join(f"{name}={_code(value)}" for name, value in values.items())
            if len(line := f"{target}.update({arguments})") <= WIDTH:
                lines.append(line)
            else:
                lines += [f"{target}.{name} = {_code(value)}" for name, value in values.items()]
    return lines


def _code(value: Any) -> str:
    # In double quotes, as the formatter writes them.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _checksum(source: str) -> str:
    """Of the source without its own checksum."""
    text = CHECKSUM.sub(UNKNOWN, source, count=1)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def refuse_to_overwrite(output: Path, overwrite: bool) -> None:
    """Refuse to replace a file that is not as this command has written it.

    Raises:
        UserError: If there is such a file, or the output is not a Python file in an existing folder.
    """
    if output.suffix != ".py":
        raise UserError(f"--output {output}: the name of a config file must end in .py")
    if not output.parent.is_dir():
        raise UserError(
            f"--output {output}: the folder {output.parent} does not exist; make it first"
        )
    if overwrite or not output.exists():
        return
    text = output.read_text(encoding="utf-8", errors="replace")
    written = CHECKSUM.search(text)
    if written is None:
        raise UserError(
            f"--output {output} exists, and this command has not written it: give another name, or --overwrite"
        )
    if written[1] != _checksum(text):
        raise UserError(
            f"--output {output} was changed after this command wrote it: give another name, or --overwrite to lose the "
            "changes"
        )


def write_source(output: Path, source: str) -> None:
    try:
        replace_text(output, source)
    except OSError as error:
        raise UserError(f"--output {output} cannot be written: {error.strerror}") from error
