"""The window of --show, on a virtual display."""

import multiprocessing
import os
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image, ImageGrab

from hrnet_kpt.inference.predict.window import PART_OF_SCREEN, Window

pytest.importorskip("tkinter")
if shutil.which("Xvfb") is None:
    pytest.skip("no virtual display: apt-get install xvfb", allow_module_level=True)
SCREEN = (640, 480)


@pytest.fixture
def on_display(monkeypatch):
    """Function that calls another one in a process with a virtual display; Xlib ends the process with the display."""
    reading, writing = os.pipe()
    size = f"{SCREEN[0]}x{SCREEN[1]}x24"
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", size, "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as numbers:
        name = f":{numbers.readline().strip()}"
    monkeypatch.setenv("DISPLAY", name)

    def on_display(function, *arguments):
        process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
        process.start()
        process.join(60)
        assert process.exitcode == 0

    yield on_display
    server.terminate()
    server.wait()


def shown(window):
    """The pixels of the window on the display."""
    left, top = window.label.winfo_rootx(), window.label.winfo_rooty()
    right, bottom = left + window.label.winfo_width(), top + window.label.winfo_height()
    return np.asarray(ImageGrab.grab((left, top, right, bottom), xdisplay=os.environ["DISPLAY"]))


def show_images():
    window = Window("test")
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    for image in (Image.new("RGB", (120, 90)), small):
        window.show(image)
        window.update()
    assert np.array_equal(shown(window), np.asarray(small))
    window.show(Image.new("RGB", (1920, 1080), (200, 100, 50)))
    window.update()
    width = round(PART_OF_SCREEN * SCREEN[0])
    assert shown(window).shape == (round(width * 1080 / 1920), width, 3)
    assert (shown(window) == (200, 100, 50)).all()
    window.close()


def close_by(event):
    window, closed = Window("test"), []
    window.on_close = lambda: closed.append(True)
    window.show(Image.new("RGB", (120, 90)))
    if event == "button":  # of the window's frame
        window.root.tk.call(window.root.protocol("WM_DELETE_WINDOW"))
    else:
        window.root.focus_force()
        window.root.event_generate(event)
        window.update()
    assert closed == [True] and not window.is_open
    window.show(Image.new("RGB", (120, 90)))  # does nothing
    window.close()


def test_images_replace_each_other_and_large_ones_are_shrunk(on_display):
    on_display(show_images)


@pytest.mark.parametrize("event", ["<q>", "<Escape>", "button"])
def test_the_user_closes_it(on_display, event):
    on_display(close_by, event)
