"""The file that a command is given: compiled first if it is Python."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN = Path("-")
"""Stands for the standard input."""
_SUFFIXES = (".tar.gz", ".tgz", ".yaml", ".yml", ".json", ".zip", ".py")
_KFP = "from kfp.cli.__main__ import main; main()"  # kfp's own command, which has no `python -m`
COMPILE_SECONDS = 300
"""How long a compilation may take: the file may import large libraries."""


def default_name(path: Path) -> str:
    """Tells the pipeline's name where none is given: the file's, without its ending."""
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.name


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
    raise CommandError(what, exit_code=ExitCode.USAGE)


@contextmanager
def compiled(path: Path, function: str | None) -> Iterator[Path]:
    """Gives the file to send: the one that was named, or, of a `.py`, what it compiles to.

    Args:
        path: The named file.
        function: Which pipeline of a `.py` to compile, if it holds several.

    Raises:
        CommandError: There is no such file, or it cannot be compiled.
    """
    check_readable(path)
    if path.suffix != ".py":
        if function:
            raise CommandError("--function is for .py files only", exit_code=ExitCode.USAGE)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="kfadapter-") as folder:
        output = Path(folder) / "pipeline.yaml"
        _compile(path, function or _only_pipeline(path), output)
        yield output


def pipeline_functions(source: str) -> list[str]:
    """Tells the functions that are decorated as pipelines, in the order of the file."""
    return [
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and any(map(_is_pipeline, node.decorator_list))
    ]


def _is_pipeline(decorator: ast.expr) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
    return name == "pipeline"


def _only_pipeline(path: Path) -> str | None:
    """Tells which function to compile; None leaves it to kfp, which also finds pipelines that are imported."""
    try:
        names = pipeline_functions(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return None  # kfp's own message, from running the file, is better
    if len(names) > 1:
        raise CommandError(
            f"{path} holds {len(names)} pipelines: {', '.join(names)}",
            next_step=f"the same command with --function {names[0]}",
            exit_code=ExitCode.USAGE,
        )
    return names[0] if names else None


def kfp_is_installed() -> bool:
    """Tells whether the SDK is there; a module `kfp` is no proof, as `kfp-pipeline-spec` alone brings one too."""
    try:
        distribution("kfp")
    except PackageNotFoundError:
        return False
    return True


def _compile(path: Path, function: str | None, output: Path) -> None:
    """Compiles in a process of its own: the file is a program, and kfp is large and prints."""
    if not kfp_is_installed():
        raise CommandError(
            f"{path} must be compiled first, and kfp is not installed",
            next_step="pip install kfp",
            exit_code=ExitCode.USAGE,
        )
    command = [sys.executable, "-c", _KFP, "dsl", "compile", "--py", str(path.resolve()), "--output", str(output)]
    if function:
        command += ["--function", function]
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",  # nothing is left beside the user's file
        "PYTHONIOENCODING": "utf-8",
        "PYTHONSAFEPATH": "1",  # the working folder does not decide which modules kfp is made of
    }
    try:
        done = subprocess.run(  # noqa: S603  the user's own file, which the user asked to compile
            command,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=COMPILE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CommandError(f"{path} did not compile within {COMPILE_SECONDS} s", exit_code=ExitCode.TIMED_OUT) from None
    if done.returncode or not output.exists():
        raise CommandError(f"{path} cannot be compiled", why=_last_words(done.stderr), next_step="correct the file")


def _last_words(stderr: str) -> str:
    """Picks the end of a traceback, which names the fault."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    return "\n".join(lines[-3:])
