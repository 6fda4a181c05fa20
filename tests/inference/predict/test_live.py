"""Live video in tools/predict.py, by streams over the loopback and pipes that the tests send themselves.

The frames of the stream are gray, each a little lighter than the one before, so that an image tells its number.
"""

import io
import json
import os
import re
import signal
import socket
import stat
import struct
import sys
import threading
import time
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hrnet_kpt.inference import Predictor
from hrnet_kpt.inference.predict import app, live_reader
from hrnet_kpt.inference.predict.live_sources import live_source
from hrnet_kpt.inference.predict.records import Records
from hrnet_kpt.visualization.video import read_frames

av = pytest.importorskip("av")
TS_PACKET = 188  # bytes
FRAMES, HEAD = 60, 30  # the second part is sent when the model is loaded
STEP = 0.04  # seconds between timestamps
FIRST_GRAY, GRAY_STEP = 20, 3  # of 255


def film(frames=FRAMES, size=(96, 80), gray_step=GRAY_STEP):
    """MPEG-TS, in a piece for each frame."""
    file, ends = io.BytesIO(), [0]
    with av.open(file, "w", format="mpegts", options={"flush_packets": "1"}) as container:
        stream = container.add_stream("mpeg2video", rate=round(1 / STEP))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size = 5
        for number in range(frames):
            gray = np.full((size[1], size[0], 3), FIRST_GRAY + gray_step * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(gray, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
            ends.append(file.tell())
        container.mux(stream.encode(None))
    content = file.getvalue()
    ends = sorted({*ends[:-1], len(content)})  # the encoder keeps the first frame for a while
    return [content[start:end] for start, end in pairwise(ends)]


@pytest.fixture(scope="module")
def pieces():
    return film()


@pytest.fixture
def play(monkeypatch):
    """Function of a function and pieces: it calls it with each.

    Behind HEAD pieces, it waits for the model before every other piece, or before one of `waits`.
    """
    calls, call = threading.Semaphore(0), Predictor.__call__

    def called(self, images, color="RGB"):
        calls.release()
        return call(self, images, color)

    monkeypatch.setattr(Predictor, "__call__", called)

    def play(send, pieces, waits=range(HEAD, 10**6, 2)):
        for number, piece in enumerate(pieces):
            if number in waits:
                calls.acquire(timeout=60 if number == HEAD else 5)
            send(piece)
            if number < HEAD:
                time.sleep(0.02)

    return play


@pytest.fixture
def in_thread():
    """Function that calls another one in a thread."""

    def in_thread(function, *arguments):
        def work():
            with suppress(OSError):  # the reader is gone
                function(*arguments)

        threading.Thread(target=work, daemon=True).start()

    return in_thread


@pytest.fixture
def serve(in_thread, monkeypatch):
    """Function of what to do with each connection in turn; it returns the port. After the last one, it is closed."""
    monkeypatch.setattr(live_reader, "TIMEOUT", 60.0)
    with ExitStack() as stack:

        def serve(*talks):
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def work():
                with server:
                    for talk in talks:
                        connection, _ = server.accept()
                        with connection, suppress(OSError):
                            talk(connection)

            in_thread(work)
            return server.getsockname()[1]

        yield serve


def tcp(play, pieces):
    return lambda connection: play(connection.sendall, pieces)


def http(play, pieces, recording=False):
    def talk(connection):
        def send(piece):
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))

        connection.recv(4096)
        length = sum(map(len, pieces))
        kind = f"Content-Length: {length}" if recording else "Transfer-Encoding: chunked"
        connection.sendall(f"HTTP/1.1 200 OK\r\n{kind}\r\n\r\n".encode())
        play(connection.sendall if recording else send, pieces)
        if not recording:
            send(b"")

    return talk


