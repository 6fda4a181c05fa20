"""The sidebar of the site: its pages in the order of a user's tasks. Sphinx warns of a page that is missing here."""

from pathlib import Path

from sphinx.application import Sphinx

HOME = "README"
# Caption -> pages, and their titles in the sidebar.
NAVIGATION = {
    "Start": {HOME: "Install and try it"},
    "Your own data": {
        "docs/datasets": "Your own keypoints",
        "docs/labelling": "Labelling with predictions",
    },
    "Train": {
        "docs/configs": "Configs",
        "docs/weights": "Weights",
        "docs/training": "Training",
        "docs/tracebacks": "Tracebacks",
        "docs/migration": "From YACS to LazyConfig",
    },
    "Predict": {
        "docs/prediction": "Images",
        "docs/video": "Video",
        "docs/app": "A page in the browser",
    },
    "Deploy": {"docs/deployment": "ONNX, OpenVINO, a server"},
    "Results": {
        "MODEL_ZOO": "Model zoo",
        "docs/comparison": "Comparison with other models",
        "docs/performance": "Speed and memory",
    },
    "Reference": {
        "docs/api/index": "Python API",
        "docs/architecture": "How the code is ordered",
        "CHANGELOG": "Changes",
    },
}


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Append the tables of contents to the home page, where they do not belong on a code host."""
    if page == HOME:
        for caption, titles in NAVIGATION.items():
            entries = [f"{title} <{page}>" for page, title in titles.items()]
            lines = [
                "",
                "",
                "```{toctree}",
                ":hidden:",
                f":caption: {caption}",
                "",
                *entries,
                "```",
            ]
            source[0] += "\n".join(lines).replace(f"<{HOME}>", "<self>")


def write_index(app: Sphinx, error: Exception | None) -> None:
    """Lead the address of the site to the home page."""
    if error is None:
        text = f'<!doctype html><meta http-equiv="refresh" content="0; url={HOME}.html">'
        text += (
            f'<title>{app.config.project}</title><a href="{HOME}.html">{app.config.project}</a>\n'
        )
        Path(app.outdir, "index.html").write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add_navigation)
    app.connect("build-finished", write_index)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
