"""The page: what happens when a user drops a file, moves a slider, or chooses an example."""

from __future__ import annotations

import html
import logging
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import gradio as gr

from ...errors import UserError
from ..predict.tracking import has_tracking
from .layout import Layout
from .model import SharedModel, find_examples
from .results import KEYPOINT, OBJECT, Settings
from .upload import MAX_ROWS, Shown, Upload, open_upload, predict_upload, show_upload

logger = logging.getLogger(__name__)

TITLE = "Keypoints"
HINT = "Drop an image or a video, take a photograph, or choose an example."
DELETE_EVERY, DELETE_AFTER = 300, 3600  # seconds; files, and what a session remembers
# Predictions wait for one another; drawings do not wait for predictions.
PREDICTIONS: dict[str, Any] = {"concurrency_id": "predictions", "concurrency_limit": 1}
DRAWINGS: dict[str, Any] = {"concurrency_id": "drawings", "concurrency_limit": 4}

PERIOD = 0.5  # seconds between two lines of progress
HIDDEN = gr.update(visible=False)

Outputs = dict[Any, Any]  # new values by component


def build_page(model: SharedModel, folder: str) -> gr.Blocks:
    """The page.

    Args:
        model: The model, which all users share.
        folder: For the files that are shown and downloaded.
    """
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=(DELETE_EVERY, DELETE_AFTER)
    ) as blocks:
        upload = gr.State(None, time_to_live=DELETE_AFTER)
        heading = f"# {TITLE}\n{model.name}: {model.describe()}, on {model.device}"
        layout = Layout(model, heading, _message(HINT), find_examples(model.cfg))
        Page(model, folder, layout, upload).connect()
    return blocks


