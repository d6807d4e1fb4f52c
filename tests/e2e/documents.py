"""Runs the code blocks of documents and compares their output with the output shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.e2e.conftest import PROGRAM, ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Adapter

SHOWN_TARGET = "127.0.0.1:50051"
"""The address that documents show."""
SECONDS = 100
"""How long a command may take; what it waits for usually takes a few seconds."""
_VARIES = {
    "AGE": re.compile(r"\b(\d+[dhms] ago|just now)"),
    "PLACE": re.compile(r"file://\S+"),
    "ID": re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
    "DATE": re.compile(r"\d{4}-\d\d-\d\d"),
    "TIME": re.compile(r"\b\d\d:\d\d:\d\d\b"),
    "SECONDS": re.compile(r"\b(\d+m)?\d+(\.\d+)? ?m?s\b"),
}
"""What differs each time."""
_PICTURE = re.compile("[─│╭╰┌└▼]")


def blocks(document: Path, language: str) -> list[str]:
    """The blocks of one kind, in their order."""
    return re.findall(rf"```{language}\n(.*?)```", document.read_text("utf-8"), re.DOTALL)


def commands(document: Path) -> list[tuple[str, str]]:
    """Each command of the console blocks, with the output shown below it."""
    text = "".join(blocks(document, "console"))
    return [(command, shown) for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)]


@dataclass(frozen=True)
class Terminal:
    """A terminal with kfadapter and grpcurl on the path, as a reader has it.

    Attributes:
        target: The adapter to use in place of the address shown in documents.
        has_grpcurl: Whether grpcurl could be installed.
        environment: The environment variables.
    """

    target: str
    has_grpcurl: bool
    environment: dict[str, str]

    def types(self, command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command; its output is as in the terminal, stdout and stderr together."""
        return self._run(["bash", "-o", "pipefail", "-c", command.replace(SHOWN_TARGET, self.target)])

    def runs_python(self, program: str) -> subprocess.CompletedProcess[str]:
        """Runs a Python program."""
        return self._run([sys.executable, "-c", program.replace(SHOWN_TARGET, self.target)])

    def _run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=self.environment,
            timeout=SECONDS,
            check=False,
        )


def terminal(adapter: Adapter, folder: Path) -> Terminal:
    """Makes a terminal.

    Args:
        adapter: The adapter that the commands call.
        folder: An empty folder for the programs.
    """
    found = subprocess.run([ROOT / "scripts" / "grpcurl"], capture_output=True, text=True, check=False)
    (folder / "kfadapter").symlink_to(PROGRAM)
    if found.returncode == 0:
        (folder / "grpcurl").symlink_to(found.stdout.strip())
    elif os.environ.get("CI"):
        pytest.fail(found.stderr)
    path = os.pathsep.join((str(folder), os.environ["PATH"]))
    environment = {**os.environ, "PATH": path, "KFADAPTER_TARGET": adapter.target, "PYTHONUTF8": "1"}
    environment["PYTHONUNBUFFERED"] = "1"  # lines come in the order in which a terminal shows them
    return Terminal(adapter.target, found.returncode == 0, environment)


def check_console(document: Path, typing: Terminal) -> None:
    """Runs every command: each succeeds, and prints at least the lines shown, in order."""
    for command, shown in commands(document):
        if "grpcurl" in command and not typing.has_grpcurl:
            pytest.skip("grpcurl: missing; scripts/grpcurl installs it where Go is there")
        done = typing.types(command)
        assert done.returncode == 0, (command, done.stdout)
        printed = iter(_comparable(done.stdout))
        for line in _comparable(shown):
            assert line in printed, f"$ {command}\nprinted, without the line {line!r} at its place:\n{done.stdout}"


def _comparable(text: str) -> list[str]:
    return [_without_what_varies(line).strip().rstrip(",") for line in text.splitlines() if line.strip() != "..."]


def _without_what_varies(line: str) -> str:
    """A line with placeholders for the varying parts, and single spaces, since column widths depend on those parts."""
    if _PICTURE.search(line):
        return line
    for name, pattern in _VARIES.items():
        line = pattern.sub(name, line)
    return " ".join(line.split())
