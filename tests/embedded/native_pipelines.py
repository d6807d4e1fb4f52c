"""The pipelines of `transcripts/native`, rewritten: `native_pipelines.py FOLDER` compiles them."""

# Components are read as text and run elsewhere, by any Python: they import what they need.
# ruff: noqa: ANN201, ARG001, B006, PLR0917, PTH123, SIM115, UP006, UP035
# mypy: ignore-errors

import sys
import warnings
from pathlib import Path
from typing import List, NamedTuple

from kfp import compiler, dsl

component = dsl.component(base_image="python:3.11-slim")


@component
def tell(text: str) -> str:
    return text


@component
def boom(message: str):
    raise RuntimeError(message)


@component
def square(x: int) -> int:
    return x * x


@component
def add(x: int, y: int) -> int:
    return x + y


@component
def make_params(s: str, i: int, f: float, b: bool, xs: list, d: dict) -> NamedTuple(
    "Made", [("text", str), ("whole", int), ("real", float), ("flag", bool), ("items", list), ("pairs", dict)]
):
    return (s + " 문자", i, f, b, xs, d)


@component
def make_artifacts(
    rows: int,
    data: dsl.Output[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    roc: dsl.Output[dsl.ClassificationMetrics],
    matrix: dsl.Output[dsl.ClassificationMetrics],
    page: dsl.Output[dsl.HTML],
    notes: dsl.Output[dsl.Markdown],
    blob: dsl.Output[dsl.Artifact],
):
    for one in (data, model, page, notes, blob):
        open(one.path, "w").write(one.name)
    data.metadata.update(rows=rows, columns=["x", "y"])
    model.metadata["framework"] = "none"
    metrics.log_metric("accuracy", 0.93)
    metrics.log_metric("loss", 0.07)
    roc.log_roc_curve([0.0, 0.5, 1.0], [0.0, 0.8, 1.0], [1.0, 0.5, 0.0])
    matrix.log_confusion_matrix(["cat", "dog"], [[8, 2], [1, 9]])


@component
def use(data: dsl.Input[dsl.Dataset], model: dsl.Input[dsl.Model]) -> int:
    return data.metadata["rows"]


@dsl.pipeline(name="outputs")
def outputs(rows: int = 7, text: str = "hello"):
    make_params(s=text, i=7, f=0.5, b=True, xs=[1, "two", 3.5], d={"a": {"b": 1}})
    made = make_artifacts(rows=rows)
    use(data=made.outputs["data"], model=made.outputs["model"])


@component
def shard(i: int, part: dsl.Output[dsl.Dataset]) -> int:
    open(part.path, "w").write(str(i))
    part.metadata["part"] = i
    return i * 10


@component
def total(xs: List[int]) -> int:
    return sum(xs)


@component
def merge(parts: dsl.Input[List[dsl.Dataset]], nums: List[int]) -> str:
    return f"{len(parts)} parts {nums}"


@dsl.pipeline(name="loop-collect")
def loop_collect(numbers: List[int]) -> int:
    with dsl.ParallelFor(numbers, name="each") as i:
        squared = square(x=i)
        made = shard(i=i)
    merge(parts=dsl.Collected(made.outputs["part"]), nums=dsl.Collected(made.outputs["Output"]))
    return total(xs=dsl.Collected(squared.output)).output


@component
def coin(side: str) -> str:
    return side


@dsl.pipeline(name="conditions")
def conditions(side: str = "heads"):
    flipped = coin(side=side)
    with dsl.If(flipped.output == "heads"):
        heads = tell(text="it was heads")
    with dsl.Elif(flipped.output == "tails"):
        tails = tell(text="it was tails")
    with dsl.Else():
        edge = tell(text="it was the edge")
    tell(text=dsl.OneOf(heads.output, tails.output, edge.output)).set_display_name("Tell the result")
    with dsl.If(flipped.output == "never"):
        tell(text="never")


@dsl.pipeline(name="inner")
def inner(x: int) -> int:
    return square(x=square(x=x).output).output


@dsl.pipeline(name="middle")
def middle(x: int) -> int:
    return inner(x=x).output


@dsl.pipeline(name="nested")
def nested(x: int) -> int:
    return square(x=middle(x=x).output).set_display_name("Final square").output


@component
def cleanup(status: dsl.PipelineTaskFinalStatus):
    assert status.state == "FAILED"


@dsl.pipeline(name="exits")
def exits(message: str = "broken on purpose"):
    with dsl.ExitHandler(cleanup(), name="guard"):
        boom(message=message)


@dsl.pipeline(name="fails")
def fails(message: str):
    broken = boom(message=message).after(tell(text="before"))
    tell(text="after").after(broken)


@component
def flaky(marker: str) -> str:
    import os  # noqa: PLC0415

    if not os.path.exists(marker):  # noqa: PTH110
        open(marker, "w").close()
        raise RuntimeError("the first time")
    return "ok"


@dsl.pipeline(name="retries")
def retries(marker: str):
    tell(text=flaky(marker=marker).set_retry(num_retries=2, backoff_duration="0s").output)


@dsl.pipeline(name="retry-run")
def retry_run(marker: str):
    first = tell(text="kept across the retry")
    tell(text=flaky(marker=marker).after(first).output)


@component
def rd(d: dsl.Input[dsl.Dataset]) -> str:
    return open(d.path).read()


@dsl.pipeline(name="imports")
def imports():
    rd(
        d=dsl.importer(
            artifact_uri="file:///FOLDER/a.csv", artifact_class=dsl.Dataset, metadata={"origin": "elsewhere"}
        ).output
    )


@dsl.pipeline(name="inner")
def inner_add(x: int) -> int:
    return add(x=x, y=1).output


@dsl.pipeline(name="loop-nested")
def loop_nested(xs: List[int], ys: List[int]):
    with dsl.ParallelFor(xs) as x:
        with dsl.If(x == 1):
            tell(text="one")
        with dsl.ParallelFor(ys) as y:
            add(x=x, y=y)
        inner_add(x=x)


@component
def div(x: int) -> float:
    return 1 / (x % 2) / x


@dsl.pipeline(name="loop-fails")
def loop_fails(xs: List[int] = [1, 2, 3]):
    with dsl.ParallelFor(xs) as x:
        div(x=x)


@dsl.pipeline(name="empty-loop")
def empty_loop(xs: List[int] = []):
    with dsl.ParallelFor(xs) as x:
        loop = div(x=x)
    tell(text="after").after(loop)


@component
def odd(
    n: int,
    sliced: dsl.Output[dsl.SlicedClassificationMetrics],
    one: dsl.Output[dsl.Metrics],
    none: dsl.Output[dsl.Metrics],
    plain: dsl.Output[dsl.Artifact],
) -> str:
    matrix = {"annotationSpecs": [{"displayName": "cat"}, {"displayName": "dog"}]}
    matrix["rows"] = [{"row": [8, 2]}, {"row": [1, 9]}]
    sliced.metadata["evaluationSlices"] = [
        {"slice": "young", "sliceClassificationMetrics": {"confusionMatrix": matrix}}
    ]
    one.log_metric("count", n)
    plain.metadata.update(display_name="shown name", nested={"a": [1, {"b": None}]})
    open(plain.path, "w").close()
    return "x" * n


@component
def folder(d: dsl.Output[dsl.Dataset]):
    import os  # noqa: PLC0415

    os.makedirs(d.path)  # noqa: PTH103
    open(d.path + "/a", "w").close()


@dsl.pipeline(name="odd-types")
def odd_types(n: int):
    odd(n=n)
    folder()


@component
def nap(seconds: int):
    import time  # noqa: PLC0415

    time.sleep(seconds)


@dsl.pipeline(name="naps")
def naps(seconds: int):
    nap(seconds=seconds).after(tell(text="first"))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for pipeline in [value for value in globals().values() if type(value).__name__ == "GraphComponent"]:
        compiler.Compiler().compile(pipeline, str(Path(sys.argv[1]) / f"{pipeline.name}.yaml"))
