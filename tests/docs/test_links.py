"""Links and images of the Markdown pages and of the notebook: files, folders and headings exist."""

import functools
import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("notebooks/*.ipynb")]
)


@functools.cache
def tokens_of(page):
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return MarkdownIt().enable("table").parse(text)


def targets_of(page):
    for token in tokens_of(page):
        for child in token.children or ():
            if child.type in ("link_open", "image"):
                yield child.attrs.get("href") or child.attrs.get("src")
        for html in (token, *(token.children or ())):
            if html.type in ("html_block", "html_inline"):
                yield from re.findall(r'(?:href|src)="([^"]*)"', html.content)


def anchors_of(page):
    """The anchors that GitHub gives the headings of a page."""
    tokens = tokens_of(page)
    anchors = set()
    for i, token in enumerate(tokens):
        if token.type == "heading_open":
            text = "".join(child.content for child in tokens[i + 1].children)
            slug = re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")
            number = 0
            while (anchor := f"{slug}-{number}" if number else slug) in anchors:
                number += 1
            anchors.add(anchor)
    return anchors


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_somewhere(page):
    for target in targets_of(page):
        parts = urlsplit(target)
        if parts.scheme:
            assert parts.scheme == "https" and "." in parts.netloc, target
            continue
        path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert path.is_relative_to(ROOT) and path.exists(), f"{target}: no such file"
        if parts.fragment:
            assert path.suffix == ".md", f"{target}: only pages have headings"
            assert parts.fragment in anchors_of(path), f"{target}: no such heading"


def test_pages_are_found():
    names = {page.name for page in PAGES}
    assert {"README.md", "MODEL_ZOO.md", "training.md", "compose_configs.ipynb"} <= names
    assert sum(1 for page in PAGES for _ in targets_of(page)) > 150
