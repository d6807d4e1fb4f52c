"""The README's code blocks do what they show."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.e2e.conftest import PROGRAM, ROOT, dev
from tests.e2e.documents import blocks, check_console, commands, terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.documents import Terminal

README = ROOT / "README.md"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A terminal with an empty `kfadapter dev`."""
    with dev(tmp_path_factory.mktemp("readme")) as running:
        yield terminal(running, tmp_path_factory.mktemp("tools"))


@pytest.mark.slow
def test_the_console_blocks(reader: Terminal) -> None:
    """Every command succeeds, and prints at least the lines shown, in order."""
    assert len(commands(README)) >= 5
    check_console(README, reader)


def test_the_python_block(reader: Terminal) -> None:
    """The Python block runs unchanged."""
    (program,) = blocks(README, "python")
    done = reader.runs_python(program)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "train-from-python True"
    assert "epochs NUMBER_INTEGER 20" in lines
    assert lines[-1].startswith("PIPELINE_NOT_FOUND not found: pipeline 'train-from-python'")


def test_the_commands_of_the_bash_blocks_exist(tmp_path: Path) -> None:
    """The scripts named exist, and the commands have the options shown."""
    text = "".join(blocks(README, "bash"))
    for script in re.findall(r"\./(scripts/[\w-]+)", text):
        assert os.access(ROOT / script, os.X_OK), script
    assert "kfadapter serve" in text
    helped = subprocess.run([PROGRAM, "serve", "--help"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "--insecure-listen" in helped.stdout
    assert "--kfp-url" in helped.stdout
