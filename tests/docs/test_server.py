"""docs/scripts/server.py answers requests, several at a time, and refuses what is no image; Ray Data."""

import io
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from PIL import Image

FOUND = [{"class": "person", "score": score, "box": [0.0, 0, 1, 1]} for score in (0.9, 0.3)]


@pytest.fixture(scope="module")
def server(load_tool):
    return load_tool("docs/scripts/server.py")


class Stub:
    """A predictor that counts images, and waits until it may go on."""

    def __init__(self):
        self.info = {"classes": {"person": []}}
        self.counts, self.entered, self.go_on = [], threading.Event(), threading.Event()
        self.go_on.set()

    def __call__(self, images):
        many = isinstance(images, list)
        self.counts.append(len(images) if many else 1)
        self.entered.set()
        assert self.go_on.wait(60)
        for image in images if many else [images]:
            if image.width > 100:
                raise ValueError("too elongated")
            if image.width == 77:
                raise RuntimeError("a fault of the model")
        return [FOUND] * len(images) if many else FOUND


@pytest.fixture
def stub():
    return Stub()


@pytest.fixture
def client(server, stub):
    with TestClient(server.create_app(stub), raise_server_exceptions=False) as client:
        yield client


def encoded(width=9, height=9, kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, kind)
    return file.getvalue()


def post(client, body, **params):
    return client.post("/predict", content=body, params=params)


def test_objects_above_the_threshold(client):
    assert post(client, encoded()).json() == {"objects": FOUND[:1]}
    assert post(client, encoded(kind="JPEG"), score_threshold=0.2).json() == {"objects": FOUND}
    assert client.get("/health").json() == {"waiting": 0, "classes": ["person"]}


def test_what_is_no_image_is_refused(client, server, monkeypatch, stub):
    for body in (b"", b"text", encoded()[:40], encoded(kind="GIF")[:20]):
        assert post(client, body).status_code == 400
    assert post(client, encoded(), score_threshold=2).status_code == 422
    assert post(client, encoded(101)).status_code == 400  # the predictor's ValueError
    assert post(client, encoded(77)).status_code == 500
    monkeypatch.setattr(server, "MAX_PIXELS", 80)
    assert post(client, encoded()).status_code == 413
    monkeypatch.setattr(server, "MAX_BYTES", 10)
    assert post(client, encoded(8)).status_code == 413
    assert client.get("/predict").status_code == 405
    monkeypatch.undo()
    assert post(client, encoded()).status_code == 200


def test_waiting_requests_are_predicted_together(client, server, stub, monkeypatch):
    stub.go_on.clear()
    with ThreadPoolExecutor(80) as pool:
        first = pool.submit(post, client, encoded())
        assert stub.entered.wait(60)
        widths = [9, 101, 9, 77, *[9] * 6]
        others = [pool.submit(post, client, encoded(width)) for width in widths]
        while client.get("/health").json()["waiting"] < len(others):
            time.sleep(0.01)
        full = [pool.submit(post, client, encoded()) for _ in range(server.MAX_WAITING)]
        while sum(answer.done() for answer in full) < len(others):
            time.sleep(0.01)
        stub.go_on.set()
        assert first.result().status_code == 200
        assert [answer.result().status_code for answer in others] == [
            {101: 400, 77: 500}.get(width, 200) for width in widths
        ]
        refused = [answer.result() for answer in full if answer.result().status_code != 200]
        assert len(refused) == len(others)
        assert all(r.status_code == 503 and "Retry-After" in r.headers for r in refused)
    assert stub.counts[:2] == [1, server.BATCH] and max(stub.counts) == server.BATCH


def test_container_copies_what_the_server_needs(repository):
    lines = (repository / "docs" / "scripts" / "Dockerfile").read_text().splitlines()
    [copied] = [line.split()[1:-1] for line in lines if line.startswith("COPY projects")]
    assert all((repository / path).is_file() for path in copied)
    assert {path.rsplit("/", 1)[1] for path in copied} == {"onnx_runner.py", "server.py"}


@pytest.mark.slow
def test_ray_data_has_the_results_of_the_predictor(
    load_tool, run_folder, synthetic_people, tmp_path
):
    from hrnet_kpt.inference import Predictor

    ray = pytest.importorskip("ray")
    images, output = synthetic_people / "test", tmp_path / "found"
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        load_tool("docs/scripts/ray_predict.py").main([str(run_folder), str(images), str(output)])
    finally:
        ray.shutdown()
    lines = [line for path in output.iterdir() for line in path.read_text().splitlines()]
    rows = {row["image"]: json.loads(row["objects"]) for row in map(json.loads, lines)}
    predictor = Predictor.from_run(run_folder)
    assert {re.sub(".*/", "", name) for name in rows} == {path.name for path in images.iterdir()}
    for name, objects in rows.items():
        expected = predictor(name).objects
        assert len(objects) == len(expected)
        for one, other in zip(objects, expected, strict=True):
            assert one["box"] == pytest.approx(other["box"], abs=0.1)
