"""The README's code blocks do what they show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.e2e.conftest import PROGRAM, ROOT, SECONDS, dev

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Adapter

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
SHOWN = "127.0.0.1:50051"
_VARIES = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapter]:
    """What `kfadapter dev` starts, with nothing in it."""
    with dev(tmp_path_factory.mktemp("readme")) as running:
        yield running


@pytest.fixture(scope="module")
def environment(fresh: Adapter, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A terminal in which kfadapter and grpcurl are there, as a reader has it."""
    found = subprocess.run([ROOT / "scripts" / "grpcurl"], capture_output=True, text=True, check=False)
    tools = tmp_path_factory.mktemp("tools")
    (tools / "kfadapter").symlink_to(PROGRAM)
    if found.returncode == 0:
        (tools / "grpcurl").symlink_to(found.stdout.strip())
    elif os.environ.get("CI"):
        pytest.fail(found.stderr)
    path = os.pathsep.join((str(tools), os.environ["PATH"]))
    return {**os.environ, "PATH": path, "KFADAPTER_TARGET": fresh.target, "PYTHONUTF8": "1", "PYTHONPATH": ""}


def _commands() -> list[tuple[str, str]]:
    """Each command of the console blocks, and what is shown below it."""
    text = "".join(body for language, body in BLOCKS if language == "console")
    return [(command, shown) for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)]


def _lines(text: str) -> list[str]:
    return [_VARIES.sub("ID", line).strip().rstrip(",") for line in text.splitlines() if line.strip() != "..."]


def test_the_console_blocks(fresh: Adapter, environment: dict[str, str]) -> None:
    """Every command succeeds, and prints at least the lines that are shown, in their order."""
    assert len(_commands()) >= 5
    for command, shown in _commands():
        if "grpcurl" in command and "grpcurl" not in os.listdir(environment["PATH"].split(os.pathsep)[0]):  # noqa: PTH208
            pytest.skip("grpcurl: missing; scripts/grpcurl installs it where Go is there")
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command.replace(SHOWN, fresh.target)],
            capture_output=True, text=True, cwd=ROOT, env=environment, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stderr)
        printed = iter(_lines(done.stdout))
        assert all(line in printed for line in _lines(shown)), (command, done.stdout)


def test_the_python_block(fresh: Adapter, environment: dict[str, str]) -> None:
    """It runs as it stands."""
    (program,) = [body for language, body in BLOCKS if language == "python"]
    done = subprocess.run(
        [sys.executable, "-c", program.replace(SHOWN, fresh.target)],
        capture_output=True, text=True, cwd=ROOT, env=environment, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "train-from-python True"
    assert "epochs NUMBER_INTEGER 20" in lines
    assert lines[-1].startswith("PIPELINE_NOT_FOUND there is no pipeline named 'train-from-python'")


def test_the_commands_of_the_bash_blocks_exist(tmp_path: Path) -> None:
    """Scripts that are named are there, and commands know the options that are shown."""
    text = "".join(body for language, body in BLOCKS if language == "bash")
    for script in re.findall(r"\./(scripts/[\w-]+)", text):
        assert os.access(ROOT / script, os.X_OK), script
    assert "kfadapter serve" in text
    helped = subprocess.run([PROGRAM, "serve", "--help"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "--insecure-listen" in helped.stdout
    assert "--kfp-url" in helped.stdout
