"""`python -m kfadapter_embedded.compile_file FILE FOLDER [FUNCTION]`: compiles the pipelines of a Python file.

Runs in its own process, because the file is a program: it may print, exit, or never end. The result is written to
`FOLDER/result.json`: the compiled pipelines, or the error. The process ends when its standard input is closed, that is,
when its parent process has ended.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

_LONGEST_FAULT = 4000
RESULT = "result.json"


class FileFaultError(Exception):
    """The file cannot be compiled; the message has the reason, unless the cause has it."""


class NoSuchFunctionError(FileFaultError):
    """The file has no function of the requested name, but `others`."""

    def __init__(self, function: str, others: list[str]) -> None:
        super().__init__(f"it has no pipeline '{function}'; it has {', '.join(others) or 'none'}")
        self.others = others


def compile_file(path: Path, folder: Path, function: str) -> list[dict[str, str]]:
    """Compiles the pipeline or component of one function of a file; if `function` is empty, all pipelines.

    Returns for each the name of its function, its own name, and that of its file in `folder`. Raises FileFaultError.
    """
    from kfp.compiler import Compiler  # noqa: PLC0415  takes a second, and a file that is wrong needs none of it

    selected = _select(_run_file(path), function, path)
    _keep_comments_sound()
    made = []
    for number, (known_as, component) in enumerate(selected.items()):
        file = folder / f"{number}.yaml"
        Compiler().compile(component, str(file))
        made.append({"function": known_as, "name": str(component.name), "file": file.name})
    return made


def _keep_comments_sound() -> None:
    """Makes kfp write valid comments: it copies default values into them, line breaks included."""
    from kfp.compiler import pipeline_spec_builder  # noqa: PLC0415

    original = pipeline_spec_builder.extract_comments_from_pipeline_spec

    def sound(*arguments: Any) -> str:  # noqa: ANN401  kfp has no types
        return commented(original(*arguments))

    pipeline_spec_builder.extract_comments_from_pipeline_spec = sound


def commented(text: str) -> str:
    """Makes every line of a text a YAML comment, without control characters."""
    lines = ("".join(one if one.isprintable() else " " for one in line) for line in text.splitlines())
    return "".join(f"{line if line.startswith('#') else f'# {line}'}\n" for line in lines)


def _run_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FileFaultError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # components look up their own source here
    sys.path.insert(0, str(path.parent))  # as Python does for a script
    sys.argv = [str(path)]  # the current arguments name files that the user's file must not write to
    spec.loader.exec_module(module)
    return module


def _select(module: ModuleType, function: str, path: Path) -> dict[str, Any]:
    """Selects the requested function, else the file's own pipelines, imported pipelines or components."""
    from kfp.dsl.base_component import BaseComponent  # noqa: PLC0415
    from kfp.dsl.graph_component import GraphComponent  # noqa: PLC0415

    components = {known_as: one for known_as, one in vars(module).items() if isinstance(one, BaseComponent)}
    pipelines = {known_as: one for known_as, one in components.items() if isinstance(one, GraphComponent)}
    if function:
        if function not in components:
            raise NoSuchFunctionError(function, list(pipelines or components))
        return {function: components[function]}
    own = {known_as: one for known_as, one in pipelines.items() if _is_defined_in(path, one)}
    selected = _without_aliases(own or pipelines or components)
    if not selected:
        raise FileFaultError("no function in it is decorated with @dsl.pipeline")
    if not pipelines and len(selected) > 1:
        raise FileFaultError(f"it has several components and no pipeline: {', '.join(selected)}")
    return selected


def _is_defined_in(path: Path, pipeline: Any) -> bool:  # noqa: ANN401  kfp has no types
    return Path(pipeline.pipeline_func.__code__.co_filename) == path


def _without_aliases(named: dict[str, Any]) -> dict[str, Any]:
    first = {id(one): known_as for known_as, one in reversed(named.items())}
    return {known_as: one for known_as, one in named.items() if first[id(one)] == known_as}


def _fault(error: BaseException, path: Path) -> dict[str, str]:
    """The error for the author of the file: it points to a line of the file, not of kfp."""
    if isinstance(error, NoSuchFunctionError):
        return {"why": str(error), "where": "", "instead": next(iter(error.others), "")}
    if isinstance(error, FileFaultError):
        return {"why": str(error), "where": ""}
    if isinstance(error, SystemExit):
        return {"why": f"it ends the program while it is read: exit code {error.code}", "where": _location(error, path)}
    if isinstance(error, SyntaxError):
        where = f"{error.filename or path}" + (f":{error.lineno}" if error.lineno else "")
        return {"why": f"{type(error).__name__}: {error.msg}", "where": where, "line": (error.text or "").strip()}
    text = "".join(traceback.format_exception_only(error)).strip()
    text = text if len(text) <= _LONGEST_FAULT else f"{text[:_LONGEST_FAULT]}…"
    missing = _missing_package(error) if isinstance(error, ImportError) else ""
    return {"why": text, "where": _location(error, path), "line": _line(error, path), "missing": missing}


def _missing_package(error: ImportError) -> str:
    """The package to install; a placeholder unless it is a part of kfp, as module and package names may differ."""
    name = error.name or ""
    if name.partition(".")[0] == "kfp" and "kubernetes" in error.msg:
        return "kfp-kubernetes"
    return "PACKAGE"


def _own_frames(error: BaseException, path: Path) -> Iterator[traceback.FrameSummary]:
    """Yields the traceback frames in the file or in modules next to it."""
    for frame in traceback.extract_tb(error.__traceback__):
        file = Path(frame.filename)
        if file.is_relative_to(path.parent) and "site-packages" not in file.parts:
            yield frame


def _location(error: BaseException, path: Path) -> str:
    return next((f"{frame.filename}:{frame.lineno}" for frame in reversed([*_own_frames(error, path)])), "")


def _line(error: BaseException, path: Path) -> str:
    return next((frame.line or "" for frame in reversed([*_own_frames(error, path)])), "")


def _end_with_stdin(folder: Path) -> None:
    """Ends this process and its children when its standard input is closed; the file gets an empty standard input.

    The results are not read then, so their folder is removed as well.
    """
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        while os.read(lifeline, 1):
            pass
        shutil.rmtree(folder, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def main(path: Path, folder: Path, function: str) -> None:
    """Compiles the file and writes the result."""
    _end_with_stdin(folder)
    result: dict[str, object]
    try:
        result = {"pipelines": compile_file(path, folder, function)}
    except BaseException as error:  # noqa: BLE001  a program may raise anything, SystemExit included
        result = {"fault": _fault(error, path)}
    (folder / RESULT).write_text(json.dumps(result), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # does not wait for threads that the file has started


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if sys.argv[3:] else "")
