"""The server: its options, its address and its folder."""

import http.client
import os
import socket
import urllib.request
from pathlib import Path

import pytest

from hrnet_kpt.cli.app import main
from hrnet_kpt.inference.page import server


@pytest.fixture
def refused(capsys):
    """Function of arguments of the command, which returns the line of the error."""

    def refused(*arguments):
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line

    return refused


def test_missing_gradio_is_one_line(refused, run_folder, monkeypatch):
    find_spec = server.find_spec
    monkeypatch.setattr(
        server, "find_spec", lambda name: None if name == "gradio" else find_spec(name)
    )
    assert 'pip install "hrnet_kpt[app]"' in refused("--run", run_folder)


def test_wrong_options_are_refused(refused, run_folder, tmp_path):
    assert "--port 70000" in refused("--run", run_folder, "--port", 70000)
    assert "--host 192.0.2.77" in refused("--run", run_folder, "--host", "192.0.2.77")
    assert str(tmp_path) in refused("--run", tmp_path)
    assert "train.no" in refused("--run", run_folder, "train.no=1")


def test_page_is_local_and_its_files_are_deleted(model, refused, run_folder, monkeypatch):
    monkeypatch.delenv(server.FOLDER, raising=False)
    with server.running_page(model) as url:
        assert url.startswith("http://127.0.0.1:")
        folder = Path(os.environ[server.FOLDER])
        assert folder.is_dir()
        with urllib.request.urlopen(url) as answer:
            content = answer.read().decode()
        assert "Keypoints" in content
        port = int(url.rstrip("/").rpartition(":")[2])
        addresses = {each[4][0] for each in socket.getaddrinfo(socket.gethostname(), None)}
        for address in addresses - {"127.0.0.1", "::1"}:
            with pytest.raises(OSError):
                http.client.HTTPConnection(address, port, timeout=2).connect()
        assert f"--port {port}" in refused("--run", run_folder, "--port", port)
    assert not folder.exists() and server.FOLDER not in os.environ
