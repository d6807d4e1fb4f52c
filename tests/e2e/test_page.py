"""The page that `kfadapter dev` serves, as users start it."""

from __future__ import annotations

import signal
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import urllib3
from tests.e2e.conftest import SECONDS, Adapter, dev, spawned

from kfadapter_console.live import MEDIA_TYPE
from kfadapter_embedded import page_process

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def _line(running: Adapter) -> str:
    return next(line.split(maxsplit=1)[1] for line in running.output if line.startswith("page "))


def _get(url: str, path: str = "/healthz") -> str:
    """Gets what a browser that is sent there at once gets; connections are queued until the page is loaded."""
    return urllib3.request("GET", url + path, retries=False, timeout=SECONDS).data.decode()


def _is_refused(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_the_page_comes_and_goes_with_dev(number: signal.Signals, tmp_path: Path) -> None:
    """The page of the banner answers, asks the adapter, and ends quietly with dev, even if that is killed."""
    with dev(tmp_path, "--page-port", "0") as running:
        url = _line(running)
        assert _get(url) == "ok\n"
        assert running.printed("runs", "open", "--print") == f"{url}/runs\n"
        assert running.target in _get(url, "/health")
        running.process.send_signal(number)
        assert running.process.communicate(timeout=SECONDS) == ("", "")  # the page has closed stderr, too
        assert running.process.returncode == (-9 if number == signal.SIGKILL else 0)
        assert _is_refused(url)


def test_dev_stops_quietly_while_a_live_page_is_open(tmp_path: Path) -> None:
    """Live pages end with dev, soon and without a word."""
    with dev(tmp_path, "--page-port", "0") as running:
        run = running.run("run", "tests/data/pipelines/sleeps.yaml", "-o", "name").stdout.decode().strip()
        url = f"{_line(running)}/runs/{run}"
        with closing(
            urllib3.request(
                "GET", url, headers={"accept": MEDIA_TYPE}, retries=False, timeout=SECONDS, preload_content=False
            )
        ) as live:
            assert live.read(20).startswith(b"retry: ")
            running.process.send_signal(signal.SIGINT)
            assert running.process.communicate(timeout=SECONDS) == ("", "")
            assert running.process.returncode == 0


def test_a_named_port_must_be_free(tmp_path: Path) -> None:
    """A port that was named for the page and is in use is an error, as for the other ports."""
    with socket.create_server((page_process.HOST, 0)) as other:
        taken = str(other.getsockname()[1])
        with spawned("dev", "--port", "0", "--kfp-port", "0", "--page-port", taken, "--data", str(tmp_path)) as one:
            assert f"error: port {taken}, which the page would listen on, is in use" in one.communicate()[1]


def test_other_settings_do_not_reach_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of dev asks the adapter of dev, without a token, whatever the environment has for other commands."""
    for name, value in {"KFADAPTER_TOKEN": "a b", "KFADAPTER_TARGET": "192.0.2.1:1", "KFADAPTER_TLS": "1"}.items():
        monkeypatch.setenv(name, value)
    with dev(tmp_path, "--page-port", "0") as running:
        assert running.target in _get(_line(running), "/health")