class Page:
    """What the components do. An upload is predicted once, and drawn again when a slider moves.

    Args:
        model: The model.
        folder: For the files that are shown and downloaded.
        layout: The components.
        upload: The state of a session: its `Upload`, or None.
    """

    def __init__(self, model: SharedModel, folder: str, layout: Layout, upload: gr.State) -> None:
        self.model, self.folder, self.layout, self.upload = model, folder, layout, upload
        self.settings: list[gr.components.Component] = [
            layout.score,
            layout.confidence,
            layout.names,
            layout.mirrored,
            layout.track,
            layout.smooth,
        ]

    def connect(self) -> None:
        """Set what follows each action of a user."""
        layout = self.layout
        hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        shown = [layout.message, layout.image, layout.video, layout.stop, layout.objects]
        shown += [layout.keypoints, layout.json, layout.csv]
        opened = [*shown, layout.file, layout.track, layout.smooth, self.upload]
        predict: dict[str, Any] = {
            "fn": self.predict,
            "inputs": [self.upload, layout.mirrored],
            "outputs": [layout.message, layout.stop],
            **hidden,
            **PREDICTIONS,
        }
        show: dict[str, Any] = {
            "inputs": [self.upload, *self.settings],
            "outputs": shown,
            **hidden,
            **DRAWINGS,
        }
        each: dict[str, Any] = {"trigger_mode": "multiple"}  # also while the one before is running
        for event, inputs, function in (
            (layout.file.upload, [layout.file, self.upload], self.open),
            (layout.webcam.input, [layout.webcam, self.upload], self.open),
            (layout.gallery.select, self.upload, self.open_example),
        ):
            opening = event(function, inputs, opened, **hidden, **each)
            opening.then(**predict, **each).then(self.show, **show, **each)
        last: dict[str, Any] = {"trigger_mode": "always_last"}
        layout.mirrored.input(**predict, **last).then(self.show, **show)
        layout.names.input(self.show, **show, **last)
        for slider in (layout.score, layout.confidence):
            slider.input(self.show_image, **show, **last)
            slider.release(self.show_video, **show, **last)
        for switch in (layout.track, layout.smooth):
            switch.input(self.show_video, **show, **last)
        layout.stop.click(self.stop, self.upload, **hidden)

    def open(self, path: str | None, before: Upload | None) -> Outputs:
        """Check a file, and forget the one before."""
        layout = self.layout
        if path is None:
            return self._unchanged()
        if before is not None:
            before.replaced = True
        empty: Outputs = {
            self.upload: None,
            layout.file: None,  # the next file can be dropped
            layout.objects: _table([], OBJECT),
            layout.keypoints: _table([], KEYPOINT),
            layout.image: gr.update(value=None, visible=True),
            layout.video: gr.update(value=None, visible=False),
            layout.json: gr.update(value=None, interactive=False),
            layout.csv: gr.update(value=None, interactive=False),
            layout.stop: HIDDEN,
        }
        try:
            upload = open_upload(path, self.model.predictors[False].image_range)
        except Exception as error:
            return {**empty, layout.message: _failure(error)}
        tracked = upload.info is not None and has_tracking()
        return {
            **empty,
            self.upload: upload,
            layout.message: _message(f"{upload.item.name}: waiting for the model"),
            layout.track: gr.update(visible=tracked),
            layout.smooth: gr.update(visible=tracked and bool(self.model.schema.names)),
        }

    def open_example(self, before: Upload | None, event: gr.SelectData) -> Outputs:
        """Open an image of the gallery."""
        return self.open(str(self.layout.examples[event.index]), before)

    def predict(self, upload: Upload | None, mirrored: bool) -> Iterator[Outputs]:
        """Find the objects."""
        yield self._unchanged()
        if upload is not None:
            steps = predict_upload(upload, self.model, mirrored)
            yield from self._run(upload, steps, "predicted")

    def show(self, upload: Upload | None, *settings: Any) -> Iterator[Outputs]:
        """Draw what was found."""
        yield self._unchanged()
        chosen = Settings(*settings)
        if upload is not None and chosen.mirrored in upload.found:
            steps = show_upload(upload, self.model, chosen, self.folder)
            yield from self._run(upload, steps, "drawn")

    def show_image(self, upload: Upload | None, *settings: Any) -> Iterator[Outputs]:
        """Draw an image anew while a slider moves."""
        yield from self.show(upload if upload and upload.info is None else None, *settings)

    def show_video(self, upload: Upload | None, *settings: Any) -> Iterator[Outputs]:
        """Draw a video anew when a slider is released."""
        yield from self.show(upload if upload and upload.info else None, *settings)

    def stop(self, upload: Upload | None) -> None:
        """Stop the prediction or the drawing of a video."""
        if upload is not None:
            upload.stopped = True

    def _unchanged(self) -> Outputs:
        """The first output of a generator: gradio clears the outputs of one that has none."""
        return {self.layout.stop: gr.skip()}

    def _run(
        self, upload: Upload, steps: Generator[int | Shown, None, None], done: str
    ) -> Iterator[Outputs]:
        """How far a video is, now and then; then what is shown; errors as sentences."""
        layout, last = self.layout, time.monotonic()
        upload.stopped = False
        try:
            with closing(steps):
                for step in steps:
                    if upload.replaced:
                        yield self._unchanged()
                        return
                    if upload.stopped:
                        yield {layout.message: _message("Stopped."), layout.stop: HIDDEN}
                        return
                    if isinstance(step, Shown):
                        yield self._result(upload, step)
                    elif upload.info is not None and time.monotonic() - last >= PERIOD:
                        last = time.monotonic()
                        yield self._progress(upload, step, done)
        except Exception as error:
            yield {layout.message: _failure(error), layout.stop: HIDDEN}

    def _result(self, upload: Upload, shown: Shown) -> Outputs:
        layout, is_video = self.layout, upload.info is not None
        image, video = (None, shown.drawn) if is_video else (shown.drawn, None)
        return {
            layout.message: _message(_summary(upload, shown)),
            layout.image: gr.update(value=image, visible=not is_video),
            layout.video: gr.update(value=video, visible=is_video),
            layout.stop: HIDDEN,
            layout.objects: _table(shown.objects, OBJECT),
            layout.keypoints: _table(shown.keypoints, KEYPOINT),
            layout.json: gr.update(value=shown.json, interactive=True),
            layout.csv: gr.update(value=shown.csv, interactive=True),
        }

    def _progress(self, upload: Upload, frame: int, done: str) -> Outputs:
        text = f"{upload.item.name}: {frame:,} of about {upload.num_frames:,} frames {done}"
        return {self.layout.message: _message(text), self.layout.stop: gr.update(visible=True)}


def _summary(upload: Upload, shown: Shown) -> str:
    counts = f"{shown.num_objects:,} of {shown.num_found:,} objects"
    if not shown.num_found:
        counts = "no objects found"
    if upload.info is None:
        parts = [f"{upload.item.name}: {upload.size[0]} x {upload.size[1]} pixels, {counts}"]
    else:
        ids = f", {shown.num_ids:,} ids" if shown.num_ids else ""
        parts = [f"{upload.item.name}: {upload.num_frames:,} frames, {counts}{ids}"]
    if upload.problem:
        parts.append(upload.problem)
    if shown.num_objects > MAX_ROWS:
        parts.append(f"the tables have the first {MAX_ROWS:,} rows, the csv has all")
    return "; ".join(parts)


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Rows as a value for gradio; without rows, the columns of `names`."""
    headers = list(rows[0]) if rows else list(names)
    return {"headers": headers, "data": [list(row.values()) for row in rows]}


def _message(text: str, kind: str = "") -> str:
    return f'<p class="{kind}" role="status">{html.escape(text)}</p>'


def _failure(error: Exception) -> str:
    """The message of an error of the user; of another one, that it is in the log."""
    if isinstance(error, UserError):
        return _message(str(error), "failure")
    logger.error("the page failed", exc_info=error)
    return _message(
        "This did not work, and it is not your fault: see the log of the server.", "failure"
    )