def rtsp(play, pieces):
    """A server of MPEG-TS in RTP (RFC 2250), interleaved with RTSP (RFC 2326, 10.12)."""
    description = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\n"

    def talk(connection):
        sequence = 0

        def send(piece):
            nonlocal sequence
            for start in range(0, len(piece), 7 * TS_PACKET):
                payload = piece[start : start + 7 * TS_PACKET]
                header = struct.pack(">BBHII", 0x80, 33, sequence, 1800 * sequence, 1)
                framed = struct.pack(">BBH", ord("$"), 0, len(header + payload))
                connection.sendall(framed + header + payload)
                sequence += 1

        requests = connection.makefile("rb")
        for line in requests:
            method, fields = line.split()[0], {}
            while (line := requests.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                fields[name.lower()] = value.strip().decode()
            answer = f"RTSP/1.0 200 OK\r\nCSeq: {fields[b'cseq']}\r\nSession: 1\r\n"
            if method == b"DESCRIBE":
                answer += "Content-Type: application/sdp\r\n"
                answer += f"Content-Length: {len(description)}\r\n\r\n{description}"
            elif method == b"SETUP":
                answer += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
            else:
                answer += "\r\n"
            connection.sendall(answer.encode())
            if method == b"PLAY":
                return play(send, pieces)

    return talk


def free_udp_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def is_bound(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def udp(play, pieces, port):
    while not is_bound(port):
        time.sleep(0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        play(lambda piece: one.sendto(piece, ("127.0.0.1", port)), pieces)


@pytest.fixture
def start(serve, in_thread, play, tmp_path, monkeypatch):
    """Function of a kind and pieces: it sends the stream, and returns what to give as --input."""
    monkeypatch.chdir(tmp_path)

    def write(path, pieces, *waits):
        with open(path, "wb", buffering=0) as pipe:
            play(pipe.write, pieces, *waits)

    def start(kind, pieces, *waits):
        if kind == "udp":
            port = free_udp_port()
            in_thread(udp, play, pieces, port)
            return f"udp://127.0.0.1:{port}"
        if kind == "pipe":
            os.mkfifo("camera")
            in_thread(write, "camera", pieces, *waits)
            return "camera"
        talk = {"tcp": tcp, "http": http, "rtsp": rtsp}[kind](play, pieces)
        return f"{kind}://127.0.0.1:{serve(talk)}/camera"

    return start


def counts(output):
    """Frames that were predicted and dropped, and connections that were restored, by the last line."""
    return tuple(map(int, re.findall(r": (\d+)", output.splitlines()[-1])))


JSON = ["--score-thresh", "0", "--json", "found.jsonl"]


@pytest.mark.parametrize("kind", ["tcp", "http", "rtsp", "udp", "pipe"])
def test_every_kind_of_stream(predict, start, pieces, seen, lines_of, capsys, monkeypatch, kind):
    """The end of a stream without --reconnect is no problem, but for UDP, which has no end."""
    if kind == "udp":
        monkeypatch.setattr(live_reader, "TIMEOUT", 2.0)
    address = start(kind, pieces)
    again = ["--reconnect", "0"] if kind != "pipe" else []
    status = predict("--input", address, *again, "--output", "out", *JSON)
    assert status == (3 if kind == "udp" else 0)
    records = lines_of("found.jsonl")
    numbers = np.array([record["frame"] for record in records])
    times = np.array([record["time"] for record in records])
    predicted, dropped, _ = counts(capsys.readouterr().out)
    assert predicted == len(records) == len(seen) >= 3 and dropped == numbers[-1] + 1 - predicted
    assert times[0] == numbers[0] == 0 and len({record["image"] for record in records}) == 1
    assert (np.diff(times) >= STEP * np.diff(numbers) - 1e-5).all()
    grays = np.array([np.asarray(image).mean() for image in seen])
    np.testing.assert_allclose(grays - grays[0], GRAY_STEP * numbers, atol=2)
    [video] = Path("out").iterdir()
    assert video.name == f"{records[0]['image']}.mp4"
    frames = list(read_frames(video))
    assert [float(frame.time) for frame in frames] == pytest.approx(times.tolist(), abs=1e-4)
    assert frames[0].image.size == (96, 80)


def test_frames_are_dropped_when_the_model_is_slow(predict, start, monkeypatch, lines_of, capsys):
    """The model gets the newest frame, however many came before it, and memory does not grow."""
    import psutil

    frames, sizes, call = film(400, (640, 480), 0), [], Predictor.__call__

    def slow(self, images, color="RGB"):
        sizes.append(psutil.Process().memory_info().rss / 1e6)
        time.sleep(0.1)
        return call(self, images, color)

    monkeypatch.setattr(Predictor, "__call__", slow)
    assert predict("--input", start("pipe", frames, {HEAD}), *JSON) == 0
    predicted, dropped, _ = counts(capsys.readouterr().out)
    records = lines_of("found.jsonl")
    assert predicted == len(records) < dropped == records[-1]["frame"] + 1 - predicted
    assert max(sizes) - sizes[0] < 50, "400 frames have 184 MB"


def test_a_lost_connection_is_restored(
    predict, serve, play, pieces, monkeypatch, lines_of, files_in, capsys, caplog, tmp_path
):
    """Numbers and times go on; after the second loss nobody answers: status 3, and the files are whole."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(live_reader, "FIRST_WAIT", 0.1)
    port = serve(tcp(play, pieces), tcp(play, pieces))
    address = f"tcp://127.0.0.1:{port}"
    assert predict("--input", address, "--output", "out", *JSON, "--reconnect", "1.5") == 3
    out, err = capsys.readouterr()
    records = lines_of("found.jsonl")
    predicted, dropped, again = counts(out)
    assert (predicted, again) == (len(records), 1)
    assert predicted + dropped == records[-1]["frame"] + 1 > FRAMES, "of both connections"
    assert (np.diff([record["time"] for record in records]) > 0).all()
    assert len(list(read_frames(Path("out") / files_in("out")[0]))) == predicted
    lost, restored, lost_again = [line for line in caplog.messages if address in line]
    assert "for up to 1.5 seconds" in lost and lost == lost_again and "again after" in restored
    assert err.count(f"{address}: ") == 2, "as it occurs, and in the summary"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("file", ["found.json", "found.jsonl"])
def test_a_signal_ends_with_whole_files(
    predict, start, pieces, monkeypatch, files_in, capsys, number, file
):
    append, calls = Records.append, []

    def stopping(self, record):
        append(self, record)
        calls.append(record)
        if len(calls) == 4:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Records, "append", stopping)
    before = signal.getsignal(number)
    address = start("tcp", pieces)
    arguments = ["--track", "--smooth"] if find_spec("trackers") else []
    arguments += ["--input", address, "--score-thresh", "0", "--output", "out", "--json", file]
    assert predict(*arguments) == 128 + number
    assert signal.getsignal(number) is before
    out, err = capsys.readouterr()
    assert err.splitlines()[-1].startswith("stopped")
    predicted, _, _ = counts(out)
    assert predicted == len(calls) >= 4
    lines = Path(file).read_text().splitlines()
    if file == "found.json":
        frames = {result["frame"] for result in json.loads("".join(lines))}
    else:
        frames = {json.loads(line)["frame"] for line in lines}
    assert frames == {record["frame"] for record in calls}
    [video] = files_in("out")
    assert len(list(read_frames(Path("out") / video))) == predicted
    assert not list(Path(".").rglob("*unfinished*"))


def test_a_signal_while_the_model_is_loaded_leaves_whole_files(
    predict, start, pieces, monkeypatch, capsys
):
    monkeypatch.setattr(app, "Predictor", killing(app.Predictor))
    assert predict("--input", start("tcp", pieces), "--json", "found.json") == 130
    assert json.loads(Path("found.json").read_text()) == []
    assert counts(capsys.readouterr().out)[0] == 0


def killing(function):
    def call(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return function(*arguments)

    return call


def test_the_standard_input(predict, play, in_thread, pieces, tmp_path, monkeypatch, lines_of):
    monkeypatch.chdir(tmp_path)
    reading, writing = os.pipe()
    saved = os.dup(0)
    os.dup2(reading, 0)
    os.close(reading)
    pipe = os.fdopen(writing, "wb", buffering=0)

    def write():
        with pipe:
            play(pipe.write, pieces)

    try:
        in_thread(write)
        assert predict("--input", "-", *JSON) == 0
    finally:
        os.dup2(saved, 0)
        os.close(saved)
    assert {record["image"] for record in lines_of("found.jsonl")} == {"stdin"}


@pytest.mark.parametrize(
    ("path", "words"), [("found.jsonl", "is a file"), ("/dev/null", "from a pipe"), (None, "no")]
)
def test_a_standard_input_that_is_no_pipe(predict, tmp_path, monkeypatch, capsys, path, words):
    monkeypatch.chdir(tmp_path)
    Path("found.jsonl").touch()
    saved = os.dup(0)
    if path is None:
        os.close(0)
    else:
        with open(path, "rb") as file:
            os.dup2(file.fileno(), 0)
    try:
        assert predict("--input", "-", *JSON) == 2
    finally:
        os.dup2(saved, 0)
        os.close(saved)
    assert_one_error(capsys, "--input -", words)


class FakeWindow:
    """A window that is closed after the third image."""

    def __init__(self, title):
        self.images = []

    def show(self, image):
        self.images.append(image)
        if len(self.images) == 3:
            self.on_close()

    def update(self):
        pass

    close = update


def test_closing_the_window_ends_the_stream(
    predict, start, pieces, monkeypatch, files_in, lines_of, capsys
):
    monkeypatch.setattr(app, "Window", FakeWindow)
    address = start("tcp", pieces)
    assert predict("--input", address, "--show", "--output", "out", *JSON) == 0
    predicted, _, _ = counts(capsys.readouterr().out)
    assert predicted == len(lines_of("found.jsonl")) >= 3
    [video] = files_in("out")
    assert len(list(read_frames(Path("out") / video))) == predicted


def assert_one_error(capsys, *words):
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and all(word in line for word in words), line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tcp://127.0.0.1:1"], ["tcp://127.0.0.1:1", "refused"]),
        (["rtsp://me:secret@127.0.0.1:1/x?token=secret"], ["rtsp://127.0.0.1:1/x", "refused"]),
        (["/dev/null"], ["/dev/null"]),  # which is no camera
        (["/dev/video99"], ["/dev/video99", "no such file"]),
        (["udp://"], ["udp://", "HOST"]),
        (["tcp://127.0.0.1:x"], ["tcp://127.0.0.1:x"]),
        (["tcp://a:1", "tcp://b:1"], ["tcp://a:1", "alone"]),
        (["photos", "tcp://a:1"], ["tcp://a:1", "alone"]),
        (["photos", "--reconnect", "5"], ["--reconnect"]),
        (["tcp://a:1", "--reconnect", "-1"], ["--reconnect -1"]),
        (["ftp://a/x.mp4"], ["ftp://a/x.mp4", "rtsp://"]),
        (["tcp://a:1", "--annotations", "photos.json"], ["--annotations"]),
    ],
    ids=lambda value: " ".join(value) if "://" in value[0] else None,
)
def test_wrong_arguments_are_one_line_and_status_2(
    predict, photos, capsys, monkeypatch, arguments, words
):
    monkeypatch.setattr(Predictor, "__call__", None)
    Path("found.jsonl").write_bytes(b"")
    assert predict("--input", *arguments, "--json", "found.jsonl", "--restart") == 2
    assert_one_error(capsys, *words)


def test_the_password_is_not_shown():
    source = live_source("rtsp://me:secret@camera.lan:554/live/1?token=secret")
    assert source.address == "rtsp://me:secret@camera.lan:554/live/1?token=secret"
    assert (source.shown, source.name) == (
        "rtsp://camera.lan:554/live/1",
        "camera.lan_554_live_1",
    )


@pytest.mark.parametrize("silent", ["tcp", "udp", "pipe"])
def test_who_never_answers_is_an_error(
    predict, serve, silent, tmp_path, monkeypatch, capsys, lines_of
):
    """Within TIMEOUT; and what an earlier run has recorded stays, even with --restart."""
    monkeypatch.chdir(tmp_path)
    over = threading.Event()
    address = "camera"
    if silent == "pipe":
        os.mkfifo(address)
    elif silent == "tcp":
        address = f"tcp://127.0.0.1:{serve(lambda connection: over.wait(30))}"
    else:
        address = f"udp://127.0.0.1:{free_udp_port()}"
    monkeypatch.setattr(live_reader, "TIMEOUT", 0.5)
    before = json.dumps({"fingerprint": "of earlier", "image": "camera", "frame": 0}) + "\n"
    Path("found.jsonl").write_text(before)
    assert predict("--input", address, *JSON, "--restart") == 2
    over.set()
    assert_one_error(capsys, address, "0.5 seconds")
    assert Path("found.jsonl").read_text() == before


def test_a_recording_is_not_live(predict, serve, play, clip, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content = clip("clip.mp4").read_bytes()
    port = serve(http(play, [content], recording=True))
    assert predict("--input", f"http://127.0.0.1:{port}/clip", *JSON) == 2
    assert_one_error(capsys, "download")


@pytest.mark.parametrize(
    "arguments", [["--json", "found.jsonl"], ["--json", "found.json"], ["--output", "out"]]
)
def test_recordings_are_not_continued_and_not_overwritten(
    predict, start, pieces, files_in, capsys, arguments
):
    address = start("pipe", pieces)
    for file in ("found.jsonl", "found.json.unfinished", "out/camera.mp4"):
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).touch()
    if arguments[0] == "--output":
        Path("out/camera.mp4").unlink()
        assert predict("--input", address, *arguments) == 0
        os.unlink("camera")
        address = start("pipe", pieces)
    before = files_in(".")
    capsys.readouterr()
    assert predict("--input", address, *arguments) == 2
    assert_one_error(capsys, arguments[1], "--restart")
    assert files_in(".") == before
    with open("camera", "rb"):  # the stream has not been opened
        pass


def test_a_camera_is_read_by_v4l2(monkeypatch):
    """The mapping only: here is no camera."""
    status = os.stat_result((stat.S_IFCHR | 0o660, *[0] * 9))
    monkeypatch.setattr(os, "stat", lambda path: status)
    source = live_source("/dev/video0")
    assert (source.address, source.name, source.format) == ("/dev/video0", "video0", "v4l2")
    assert av.format.ContainerFormat("v4l2").is_input
    assert not source.is_pipe


def test_a_missing_display_or_tkinter_is_one_line(predict, photos, monkeypatch, capsys):
    monkeypatch.delenv("DISPLAY", raising=False)
    assert predict("--input", "photos", "--show") == 2
    assert_one_error(capsys, "--show", "display")
    monkeypatch.setitem(sys.modules, "tkinter", None)
    assert predict("--input", "photos", "--show") == 2
    assert_one_error(capsys, "--show", "python3-tk")
