"""Time of the summary of a pipeline spec, and how long it blocks other threads."""

from __future__ import annotations

import json
import threading
import time
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.spec import summarize

if TYPE_CHECKING:
    from collections.abc import Callable

_TASK_SOURCE = "def step(x: int) -> int:\n    return x\n" * 28
_COMMENT = '# 한국어 comment \\ with "quotes"\n' * 12_000


def measure() -> list[tuple[str, float, str]]:
    """Measures all specs: what, value, unit."""
    rows = []
    for what, spec, rounds in _specs():
        content = json.dumps(spec).encode()
        seconds, stall = timed(lambda content=content: summarize(content), rounds)  # type: ignore[misc]
        rows.append((f"summary of {what} ({len(content) / 1e6:.2f} MB): median", seconds * 1e3, "ms"))
        rows.append((f"summary of {what}: longest stall of another thread", stall * 1e3, "ms"))
    return rows


def _specs() -> list[tuple[str, dict[str, object], int]]:
    return [
        ("20 tasks", _spec(20, _TASK_SOURCE), 100),
        ("4600 tasks", _spec(4600, _TASK_SOURCE), 10),
        ("16 tasks with large comments", _spec(16, _COMMENT), 10),
        ("60000 tiny tasks, more than a summary holds", _spec(60_000, "", tiny=True), 5),
    ]


def _spec(count: int, source: str, *, tiny: bool = False) -> dict[str, object]:
    """A pipeline with a chain of tasks, each with its own component and executor."""
    tasks = {f"step-{number}": _task(number, tiny=tiny) for number in range(count)}
    components = {f"comp-step-{number}": _component(number) for number in range(1 if tiny else count)}
    executors = {f"exec-step-{number}": _executor(source) for number in range(1 if tiny else count)}
    return {
        "pipelineInfo": {"name": "large"},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "components": components,
        "deploymentSpec": {"executors": executors},
        "root": {"dag": {"tasks": tasks}},
    }


def _task(number: int, *, tiny: bool) -> dict[str, object]:
    if tiny:
        return {"componentRef": {"name": "comp-step-0"}}
    before = f"step-{number - 1}"
    output = {"taskOutputParameter": {"producerTask": before, "outputParameterKey": "Output"}}
    constant = {"runtimeValue": {"constant": 1}}
    task: dict[str, object] = {
        "cachingOptions": {"enableCache": True},
        "componentRef": {"name": f"comp-step-{number}"},
        "inputs": {"parameters": {"x": output if number else constant}},
        "taskInfo": {"name": f"step-{number}"},
    }
    return {**task, "dependentTasks": [before]} if number else task


def _component(number: int) -> dict[str, object]:
    parameter = {"parameterType": "NUMBER_INTEGER"}
    return {
        "executorLabel": f"exec-step-{number}",
        "inputDefinitions": {"parameters": {"x": parameter}},
        "outputDefinitions": {"parameters": {"Output": parameter}},
    }


def _executor(source: str) -> dict[str, object]:
    args = ["--executor_input", "{{$}}", "--function_to_execute", "step"]
    return {"container": {"args": args, "command": ["sh", "-c", source], "image": "python:3.11-slim"}}


def timed(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The medians of the time of the work, and of the longest time that another thread was blocked.

    Medians, because other processes on the machine also delay threads.
    """
    figures = [_once(work) for _ in range(rounds)]
    return median(seconds for seconds, _ in figures), median(stall for _, stall in figures)


def _once(work: Callable[[], object]) -> tuple[float, float]:
    moments, done = [time.perf_counter()], threading.Event()

    def note_moments() -> None:
        while not done.is_set():
            time.sleep(0.001)
            moments.append(time.perf_counter())

    other = threading.Thread(target=note_moments)
    other.start()
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    done.set()
    other.join()
    return seconds, max(later - earlier for earlier, later in pairwise(moments))


def main() -> None:
    """Prints the figures."""
    for what, value, unit in measure():
        print(f"{what:90} {value:9.2f} {unit}")  # noqa: T201


if __name__ == "__main__":
    main()
