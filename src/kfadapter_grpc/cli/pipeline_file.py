"""The file passed to a command; for a Python file the pipelines that it compiles to, in a separate process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from kfadapter_grpc.child_output import Tail, piped
from kfadapter_grpc.cli.errors import CommandError, ExitCode, UsageError
from kfadapter_grpc.cli.invocation import Step, again
from kfadapter_grpc.cli.output import waiting
from kfadapter_grpc.cli.text import STDIN, utf8

COMPILE_SECONDS = 60.0
"""How long a compilation may take: the file may import large libraries."""
_CORRECT = again(text="once the file is corrected")
_PROGRAM = "kfadapter_embedded.compile_file"
_RESULT = "result.json"
_LAST_LINES = 3
_SUFFIXES = (".tar.gz", ".tgz", ".yaml", ".yml", ".json", ".zip", ".py")


@dataclass(frozen=True, slots=True)
class PipelineFile:
    """A file to be uploaded, the default name of its pipeline, if known, and the function that it was compiled from."""

    path: Path
    name: str
    function: str = ""


def default_name(path: Path) -> str:
    """Returns the default name of the pipeline: the file's, without its extension."""
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.name


def is_file_name(text: str) -> bool:
    """Whether an argument that names a pipeline or a file is a file by its form."""
    return text == str(STDIN) or "/" in text or text.lower().endswith(_SUFFIXES)


def check_readable(path: Path) -> None:
    """Checks that the file can be read."""
    if path == STDIN:
        return
    if not path.exists():
        message = f"not found: file {path}"
    elif path.is_dir():
        message = f"{path} is a folder, not a pipeline file"
    elif not os.access(path, os.R_OK):
        message = f"{path} cannot be read: permission denied"
    else:
        return
    raise UsageError(
        message,
        why=f"no file at {path.absolute()}",
        next_step="the same command with the path of a YAML, JSON, zip, tar.gz or .py file that can be read",
    )


@contextmanager
def pipeline_files(path: Path, function: str | None, seconds: float | None) -> Iterator[list[PipelineFile]]:
    """Yields the files to upload: the file itself, or those that the pipelines of a `.py` compile to in `seconds`."""
    check_readable(path)
    if path.suffix == ".py":
        with compiled(path, function, seconds) as files:
            yield files
    elif function:
        raise UsageError(
            "--function is for .py files only",
            why=f"{path} is not compiled but sent as it is",
            next_step=again(without="--function"),
        )
    else:
        yield [PipelineFile(path, "" if path == STDIN else utf8(default_name(path)))]


def several_pipelines_error(files: list[PipelineFile], path: Path, why: str) -> CommandError:
    """Returns the error for a `.py` with several pipelines where one is expected."""
    listed = ", ".join(file.function for file in files)
    return UsageError(
        f"{path} holds {len(files)} pipelines: {listed}",
        why=why,
        next_step=again("--function", files[0].function),
    )


@contextmanager
def compiled(path: Path, function: str | None, seconds: float | None) -> Iterator[list[PipelineFile]]:
    """Compiles the pipelines of a file; the results are removed at the end of the block."""
    if not kfp_is_installed():
        raise UsageError(
            f"{path} must be compiled first",
            why="kfp, which compiles pipelines, is not installed",
            next_step="pip install 'kfadapter-grpc[embedded]'",
        )
    with tempfile.TemporaryDirectory(prefix="kfadapter-") as folder:
        with waiting(f"compiling {utf8(str(path))}"):
            pipelines = _compile(path, Path(folder), function or "", max(seconds or 0.0, COMPILE_SECONDS))
        yield pipelines


def kfp_is_installed() -> bool:
    """Returns whether the SDK is installed; `kfp-pipeline-spec` alone has a module `kfp`, too."""
    try:
        distribution("kfp")
    except PackageNotFoundError:
        return False
    return True


def _compile(path: Path, folder: Path, function: str, seconds: float) -> list[PipelineFile]:
    try:
        code, output = _run([sys.executable, "-m", _PROGRAM, str(path.resolve()), str(folder), function], seconds)
        result = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
    except subprocess.TimeoutExpired:
        raise CommandError(
            f"{path} was not compiled within {seconds:g} s",
            why="the file runs while it is compiled, and did not come to its end",
            next_step=again("--timeout", f"{5 * seconds:g}", text="gives it more time, if it only is slow"),
            exit_code=ExitCode.TIMED_OUT,
        ) from None
    except FileNotFoundError:
        ending = f"signal {-code}" if code < 0 else f"exit code {code}"
        lines = output.splitlines()[-_LAST_LINES:]
        why = "\n".join([f"its process ended without a result ({ending})", *filter(str.strip, lines)])
        raise CommandError(f"{path} cannot be compiled", why=why, next_step=_CORRECT) from None
    if "fault" in result:
        raise _compile_error(path, result["fault"])
    return [
        PipelineFile(folder / pipeline["file"], pipeline["name"], pipeline["function"])
        for pipeline in result["pipelines"]
    ]


def _compile_error(path: Path, fault: dict[str, str]) -> CommandError:
    """Returns the error: its position, as compilers have it, and the source line; what to install, name or correct."""
    step: str | Step = _CORRECT
    if fault.get("missing"):
        step = f"pip install {fault['missing']}\nthen the same command again; or correct what the file imports"
    elif fault.get("instead"):
        step = again("--function", fault["instead"])
    where = f"{fault['where']}: " if fault["where"] else ""
    why = f"{where}{fault['why']}\n{fault.get('line', '')}".rstrip("\n")
    return CommandError(f"{path} cannot be compiled", why=why, next_step=step)


def _run(command: list[str], seconds: float) -> tuple[int, str]:
    """Runs the compilation, and ends all its processes when it has ended, has timed out or is interrupted.

    Returns its exit code and the end of its output.
    """
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",  # nothing is written next to the user's file
        "PYTHONIOENCODING": "utf-8",
        "PYTHONSAFEPATH": "1",  # the working folder must not shadow modules of kfp
    }
    with subprocess.Popen(  # noqa: S603  the user's own file, which the user compiles
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as child:
        output = Tail(piped(child.stdout))
        try:
            code = child.wait(seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        return code, output.text()
