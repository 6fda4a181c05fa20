"""The page in a real browser: Chromium, driven by playwright. Run with -m browser."""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.inference.page import page as module
from hrnet_kpt.inference.page import server
from hrnet_kpt.visualization.draw import BOX

pytestmark = pytest.mark.browser

TIMEOUT = 20_000  # ms
CAMERA = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import expect, sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    assert path, "no Chromium: `apt-get install chromium`, or set CHROMIUM to its path"
    expect.set_options(timeout=TIMEOUT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *CAMERA])
        yield browser
        browser.close()


@pytest.fixture
def url(model):
    with server.running_page(model) as url:
        yield url


class User:
    """A tab of a browser on the page."""

    def __init__(self, browser, url):
        self.context = browser.new_context(viewport={"width": 1400, "height": 1100})
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(TIMEOUT)
        self.requests, self.problems = [], []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.tab.goto(url)
        self.tab.wait_for_selector("#file input[type=file]", state="attached")

    def drop(self, path):
        self.tab.set_input_files("#file input[type=file]", str(path))

    def expect_message(self, text, failure=False):
        from playwright.sync_api import expect

        message = self.tab.locator("#message p")
        expect(message).to_contain_text(text)
        expect(message).to_have_class("failure" if failure else "")

    def move(self, slider, value):
        """Move a slider by the keyboard, which triggers the events of a mouse."""
        self.tab.locator(f"#{slider} input[type=range]").fill(str(value))

    def expect_rows(self, num):
        """The number of rows of the table of objects."""
        from playwright.sync_api import expect

        expect(self.tab.locator('#objects [role=gridcell][data-col="0"]')).to_have_count(num)

    def expect_cell(self, table, row, column, text):
        from playwright.sync_api import expect

        cell = self.tab.locator(f'#{table} [data-testid="cell-{row}-{column}"]')
        expect(cell).to_have_text(text)

    def picture(self):
        """The address of the image on the page, and the number of pixels in it that have the color of boxes."""
        source = self.tab.locator("#image img").get_attribute("src")
        with Image.open(io.BytesIO(self.context.request.get(source).body())) as image:
            difference = np.abs(np.asarray(image, dtype=int) - BOX).max(axis=2)
        return source, int((difference < 40).sum())

    def expect_other_picture(self, source):
        from playwright.sync_api import expect

        expect(self.tab.locator("#image img")).not_to_have_attribute("src", source)
        return self.picture()

    def download(self, button):
        """The text of a file, and its name."""
        with self.tab.expect_download() as started:
            self.tab.locator(f"#{button}").click()
        return Path(started.value.path()).read_text(), started.value.suggested_filename


@pytest.fixture
def new_user(browser, url):
    """Function that opens the page in a context of its own."""
    with contextlib.ExitStack() as stack:

        def new_user(address=url):
            user = User(browser, address)
            stack.callback(user.context.close)
            return user

        yield new_user


def test_sliders_act_on_the_image_without_the_model(model, new_user, image_file):
    user = new_user()
    user.drop(image_file("a.png", 3))
    user.expect_message("a.png: 240 x 160 pixels, 3 of 3 objects")
    user.expect_rows(3)
    source, three = user.picture()
    user.move("score", 0.7)
    user.expect_message("2 of 3 objects")
    user.expect_rows(2)
    source, two = user.expect_other_picture(source)
    user.move("score", 0.95)
    user.expect_message("0 of 3 objects")
    source, none = user.expect_other_picture(source)
    assert three > two > none == 0
    user.move("score", 0.8)
    user.expect_message("1 of 3 objects")
    user.tab.get_by_role("tab", name="Keypoints").click()
    names = model.schema.names  # their confidences go from 0.1 to 0.9
    user.expect_cell("keypoints", 0, 1, names[0])
    source, _ = user.picture()
    user.move("confidence", 0.5)
    user.expect_cell("keypoints", 0, 1, names[8])
    source, _ = user.expect_other_picture(source)
    user.tab.locator("#names input").check()
    user.expect_other_picture(source)
    assert model.predictors[False].calls == 1
    assert user.problems == []
    others = [
        each
        for each in user.requests
        if not each.startswith(("http://127.0.0.1", "data:", "blob:"))
    ]
    assert others == []  # nothing leaves this machine


def test_mirrored_augmentation_is_predicted_once(model, new_user, image_file):
    user = new_user()
    user.drop(image_file("a.png", 1))
    user.expect_message("1 of 1 objects")
    for checked, score in ((True, "0.85"), (False, "0.9"), (True, "0.85")):
        user.tab.locator("#mirrored input").set_checked(checked)
        user.expect_cell("objects", 0, 2, score)
    assert [model.predictors[side].calls for side in (False, True)] == [1, 1]


def test_downloads_are_what_is_shown(new_user, image_file):
    user = new_user()
    user.drop(image_file("a b.png", 3))
    user.expect_message("3 of 3 objects")
    user.move("score", 0.7)
    user.expect_message("2 of 3 objects")
    text, name = user.download("json")
    [record] = [json.loads(line) for line in text.splitlines()]
    assert name == "a b.jsonl" and record["image"] == "a b.png"
    assert [round(found["score"], 3) for found in record["objects"]] == [0.9, 0.75]
    text, name = user.download("csv")
    rows = list(csv.DictReader(text.splitlines()))
    assert name == "a b.csv" and [row["score"] for row in rows] == ["0.9", "0.75"]
    assert rows[0]["left_wrist x"]


