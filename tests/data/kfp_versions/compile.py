"""`uv run --isolated --with kfp==2.9.0 compile.py FILE`: compiles the pipeline of this folder with that kfp."""

# The component functions are read as text and run elsewhere; every kfp from 2.5 on must compile this.
# ruff: noqa: ANN201, B006, PTH123, UP006, UP035
# mypy: ignore-errors

import sys
from typing import Dict, List

from kfp import compiler, dsl


@dsl.component(base_image="python:3.11-slim")
def write(
    text: str, settings: Dict[str, float], data: dsl.Output[dsl.Dataset], metrics: dsl.Output[dsl.Metrics]
) -> int:
    with open(data.path, "w") as file:
        file.write(text)
    data.metadata["lines"] = len(text.splitlines())
    metrics.log_metric("rate", settings["rate"])
    return len(text)


@dsl.component(base_image="python:3.11-slim")
def read(data: dsl.Input[dsl.Dataset], copy: dsl.OutputPath(str)):
    with open(data.path) as file, open(copy, "w") as out:
        out.write(file.read())


@dsl.component(base_image="python:3.11-slim")
def square(n: int) -> int:
    return n * n


@dsl.component(base_image="python:3.11-slim")
def total(numbers: List[int], offset: int = 1) -> int:
    return sum(numbers) + offset


@dsl.component(base_image="python:3.11-slim")
def note(status: dsl.PipelineTaskFinalStatus):
    print("ended", status.pipeline_task_name)  # noqa: T201


@dsl.pipeline(name="any-kfp", description="한글")
def any_kfp(text: str = "안녕 world", numbers: List[int] = [1, 2, 3], settings: Dict[str, float] = {"rate": 0.5}):
    with dsl.ExitHandler(note()):
        made = write(text=text, settings=settings)
        read(data=made.outputs["data"]).set_display_name("read it")
        with dsl.ParallelFor(items=numbers, parallelism=2) as number:
            squared = square(n=number)
        summed = total(numbers=dsl.Collected(squared.output)).set_retry(1).set_caching_options(False)
        with dsl.If(summed.output == 15):
            square(n=2).set_cpu_limit("1").set_memory_limit("1G").set_env_variable("COLOUR", "blue")
        with dsl.Else():
            square(n=3)


compiler.Compiler().compile(any_kfp, sys.argv[1])
