"""What the page does with files and examples, without a browser."""

import gradio as gr
import pytest
from omegaconf import OmegaConf

from hrnet_kpt.inference.page import page as module
from hrnet_kpt.inference.page.layout import Layout
from hrnet_kpt.inference.page.model import find_examples
from hrnet_kpt.inference.page.page import Page
from hrnet_kpt.inference.page.results import Settings


@pytest.fixture
def page(model, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with gr.Blocks(analytics_enabled=False):
        upload = gr.State(None)
        layout = Layout(model, "", "", find_examples(model.cfg))
        new = Page(model, str(tmp_path), layout, upload)
        new.connect()
    return new


def outputs_of(steps):
    """All outputs of a generator, the last ones in the end."""
    return {component: value for outputs in steps for component, value in outputs.items()}


def test_image_is_opened_predicted_and_shown(page, image_file):
    opened = page.open(str(image_file("a.png", 3)), None)
    upload = opened[page.upload]
    assert opened[page.layout.file] is None  # ready for the next one
    assert not opened[page.layout.track]["visible"]
    list(page.predict(upload, False))
    shown = outputs_of(page.show(upload, *vars(Settings(score=0.7)).values()))
    assert "240 x 160" in shown[page.layout.message] and "2 of 3" in shown[page.layout.message]
    assert shown[page.layout.image]["visible"] and not shown[page.layout.video]["visible"]
    assert len(shown[page.layout.objects]["data"]) == 2
    assert shown[page.layout.json]["value"].endswith("/a.jsonl")


def test_settings_are_in_the_order_of_the_components(page):
    ids = [component.elem_id for component in page.settings]
    assert ids == list(vars(Settings()))


def test_error_of_the_user_is_a_sentence_and_forgets_the_upload_before(page, tmp_path):
    (tmp_path / "<b>.txt").write_text("hello")
    opened = page.open(str(tmp_path / "<b>.txt"), None)
    assert opened[page.upload] is None and opened[page.layout.image]["value"] is None
    message = opened[page.layout.message]
    assert "failure" in message and "&lt;b&gt;.txt" in message and str(tmp_path) not in message


def test_other_error_is_in_the_log_only(page, image_file, monkeypatch, caplog):
    upload = page.open(str(image_file("a.png", 1)), None)[page.upload]

    def fail(images):
        raise RuntimeError("secret /path")

    page.model.predictors[False] = type("Failing", (), {"image_range": "8-bit"})()
    monkeypatch.setattr(type(page.model.predictors[False]), "__call__", lambda self, _: fail(_))
    message = outputs_of(page.predict(upload, False))[page.layout.message]
    assert "failure" in message and "secret" not in message and "Traceback" not in message
    assert "secret /path" in caplog.text
    assert len(list(page.show(upload, *vars(Settings()).values()))) == 1  # nothing changes


def test_stop_and_the_next_file_end_what_is_done_with_a_video(
    page, video_file, image_file, monkeypatch
):
    monkeypatch.setattr(module, "PERIOD", 0)
    message, predictor = page.layout.message, page.model.predictors[False]
    upload = page.open(str(video_file("clip.mp4", [1] * 6)), None)[page.upload]

    def start(running):
        next(running)
        assert "1 of about 6" in next(running)[message]
        return running

    running = start(page.predict(upload, False))
    page.stop(upload)
    assert "Stopped" in outputs_of(running)[message] and predictor.calls == 2
    outputs_of(page.predict(upload, False))
    assert predictor.calls == 2 + 6
    running = start(page.show(upload, *vars(Settings()).values()))
    page.open(str(image_file("a.png", 1)), upload)
    assert message not in outputs_of(running)


def test_examples_are_those_of_the_test_set(real_model, synthetic_people, page):
    paths = find_examples(real_model.cfg)
    assert [path.name for path in paths] == [f"{i:06}.jpg" for i in range(4)]
    assert {path.parent for path in paths} == {synthetic_people / "test"}
    assert len(find_examples(real_model.cfg, 2)) == 2
    select = gr.SelectData(None, {"index": 2, "value": None})
    assert page.open_example(None, select)[page.upload].item.path == paths[2]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"images": [{"file_name": "no.jpg"}]}'])
def test_without_a_test_set_there_are_no_examples(content, tmp_path):
    if content is not None:
        (tmp_path / "test.json").write_text(content)
    paths = {"annotations": f"{tmp_path}/test.json", "images": str(tmp_path)}
    assert find_examples(OmegaConf.create({"data": {"test": paths}})) == []
    assert find_examples(OmegaConf.create({"data": {}})) == []
