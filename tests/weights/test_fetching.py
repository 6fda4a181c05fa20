"""Files by path and URL: downloaded once, and verified by the hash in their names."""

import hashlib
import http.server
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet_kpt.weights.read import hash_in, local_weights

CONTENT = b"weights"
HASH = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path):
    """A web server on this machine's loopback; yields its folder and its url."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, directory=str(folder), **kwargs)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.mark.parametrize("name", [f"hrnet-{HASH[:8]}.pth", "model.safetensors"])
def test_url_is_downloaded_once(name, server):
    folder, url = server
    (folder / name).write_bytes(CONTENT)
    path = local_weights(f"{url}/{name}")
    assert path.read_bytes() == CONTENT
    (folder / name).unlink()
    assert local_weights(f"{url}/{name}") == path


def test_files_of_one_name_from_two_urls_are_kept_apart(server):
    folder, url = server
    for repository in ("w18", "w32"):
        (folder / repository).mkdir()
        (folder / repository / "model.safetensors").write_bytes(repository.encode())
    paths = [local_weights(f"{url}/{name}/model.safetensors") for name in ("w18", "w32")]
    assert [path.read_bytes() for path in paths] == [b"w18", b"w32"]


def test_other_content_than_the_name_promises_is_not_kept(server, tmp_path, refusal):
    folder, url = server
    (folder / "hrnet-00000000.pth").write_bytes(CONTENT)
    assert "hrnet-00000000.pth" in refusal(local_weights, f"{url}/hrnet-00000000.pth")
    assert not list(tmp_path.glob("torch/**/*.pth"))


def test_downloaded_file_that_was_damaged_is_refused(server, refusal):
    folder, url = server
    url = f"{url}/hrnet-{HASH[:12]}.pth"
    (folder / f"hrnet-{HASH[:12]}.pth").write_bytes(CONTENT)
    path = local_weights(url)
    path.write_bytes(CONTENT[:-1])
    assert f"rename {path}" in refusal(local_weights, url)


def test_url_without_a_file_is_named_with_the_path_and_the_remedy(tmp_path, server, refusal):
    _, url = server
    message = refusal(local_weights, f"{url}/hrnetv2_w18-00eb2006.pth")
    for words in (url, "404", str(tmp_path / "torch"), "train.init_checkpoint=PATH"):
        assert words in message


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        (f"w18-{HASH[:8]}.pth", True),
        (f"w18_coco_20200130-{HASH[:8]}.pth", True),
        (f"w18-{HASH}.safetensors", True),
        ("w18-56651a6d.pth", False),
        (f"w18-{HASH[1:9]}.pth", False),
        ("w18-20231105.pth", True),  # a date
        ("w18-56651a6.pth", True),  # too short
        ("model_final_f10217.pkl", True),  # detectron2's, not of this kind
        ("model_0004999.pth", True),
    ],
)
def test_hash_in_a_path_is_verified(name, fits, tmp_path, refusal):
    path = tmp_path / name
    path.write_bytes(CONTENT)
    if fits:
        assert local_weights(str(path)) == path
    else:
        message = refusal(local_weights, str(path))
        assert name in message and HASH[:8] in message


@given(st.binary(max_size=20), st.integers(8, 64), st.sampled_from(["pth", "safetensors", "bin"]))
def test_beginning_of_a_hash_is_found_whatever_its_length(content, length, suffix):
    beginning = hashlib.sha256(content).hexdigest()[:length]
    assert hash_in(f"my-weights_v2-{beginning}.{suffix}") == beginning


def test_missing_file_is_named_with_its_absolute_path(tmp_path, monkeypatch, refusal):
    monkeypatch.chdir(tmp_path)
    assert f"{tmp_path}/nowhere/w18.pth" in refusal(local_weights, "nowhere/w18.pth")


def test_file_without_permission_is_refused(tmp_path, monkeypatch, refusal):
    (tmp_path / "w18.pth").write_bytes(CONTENT)

    # The tests may run as root, who may read everything.
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    message = refusal(local_weights, str(tmp_path / "w18.pth"))
    assert "w18.pth" in message and "Permission denied" in message
