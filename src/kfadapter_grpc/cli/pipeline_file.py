"""The file that a command is given, and what it is called."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kfadapter_grpc.cli.errors import CommandError, ExitCode
from kfadapter_grpc.cli.invocation import again
from kfadapter_grpc.cli.python_file import PipelineFile, compiled
from kfadapter_grpc.cli.streams import STDIN, utf8

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SUFFIXES = (".tar.gz", ".tgz", ".yaml", ".yml", ".json", ".zip", ".py")


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
        what = f"not found: file {path}"
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
        with compiled(path, function, seconds) as made:
            yield made
    elif function:
        raise CommandError(
            "--function is for .py files only",
            why=f"{path} is not compiled but sent as it is",
            next_step=again(without="--function"),
            exit_code=ExitCode.USAGE,
        )
    else:
        yield [PipelineFile(path, "" if path == STDIN else utf8(default_name(path)))]


def several(files: list[PipelineFile], path: Path, why: str) -> CommandError:
    """Says that a `.py` holds more pipelines than can be meant."""
    listed = ", ".join(one.function for one in files)
    return CommandError(
        f"{path} holds {len(files)} pipelines: {listed}",
        why=why,
        next_step=again("--function", files[0].function),
        exit_code=ExitCode.USAGE,
    )
