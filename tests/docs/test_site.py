"""The docs site: it builds without warnings and without a network, and its links, pages and reference are complete."""

import ast
import importlib
import re
import socket
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from sphinx.cmd.build import main as sphinx_build
from sphinx.util.inventory import InventoryFile

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("config", "data", "engine", "inference", "modeling", "weights")


class Page(HTMLParser):
    """The anchors of a page, its links, and the addresses from which it loads scripts, styles, fonts and images."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loaded = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors.update(attributes[key] for key in ("id", "name") if attributes.get(key))
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        elif tag == "link" and attributes["rel"] not in ("index", "search", "next", "prev"):
            self.loaded.append(attributes["href"])
        elif attributes.get("src"):
            self.loaded.append(attributes["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""

    def refuse(self, address, *_):
        raise OSError(f"the build asks for {address}")

    folder = tmp_path_factory.mktemp("site").resolve()
    output, modules, path = folder / "html", set(sys.modules), list(sys.path)
    options = ["-W", "--keep-going", "-q", "-d", str(folder / "doctrees")]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecations among Sphinx and its extensions
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        status = sphinx_build([*options, "-c", str(ROOT / "docs" / "site"), str(ROOT), str(output)])
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(ROOT / "docs" / "site") in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    assert status == 0, "see the warnings above"
    return output


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html")}


@pytest.fixture(scope="module")
def documented(site):
    """The full names of all objects in the reference."""
    inventory = InventoryFile.load((site / "objects.inv").open("rb"), "", lambda base, path: path)
    return {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}


def test_every_link_of_the_site_leads_somewhere(site, pages):
    count = 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.scheme == "https", f"{path}: {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_relative_to(site) and target.is_file(), f"{path}: {link}"
            if parts.fragment and target in pages:
                anchors = pages[target].anchors
                assert unquote(parts.fragment) in anchors, f"{path}: {link}"
            count += 1
    assert count > 5000


def test_pages_load_nothing_from_elsewhere(site, pages):
    for path, page in pages.items():
        for address in page.loaded:
            parts = urlsplit(address)
            assert not parts.netloc, f"{path}: {address}"
            assert parts.scheme == "data" or (path.parent / unquote(parts.path)).is_file(), address
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", style.read_text())


def test_every_page_is_in_the_navigation(repository, site, pages):
    """In the sidebar of the home page."""
    sidebar = {urlsplit(link).path for link in pages[site / "README.html"].links}
    for page in (repository / "docs").glob("*.md"):
        assert f"docs/{page.stem}.html" in sidebar, f"name {page.name} in docs/site/navigation.py"
    for page in repository.glob("*.md"):
        assert page.stem == "README" or f"{page.stem}.html" in sidebar, page.name


def test_address_of_the_site_leads_to_the_readme(site, repository):
    assert 'content="0; url=README.html"' in (site / "index.html").read_text()
    heading = (repository / "README.md").read_text().partition("\n")[0].removeprefix("# ")
    assert f"<h1>{heading}<a" in (site / "README.html").read_text()


def test_reference_has_the_names_that_packages_offer(documented):
    for room in ROOMS:
        module = importlib.import_module(f"hrnet_kpt.{room}")
        for name in module.__all__:
            assert f"hrnet_kpt.{room}.{name}" in documented


def test_reference_has_the_names_that_configs_and_pages_import(repository, documented):
    """Under any module that has them: `hrnet_kpt.data.schema.KeypointSchema` is also in `hrnet_kpt.data`."""
    sources = {path: path.read_text() for path in (repository / "configs").rglob("*.py")}
    for path in (repository / "README.md", *(repository / "docs").glob("*.md")):
        for i, block in enumerate(
            re.findall(r"^```python\n(.*?)^```", path.read_text(), re.S | re.M)
        ):
            sources[path, i] = block
    short = {name.rsplit(".", 1)[1] for name in documented if "." in name}
    imported = {
        (source, alias.name)
        for source, text in sources.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hrnet_kpt")
        for alias in node.names
    }
    assert len(imported) > 20
    assert {name for name in imported if name[1] not in short} == set()


def test_docstrings_are_shown_as_they_are_meant(site):
    """Indented blocks without `::` become quotations; what precedes a colon in `Returns:` could be taken for a type."""
    for path in (site / "docs" / "api").glob("*.html"):
        text = path.read_text()
        for tag in ("<blockquote", "problematic", "Return type"):
            assert tag not in text, f"{path.name} has {tag}"
    predictor = (site / "docs" / "api" / "inference.html").read_text()
    for part in (
        "Predictor.from_run",
        "Predictor.__call__",
        "<strong>weights</strong>",
        "UserError",
    ):
        assert part in predictor


def test_diagrams_are_drawn(repository, site):
    page = (site / "docs" / "architecture.html").read_text()
    drawn = re.findall(r'<div class="diagram"><svg.*?</svg>\s*</div>', page, re.DOTALL)
    text = (repository / "docs" / "architecture.md").read_text()
    diagrams = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
    assert len(drawn) == len(diagrams) >= 3
    for svg, diagram in zip(drawn, diagrams, strict=True):
        words = set(re.sub(r"<[^>]*>", " ", svg).split())
        for label in re.findall(r'[\[{]"?([^\]}"]+)"?[\]}]', diagram):
            assert set(label.replace("<br/>", " ").split()) <= words, label


def test_files_of_the_repository_are_shown(repository, site):
    page = (site / "files" / "configs" / "hrnet_w18_kpt.py.html").read_text()
    lines = (repository / "configs" / "hrnet_w18_kpt.py").read_text().splitlines()
    assert f'id="L-{len(lines)}"' in page and f'id="L-{len(lines) + 1}"' not in page
    folder = (site / "files" / "projects" / "hrnet_kpt" / "config.html").read_text()
    assert 'href="config/load.py.html"' in folder and "signatures.py" in folder


def test_search_knows_pages_and_functions(site):
    index = (site / "searchindex.js").read_text()
    for word in ('"docs/training"', "load_config", "optimize_for_inference"):
        assert word in index


def test_make_docs_builds_what_is_tested_here(repository):
    done = subprocess.run(
        ["make", "--dry-run", "docs"], cwd=repository, capture_output=True, text=True, check=True
    )
    (command,) = [line for line in done.stdout.splitlines() if "sphinx" in line]
    assert {"-W", "docs/site", "output/site"} <= set(command.split())
