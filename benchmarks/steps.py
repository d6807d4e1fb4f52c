"""Time of the embedded KFP for a run, and for many small tasks, compared with the same commands as bare processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks.processes import ROOT, BenchmarkError
from benchmarks.results import Row, absolute, figure, ratio
from benchmarks.rounds import take_turns
from kfadapter_embedded.process import start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.stage import Stage

RUN = "embedded KFP"
"""A run, from its request to its end."""
BARE = "bare processes"
"""The commands of its tasks alone, as many at once as there are cores."""
_PIPELINES = ROOT / "tests" / "data" / "pipelines"
_TASKS = 100
_SECONDS = 300.0


def run(stage: Stage) -> Iterator[Row]:
    """Measures both alternately; the warm-up fills the disk cache."""
    rounds = 1 if stage.scale.quick else 5
    squares = _spec("parallel_squares.yaml")
    numbers = list(range(_TASKS))
    with tempfile.TemporaryDirectory(dir=stage.folder) as data, start(Path(data)) as kfp:
        found = take_turns({RUN: lambda: _run(kfp.url, _spec("hello_world.yaml"), {})}, rounds)
        row = Row("steps", "hello_world, from the request to the end", "ms", (figure(RUN, found[RUN], scale=1000),))
        yield replace(row, findings=(absolute(row, RUN, "under 4 s", at_most=4000),))
        sides = {RUN: lambda: _run(kfp.url, squares, {"numbers": numbers}), BARE: lambda: _processes(squares, data)}
        found = take_turns(sides, rounds)
        figures = tuple(figure(side, seconds, scale=1000) for side, seconds in found.items())
        row = Row("steps", f"{_TASKS} small tasks of a loop", "ms", figures)
        yield replace(row, findings=(ratio(row, RUN, BARE, "at most 1.3 x", at_most=1.3),))


def _spec(file: str) -> Any:  # noqa: ANN401  # a spec is JSON
    """A pipeline without caching; the tasks of its loop run as many at once as there are slots."""
    spec = yaml.safe_load((_PIPELINES / file).read_text("utf-8"))
    for component in (spec["root"], *spec["components"].values()):
        for task in component.get("dag", {}).get("tasks", {}).values():
            task.pop("cachingOptions", None)
            task.pop("iteratorPolicy", None)
    return spec


def _run(url: str, spec: object, parameters: dict[str, object]) -> float:
    started = time.perf_counter()
    body = {"display_name": "steps", "pipeline_spec": spec, "runtime_config": {"parameters": parameters}}
    run_id = _call(f"{url}/apis/v2beta1/runs", body)["run_id"]
    while (state := _call(f"{url}/apis/v2beta1/runs/{run_id}")["state"]) in {"PENDING", "RUNNING"}:
        if time.perf_counter() - started > _SECONDS:
            raise BenchmarkError("the run takes too long")
        time.sleep(0.1)
    if state != "SUCCEEDED":
        raise BenchmarkError(f"the run is {state}")
    return time.perf_counter() - started


def _call(url: str, body: object = None) -> Any:  # noqa: ANN401  # a response is JSON
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=_SECONDS) as reply:  # noqa: S310
        return json.load(reply)


def _processes(spec: Any, folder: str) -> float:  # noqa: ANN401  # as above
    """Executes the commands of the loop's tasks without installing kfp first, which the embedded KFP skips too."""
    command = spec["deploymentSpec"]["executors"]["exec-square"]["container"]["command"]
    words = command[next(at for at, one in enumerate(command) if one == "-ec") - 1 :]
    variables = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def execute(number: int) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            output = {"outputFile": f"{work}/out", "parameters": {"Output": {"outputFile": f"{work}/Output"}}}
            given = json.dumps({"inputs": {"parameterValues": {"x": number}}, "outputs": output})
            arguments = ["--executor_input", given, "--function_to_execute", "square"]
            subprocess.run([*words, *arguments], check=True, capture_output=True, env={**variables, "TMPDIR": work})  # noqa: S603

    started = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        list(threads.map(execute, range(_TASKS)))
    return time.perf_counter() - started
