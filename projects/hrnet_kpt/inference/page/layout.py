"""The components of the page and how it looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image, ImageOps

from ...data.images import open_image
from ...errors import UserError
from ...visualization.run_images import SCORE_THRESHOLD
from ..predict.tracking import has_tracking
from .model import SharedModel
from .results import KEYPOINT, OBJECT

THUMBNAIL = (144, 144)
CSS = """
.gradio-container { max-width: 1440px !important; margin: 0 auto; }
#title h1 { margin: 0; font-size: 1.4rem; }
#title p { margin: 0; opacity: 0.7; }
#message p { margin: 0; padding: 0.6rem 0.8rem; border-radius: 6px; background: var(--background-fill-secondary); }
#message .html-container { padding: 0; }
#message p.failure { background: var(--error-background-fill); color: var(--error-text-color); }
#image img, #video video { max-height: 72vh; object-fit: contain; }
#examples .grid-wrap { min-height: 0; max-height: none; padding: 0; overflow: hidden; }
#examples .grid-container { grid-template: none / repeat(4, minmax(0, 1fr)); grid-auto-rows: auto; padding: 0; }
#examples .thumbnail-item { width: 100%; height: auto; aspect-ratio: 1; }
#examples_title p { margin: 0 0 -8px; opacity: 0.7; font-size: var(--text-sm); }
#objects *, #keypoints * { font-family: var(--font); }
"""


def theme() -> gr.themes.Base:
    """Colors of the page; its fonts are those that gradio ships."""
    return gr.themes.Default(primary_hue="blue", neutral_hue="slate")


class Layout:
    """The components; must be created in the context of a page.

    Attributes:
        examples: The images of the gallery, in its order.

    Args:
        model: The model.
        heading: Markdown.
        hint: HTML of the first message.
        examples: Images.
    """

    def __init__(
        self, model: SharedModel, heading: str, hint: str, examples: Sequence[Path]
    ) -> None:
        gr.Markdown(heading, elem_id="title")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                self._add_inputs(examples)
                self._add_settings(model)
            with gr.Column(scale=5, min_width=480):
                self._add_results(model, hint)

    def _add_inputs(self, examples: Sequence[Path]) -> None:
        with gr.Tab("File"):
            self.file = gr.File(label="Image or video", height=150, elem_id="file")
        with gr.Tab("Webcam"):
            self.webcam = gr.Image(
                sources=["webcam"], type="filepath", show_label=False, elem_id="webcam"
            )
        thumbnails = {path: image for path in examples if (image := _thumbnail(path))}
        self.examples = list(thumbnails)
        caption = "Examples from the test set"
        gr.Markdown(caption, visible=bool(thumbnails), elem_id="examples_title")
        self.gallery = gr.Gallery(
            list(thumbnails.values()),
            show_label=False,
            container=False,
            columns=4,
            height="auto",
            object_fit="cover",
            allow_preview=False,
            interactive=False,
            buttons=[],
            visible=bool(thumbnails),
            elem_id="examples",
        )

    def _add_settings(self, model: SharedModel) -> None:
        keypoints = bool(model.schema.names)
        slider: dict[str, Any] = {"maximum": 1.0, "step": 0.01, "buttons": []}
        with gr.Group():
            self.score = gr.Slider(
                **slider,
                minimum=model.min_score,
                value=max(SCORE_THRESHOLD, model.min_score),
                label="Min score of an object",
                elem_id="score",
            )
            self.confidence = gr.Slider(
                **slider,
                minimum=0.0,
                value=0.0,
                label="Min confidence of a keypoint",
                visible=keypoints,
                elem_id="confidence",
            )
            self.names = gr.Checkbox(
                label="Write names and confidences of keypoints", visible=keypoints, elem_id="names"
            )
            self.mirrored = gr.Checkbox(
                value=model.mirrored,
                label="Mirrored augmentation (slower)",
                visible=True in model.predictors,
                elem_id="mirrored",
            )
            # Of videos only.
            self.track = gr.Checkbox(
                value=has_tracking(), label="Ids of objects", visible=False, elem_id="track"
            )
            self.smooth = gr.Checkbox(
                label="Smooth keypoints of objects with an id", visible=False, elem_id="smooth"
            )

    def _add_results(self, model: SharedModel, hint: str) -> None:
        fixed: dict[str, Any] = {"show_label": False, "interactive": False}
        table: dict[str, Any] = {"interactive": False, "buttons": [], "show_label": False}
        self.message = gr.HTML(hint, padding=False, elem_id="message")
        self.stop = gr.Button("Stop", size="sm", visible=False, elem_id="stop")
        self.image = gr.Image(**fixed, buttons=["download", "fullscreen"], elem_id="image")
        self.video = gr.Video(
            **fixed,
            buttons=["download"],
            autoplay=True,
            loop=True,
            visible=False,
            elem_id="video",
        )
        with gr.Row():
            button: dict[str, Any] = {"size": "sm", "interactive": False}
            self.json = gr.DownloadButton("Download json", **button, elem_id="json")
            self.csv = gr.DownloadButton("Download csv", **button, elem_id="csv")
        with gr.Tab("Objects"):
            self.objects = gr.Dataframe(headers=list(OBJECT), **table, elem_id="objects")
        with gr.Tab("Keypoints", visible=bool(model.schema.names)):
            self.keypoints = gr.Dataframe(headers=list(KEYPOINT), **table, elem_id="keypoints")


def _thumbnail(path: Path) -> Image.Image | None:
    try:
        return ImageOps.fit(open_image(path), THUMBNAIL)
    except UserError:
        return None
