"""Mermaid diagrams as SVG, drawn while the site is built, so that its pages load no script from elsewhere."""

import mmdr
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

COMPACT = """%%{init: {
  "flowchart": {"wrappingWidth": 160, "nodeSpacing": 24, "rankSpacing": 32, "padding": 10},
  "themeVariables": {"fontSize": "14px"}
}}%%
"""


class Mermaid(SphinxDirective):
    """A code block in the language `mermaid`. Its colors are in static/site.css."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        svg = mmdr.render(COMPACT + "\n".join(self.content)).svg()
        name = f"diagram-{self.env.new_serialno('diagram')}"  # ids are unique in a page
        svg = svg.replace('id="merman', f'id="{name}').replace("#merman", f"#{name}")
        svg = svg.replace("background-color:white", "")
        return [nodes.raw("", f'<div class="diagram">{svg}</div>', format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("mermaid", Mermaid)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
