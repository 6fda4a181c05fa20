"""Sphinx's settings for the docs site, which `make docs` builds from the repository's root into output/site."""

import sys
from pathlib import Path

import hrnet_kpt

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))
from navigation import HOME  # noqa: E402
from reference import source_of  # noqa: E402

project = "hrnet_kpt"
version = release = hrnet_kpt.__version__
copyright = "The hrnet_kpt authors, Apache-2.0"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.linkcode",
    "sphinx_copybutton",
    "diagrams",
    "navigation",
    "reference",
    "repository_files",
]

# ---------------------------------------------------------------------------------------- pages

root_doc = HOME
PAGES = {"README.md", "MODEL_ZOO.md", "CHANGELOG.md", "docs"}
# Folders are excluded, instead of pages included, so that Sphinx does not search .venv and output.
exclude_patterns = [path.name for path in ROOT.iterdir() if path.name not in PAGES]
exclude_patterns += ["docs/scripts", "docs/site"]

myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
highlight_language = "text"  # of blocks without a language: commands with their output
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"

# ------------------------------------------------------------------------------------ reference

autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "special-members": "__call__",
}
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 120
python_use_unqualified_type_names = True
add_module_names = False
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_rtype = False  # before a colon in `Returns:` is a shape: "N x 4: corners in pixels"
default_role = "py:obj"  # a `name` in a docstring is code, and a link if the reference has it
linkcode_resolve = source_of

# ----------------------------------------------------------------------------------------- html

html_theme = "furo"
html_title = f"hrnet_kpt {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_domain_indices = False
