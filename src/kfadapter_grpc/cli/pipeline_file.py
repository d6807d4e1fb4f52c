"""The file that a command is given, and what it is called."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kfadapter_grpc.cli import python_file
from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.exit_codes import ExitCode
from kfadapter_grpc.cli.invocation import again
from kfadapter_grpc.cli.streams import utf8

if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN = Path("-")
"""Stands for the standard input."""
_SUFFIXES = (".tar.gz", ".tgz", ".yaml", ".yml", ".json", ".zip", ".py")


@dataclass(frozen=True, slots=True)
class PipelineFile:
    """A file that is ready to be sent.

    Attributes:
        path: Where it is.
        name: What its pipeline is called unless somebody says otherwise; empty where nobody knows.
        function: The function of a `.py` that it was compiled from; otherwise empty.
    """

    path: Path
    name: str
    function: str = ""


def default_name(path: Path) -> str:
    """Tells the pipeline's name where none is given: the file's, without its ending."""
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.name


def is_file_name(text: str) -> bool:
    """Tells whether a word that may name a pipeline or a file looks like a file."""
    return text == str(STDIN) or "/" in text or text.lower().endswith(_SUFFIXES)


def check_readable(path: Path) -> None:
    """Sees whether there is a file to read.

    Raises:
        CommandError: There is none.
    """
    if path == STDIN:
        return
    if not path.exists():
        what = f"there is no file {path}"
    elif path.is_dir():
        what = f"{path} is a folder, not a pipeline file"
    elif not os.access(path, os.R_OK):
        what = f"{path} cannot be read: permission denied"
    else:
        return
    raise CommandError(
        what,
        why=f"looked for at {path.absolute()}",
        next_step="the same command with the path of a YAML, JSON, zip, tar.gz or .py file that can be read",
        exit_code=ExitCode.USAGE,
    )


@contextmanager
def pipeline_files(path: Path, function: str | None, seconds: float | None) -> Iterator[list[PipelineFile]]:
    """Gives the files to send: the one that was named, or, of a `.py`, what its pipelines compile to.

    Args:
        path: The named file.
        function: Which pipeline of a `.py` to compile; all of them if not given.
        seconds: How long a compilation may take, if more than usual.

    Raises:
        CommandError: There is no such file, or it cannot be compiled.
    """
    check_readable(path)
    if path.suffix == ".py":
        with python_file.compiled(path, function, seconds) as made:
            yield [PipelineFile(one.path, one.name, one.function) for one in made]
    elif function:
        raise CommandError(
            "--function is for .py files only",
            why=f"{path} is not compiled but sent as it is",
            next_step=again(without="--function"),
            exit_code=ExitCode.USAGE,
        )
    else:
        yield [PipelineFile(path, "" if path == STDIN else utf8(default_name(path)))]


def check_one_for_name(files: list[PipelineFile], path: Path) -> None:
    """Sees whether a name that was given is for one pipeline.

    Raises:
        CommandError: There are several.
    """
    if len(files) > 1:
        raise several(files, path, "--name is for one of them")


def several(files: list[PipelineFile], path: Path, why: str) -> CommandError:
    """Says that a `.py` holds more pipelines than can be meant."""
    listed = ", ".join(one.function for one in files)
    return CommandError(
        f"{path} holds {len(files)} pipelines: {listed}",
        why=why,
        next_step=again("--function", files[0].function),
        exit_code=ExitCode.USAGE,
    )
