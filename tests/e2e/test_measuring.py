"""Measuring a Kubeflow Pipelines by hand, and stopping that half-way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from scripts import measure_kfp
from tests.broken_kfp import closed_port
from tests.e2e.conftest import PROGRAM, ROOT, SECONDS
from tests.old_kfp import OldKfp
from tests.repository.test_probes import made_by_probes
from tests.scripted_kfp import Connection
from typing_extensions import override

from kfadapter_grpc.kfp.probes import NO_SAMPLE, PROBES
from kfadapter_grpc.kfp.transport import Transport, TransportSettings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scripted_kfp import Received


class _Deaf(Connection):
    """A connection on which nothing is sent."""

    @override
    def send(self, data: bytes) -> None:
        del data


class HoldingKfp(OldKfp):
    """A KFP that performs one requested operation, and withholds the response.

    Attributes:
        held: Set once that has happened.
    """

    def __init__(self, newer_url: str, path: str) -> None:
        super().__init__(newer_url)
        self.held = threading.Event()
        self._path = path

    @override
    def _behave(self, connection: Connection, received: Received) -> bool:
        if received.method != "POST" or not received.path.partition("?")[0].endswith(self._path):
            return super()._behave(connection, received)
        kept = super()._behave(_Deaf(connection.sock, connection.closing), received)
        self.held.set()
        connection.wait(SECONDS)
        return kept


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/pipelines", "/upload_version", "/runs"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["doctor", "measure-kfp"])
def test_stopping_it_leaves_nothing_behind(
    command: str, number: signal.Signals, path: str, embedded_url: str, tmp_path: Path
) -> None:
    """A signal while KFP still works on a request ends it with 130, and what the request creates is deleted."""
    kfp = HoldingKfp(embedded_url, path)
    with kfp:
        script = [sys.executable, str(ROOT / "scripts" / "measure_kfp.py")]
        program = [PROGRAM, "doctor", "--server"] if command == "doctor" else script
        with subprocess.Popen(
            [*program, "--kfp-url", kfp.url, "--write-probes"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            text=True,
            env={**os.environ, "KFADAPTER_LISTEN": "127.0.0.1:0"},
        ) as process:
            assert kfp.held.wait(SECONDS)
            process.send_signal(number)
            _, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, "delete it by hand" in err) == (130, False)
    with closing(Transport(TransportSettings(embedded_url))) as transport:
        assert made_by_probes(transport) == []


@pytest.mark.slow
def test_the_tables(embedded_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every fact and every cost is a row, with the expected and the found result."""
    assert measure_kfp.main(["--kfp-url", embedded_url, "--write-probes", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    facts, costs = cells[2 : 2 + len(PROBES)], cells[4 + len(PROBES) :]
    assert [row[:3] for row in facts] == [[probe.sentence, probe.newer, probe.older] for probe in PROBES]
    assert {row[3] for row in facts} <= {"yes", "?"}
    assert [row[0] for row in facts if row[3] == "?" and row[4] == NO_SAMPLE] == []
    assert [row[0] for row in costs] == [cost.sentence for cost in measure_kfp.COSTS]
    assert all(float(row[2]) > 0 for row in costs)


def test_facts_that_do_not_hold(embedded_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """If KFP does not do all that 2.17.0 does, the exit code is 1; without the flag only reads are shown."""
    with OldKfp(embedded_url) as old:
        assert measure_kfp.main(["--kfp-url", old.url]) == 1
    out = capsys.readouterr().out
    assert "about 2.5" in out
    assert "lists can be filtered by a tag" in out
    assert "cascade=true" not in out


def test_no_kfp(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a KFP the exit code is 3, and the failed step of the connection is reported."""
    assert measure_kfp.main(["--kfp-url", closed_port()]) == 3
    output = capsys.readouterr()
    assert output.out == ""
    assert ": connection: the connection is refused" in output.err
