"""Links in the reference: from an object to its source, and from a `name` in a docstring to what has this name."""

import importlib
import inspect
from pathlib import Path

from docutils import nodes
from repository_files import ROOT, address
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def source_of(domain: str, info: dict[str, str]) -> str | None:
    """The address of an object's source, as seen from a page in docs/api, as `linkcode_resolve` of Sphinx."""
    found = importlib.import_module(info["module"])
    try:
        for name in info["fullname"].split("."):
            found = getattr(found, name)
        found = getattr(found, "fget", None) or getattr(found, "func", None) or found
        path = Path(inspect.getsourcefile(inspect.unwrap(found))).resolve().relative_to(ROOT)
        line = inspect.getsourcelines(found)[1]
    except TypeError:  # a constant has no source
        return None
    return f"{address(path.as_posix(), 'docs/api/page')}#L-{line}"


def link_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node
) -> nodes.reference | None:
    """Link a name that Sphinx does not find, because it is of another module, if only one class or function has it."""
    if node.get("reftype") != "obj":
        return None
    found = [
        entry
        for name, entry in env.domains.python_domain.objects.items()
        if name.endswith("." + node["reftarget"])
        and entry.objtype in ("class", "exception", "function")
    ]
    if len(found) != 1:
        return None
    return make_refnode(app.builder, node["refdoc"], found[0].docname, found[0].node_id, content)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("missing-reference", link_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
