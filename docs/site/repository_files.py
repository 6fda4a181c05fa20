"""Pages of the site for the files and folders of the repository that its pages link to.

On a code host a link to ../configs/hrnet_w18_kpt.py shows that file. The site shows it too, below FOLDER.
"""

import ast
import json
import posixpath
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "files"
linked: set[str] = set()  # paths from ROOT that have a link in this build


def address(path: str, page: str) -> str:
    """The address of a file's page, as seen from another page; from now on the site has that page."""
    linked.add(path)
    return relative(f"{FOLDER}/{path}", page)


def relative(target: str, page: str) -> str:
    return posixpath.relpath(f"{target}.html", posixpath.dirname(page) or ".")


def link_files(app: Sphinx, document: nodes.document) -> None:
    """Lead links to files and folders that are no pages of the site to their page below FOLDER."""
    page = app.env.docname
    for kind in (addnodes.download_reference, addnodes.pending_xref):
        for node in list(document.findall(kind)):
            if node["reftype"] != "myst" or node["refdomain"]:
                continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), node["reftarget"]))
            if (ROOT / path).exists():
                link = nodes.reference(internal=True, refuri=address(path, page))
                link += node.children
                node.replace_self(link)


def file_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The pages of all files and folders that have a link, as `html-collect-pages` takes them."""
    for name in sorted(linked):
        path = ROOT / name
        if path.is_dir():
            body = folder_body(app, path, name)
        elif path.suffix == ".ipynb":
            body = notebook_body(path)
        else:
            body = code(path, linenos="inline", lineanchors="L", anchorlinenos=True)
        heading = f'<h1 class="repository-file">{escape(name)}</h1>\n'
        yield f"{FOLDER}/{name}", {"title": name, "body": heading + body}, "page.html"


def code(path: Path, text: str | None = None, **options: Any) -> str:
    try:
        lexer = get_lexer_for_filename(path.name)
    except ClassNotFound:
        lexer = TextLexer()
    text = path.read_text(encoding="utf-8") if text is None else text
    return highlight(text, lexer, HtmlFormatter(**options))


def notebook_body(path: Path) -> str:
    """The cells of a notebook, without results."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    return "\n".join(
        MarkdownIt().render(text)
        if cell["cell_type"] == "markdown"
        else code(path.with_suffix(".py"), text)
        for cell, text in zip(cells, texts, strict=True)
    )


def folder_body(app: Sphinx, folder: Path, name: str) -> str:
    """A table of the files, with a link to each that has a page, and the first line of each docstring."""
    rows = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__")):
            continue
        child = f"{name}/{path.name}"
        label = f"<code>{escape(path.name)}{'/' * path.is_dir()}</code>"
        page = f"{FOLDER}/{child}" if child in linked else app.env.path2doc(str(path))
        if child in linked or page in app.env.found_docs:
            address = escape(relative(page, f"{FOLDER}/{name}"))
            label = f'<a class="reference internal" href="{address}">{label}</a>'
        text = path.read_text(encoding="utf-8") if path.suffix == ".py" else ""
        summary = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
        rows.append(f"<tr><td>{label}</td><td>{escape(summary)}</td></tr>")
    return f'<div class="table-wrapper"><table class="docutils">{"".join(rows)}</table></div>'


def setup(app: Sphinx) -> dict[str, bool]:
    linked.clear()
    app.connect("doctree-read", link_files, priority=400)  # before Sphinx copies the files
    app.connect("html-collect-pages", file_pages)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