def test_wrong_files_are_sentences(model, new_user, browser, image_file, tmp_path, monkeypatch):
    from playwright.sync_api import expect

    monkeypatch.setattr(server, "MAX_FILE_SIZE", "100kb")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "broken.jpg").write_bytes(image_file("whole.jpg", 2).read_bytes()[:300])
    (tmp_path / "none.mp4").write_bytes(b"no frames" * 100)
    (tmp_path / "large.png").write_bytes(bytes(200_000))
    with server.running_page(model) as url:
        user = new_user(url)
        for name in ("notes.txt", "broken.jpg", "none.mp4"):
            user.drop(tmp_path / name)
            user.expect_message(name, failure=True)
            shown = user.tab.inner_text("body")
            assert "Traceback" not in shown and str(tmp_path) not in shown
            assert user.tab.locator("#json").is_disabled()
        user.drop(tmp_path / "large.png")
        toast = user.tab.get_by_text("exceed the maximum allowed size")
        expect(toast).to_contain_text("large.png")
        user.drop(image_file("good.png", 2))  # the page works as before
        user.expect_message("good.png: 240 x 160 pixels, 2 of 2 objects")
        user.context.close()


def test_two_users_see_their_own_results(model, new_user, image_file):
    model.predictors[False].seconds = 1.0
    users = [new_user(), new_user()]
    for user, (name, num) in zip(users, (("one.png", 1), ("three.png", 3)), strict=True):
        user.drop(image_file(name, num))
    users[0].expect_message("one.png: 240 x 160 pixels, 1 of 1 objects")
    users[1].expect_message("three.png: 240 x 160 pixels, 3 of 3 objects")
    users[0].move("score", 0.95)
    users[0].expect_message("one.png: 240 x 160 pixels, 0 of 1 objects")
    users[1].expect_rows(3)
    users[1].expect_message("three.png: 240 x 160 pixels, 3 of 3 objects")
    assert model.predictors[False].calls == 2


def test_video_is_played_with_ids_and_drawn_anew(model, new_user, video_file):
    from playwright.sync_api import expect

    user = new_user()
    user.drop(video_file("clip.mp4", [3] * 10))
    user.expect_message("clip.mp4: 10 frames, 30 of 30 objects, 3 ids")
    video = user.tab.locator("#video video")
    video.wait_for()
    handle = video.element_handle()
    user.tab.wait_for_function("video => video.readyState >= 2", arg=handle)  # it can be played
    assert video.evaluate("video => [video.videoWidth, video.duration]") == [
        240,
        pytest.approx(0.4),
    ]
    text, name = user.download("json")
    assert name == "clip.jsonl" and len(text.splitlines()) == 10
    source = video.get_attribute("src")
    slider = user.tab.locator("#score input[type=range]")
    slider.focus()
    slider.fill("0.7")
    slider.dispatch_event("pointerup")
    user.expect_message("clip.mp4: 10 frames, 20 of 30 objects, 2 ids")
    expect(video).not_to_have_attribute("src", source)
    user.tab.locator("#track input").uncheck()
    user.expect_message("clip.mp4: 10 frames, 20 of 30 objects")
    assert model.predictors[False].calls == 10


def test_video_can_be_stopped(model, new_user, video_file):
    predictor = model.predictors[False]
    predictor.seconds = 0.2
    user = new_user()

    def expect_end():
        end = time.monotonic() + TIMEOUT / 1000
        calls = -1
        while calls != predictor.calls:
            assert time.monotonic() < end
            calls = predictor.calls
            time.sleep(1)
        assert calls < 100

    clip, short = video_file("clip.mp4", [1] * 100), video_file("short.mp4", [1])
    user.drop(clip)
    user.expect_message("of about 100 frames predicted")
    user.tab.locator("#stop").click()
    user.expect_message("Stopped")
    expect_end()
    user.drop(clip)
    user.expect_message("of about 100 frames predicted")
    user.drop(short)  # does not wait for the end of the first one
    user.expect_message("short.mp4: 1 frames, 1 of 1 objects")
    predictor.calls = 0
    user.drop(clip)
    user.expect_message("of about 100 frames predicted")
    user.context.close()
    expect_end()


def test_webcam_and_examples(model, new_user):
    user = new_user()
    user.tab.locator("#examples button").nth(1).click()
    user.expect_message("000001.jpg: 96 x 96 pixels")
    user.tab.get_by_role("tab", name="Webcam").click()
    user.tab.get_by_text("Click to Access Webcam").click()
    camera = user.tab.locator("#webcam video").element_handle()
    user.tab.wait_for_function("video => video.readyState >= 2", arg=camera)
    user.tab.get_by_label("capture photo").click()
    user.expect_message(re.compile(r"^image\.png: \d+ x \d+ pixels"))
    assert model.predictors[False].calls == 2


def test_files_are_deleted(model, new_user, image_file, monkeypatch):
    monkeypatch.setattr(module, "DELETE_EVERY", 1)
    monkeypatch.setattr(module, "DELETE_AFTER", 4)
    with server.running_page(model) as url:
        folder = Path(os.environ[server.FOLDER])

        def files():
            return {path for path in folder.rglob("*") if path.is_file() and path.stat().st_size}

        thumbnails = files()
        user = new_user(url)
        user.drop(image_file("a.png", 1))
        user.expect_message("1 of 1 objects")
        assert len(files()) > len(thumbnails) == 4
        end = time.monotonic() + 20
        while files() != thumbnails:
            assert time.monotonic() < end, files() - thumbnails
            time.sleep(0.2)
        user.context.close()
    assert not folder.exists()
