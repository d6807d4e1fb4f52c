"""Startup time of programs: from exec to the first response, banner or exit."""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.processes import PROGRAM, START_SECONDS, Child
from benchmarks.results import Row, absolute, figure
from benchmarks.rounds import take_turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.stage import Stage

HELP = "kfadapter --help"
"""The command line's help."""
DEV = "kfadapter dev"
"""An embedded KFP and an adapter."""
SERVE = "kfadapter serve"
"""The server alone."""
PYTHON = "python -c pass"
"""What any Python program takes at least."""
SDK = "import kfp"
"""What a program with the SDK takes at least."""
_LAST_LINE = "stop "


def run(stage: Stage) -> Iterator[Row]:
    """Measures all of them alternately; the warm-up fills the disk cache."""
    commands = {
        PYTHON: lambda: _ends(stage, sys.executable, "-c", "pass"),
        SDK: lambda: _ends(stage, sys.executable, "-c", "import kfp"),
        HELP: lambda: _ends(stage, PROGRAM, "--help"),
        SERVE: lambda: _answers(stage),
        DEV: lambda: _shows_its_banner(stage),
    }
    found = take_turns(commands, 1 if stage.scale.quick else 7)
    figures = tuple(figure(command, seconds, scale=1000) for command, seconds in found.items())
    row = Row("startup", "Start-up, from exec to the first response, banner or end", "ms", figures)
    goals = (absolute(row, HELP, "under 300 ms", at_most=300), absolute(row, DEV, "under 3 s", at_most=3000))
    yield replace(row, findings=goals)


def _ends(stage: Stage, *command: str) -> float:
    started = time.perf_counter()
    with Child(command, stage.home) as child:
        child.finish(START_SECONDS)
        return time.perf_counter() - started


def _answers(stage: Stage) -> float:
    """Time to the first successful health check; the caller is already running."""
    url = stage.stand_in_url()
    started = time.perf_counter()
    with stage.borrowed_adapter(url) as adapter:
        ready = time.perf_counter() - started
        with stage.borrowed_caller(adapter) as caller:
            return ready + caller.do("empty").seconds[0]


def _shows_its_banner(stage: Stage) -> float:
    with tempfile.TemporaryDirectory(dir=stage.folder) as data:
        command = [PROGRAM, "dev", "--port", "0", "--kfp-port", "0", "--data", data]
        started = time.perf_counter()
        with Child(command, stage.home) as child:
            while not child.read(START_SECONDS).startswith(_LAST_LINE):
                pass
            return time.perf_counter() - started
