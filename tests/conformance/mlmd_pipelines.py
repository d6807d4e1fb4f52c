"""The pipelines of `data/mlmd`, rewritten from the recordings: `mlmd_pipelines.py FOLDER` compiles them."""

# Components are read as text and run elsewhere, by any Python: they import what they need.
# ruff: noqa: ANN201, ARG001, B006, PLR0917, PTH123, SIM115, UP006, UP035, UP045
# mypy: ignore-errors

import sys
import warnings
from pathlib import Path
from typing import List, NamedTuple, Optional

from kfp import compiler, dsl

component = dsl.component(base_image="python:3.11-slim")


@component
def show(text: str) -> str:
    return text


@component
def square(x: int) -> int:
    return x * x


@component
def piece(x: int, data: dsl.Output[dsl.Dataset]):
    open(data.path, "w").write(str(x))
    data.metadata["x"] = x


@component
def make_data(
    rows: int, data: dsl.Output[dsl.Dataset], folder: dsl.Output[dsl.Artifact], unwritten: dsl.Output[dsl.Artifact]
):
    import os  # noqa: PLC0415

    open(data.path, "w").write("x,y")
    os.makedirs(folder.path)  # noqa: PTH103
    open(folder.path + "/part", "w").write("1")
    data.metadata.update(
        rows=rows, columns=["x", "y"], stats={"min": 0, "max": rows}, ratio=0.25, owner="team-a", clean=True
    )


@component
def train(
    epochs: int,
    data: dsl.Input[dsl.Dataset],
    folder: dsl.Input[dsl.Artifact],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    cls: dsl.Output[dsl.ClassificationMetrics],
    sliced: dsl.Output[dsl.SlicedClassificationMetrics],
    page: dsl.Output[dsl.HTML],
    note: dsl.Output[dsl.Markdown],
) -> float:
    for one in (model, page, note):
        open(one.path, "w").write(one.name)
    model.metadata.update(framework="numpy", params={"w": 2})
    metrics.log_metric("loss", 12)
    metrics.log_metric("accuracy", 0.91)
    cls.log_roc_curve([0, 0.1, 1], [0, 0.8, 1], [0.9, 0.5, 0.1])
    cls.log_confusion_matrix(["cat", "dog"], [[8, 2], [1, 9]])
    matrix = {"annotationSpecs": [{"displayName": "cat"}, {"displayName": "dog"}]}
    matrix["rows"] = [{"row": [3, 1]}, {"row": [0, 0]}]
    sliced.metadata["evaluationSlices"] = [{"slice": "s1", "sliceClassificationMetrics": {"confusionMatrix": matrix}}]
    return 0.5


@component
def report(loss: float) -> str:
    return f"loss={loss:.4f}"


@dsl.pipeline(name="artifacts-all")
def artifacts_all(rows: int = 6, epochs: int = 3):
    made = make_data(rows=rows)
    trained = train(data=made.outputs["data"], folder=made.outputs["folder"], epochs=epochs)
    report(loss=trained.outputs["Output"])


@component
def give_all() -> NamedTuple(
    "Given",
    [
        ("i", int),
        ("f", float),
        ("whole", float),
        ("s", str),
        ("b", bool),
        ("xs", list),
        ("d", dict),
        ("ko", str),
        ("empty", str),
        ("big", int),
    ],
):
    xs, d = [1, "a", None, {"k": 2.5}], {"a": 1, "n": {"x": [True, None]}}
    return 7, 0.5, 3.0, "text", True, xs, d, "한국어 'quote' {{x}}", "", 2**53


@component
def every_type(
    s: str, i: int, f: float, b: bool, xs: list, d: dict, word: Optional[str] = None, maybe: Optional[int] = None
) -> str:
    return f"{s}{i}{f}{b}{xs}{d}{word or 'unset'}{maybe}"


@dsl.pipeline(name="all-types")
def all_types(
    s: str = "hi",
    i: int = 7,
    f: float = 0.5,
    b: bool = True,
    xs: list = [1, 2, 3],
    d: dict = {"a": 1},
):
    give_all()
    every_type(s=s, i=i, f=f, b=b, xs=xs, d=d).set_display_name("Every type shown")


@component
def odd_metadata(metrics: dsl.Output[dsl.Metrics], text: dsl.Output[dsl.Artifact], data: dsl.Output[dsl.Dataset]):
    import math  # noqa: PLC0415

    metrics.metadata.update(count=2**53, lr=2e-5, negative=-1.5e-6, note="text in metrics", pi=math.pi, tiny=1e-7)
    metrics.log_metric("big", 1.5e300)
    open(text.path, "w").write("text")
    open(data.path, "w").write("data")
    data.metadata.update(
        {"display_name": "named by the user", "empty": "", "empty_list": [], "key with space/and.dot": "v", "zero": 0}
    )
    data.metadata.update(list=[1], long="xxxxxxxxxx(5000 in all)", no=False, only={"list": [1, 2]})
    data.metadata["store_session_info"] = "mine"


@dsl.pipeline(name="odd-metadata")
def odd_metadata_pipeline():
    odd_metadata()


@component
def flip(word: str) -> str:
    return word


@dsl.pipeline(name="branches")
def branches(word: str = "b"):
    flipped = flip(word=word)
    with dsl.If(flipped.output == "a", name="is-a"):
        a = show(text="A")
    with dsl.Elif(flipped.output == "b", name="is-b"):
        b = show(text="B")
    with dsl.Else(name="other"):
        other = show(text="?")
    show(text=dsl.OneOf(a.output, b.output, other.output))


@component
def boom(message: str):
    raise RuntimeError(message)


@component
def cleanup(status: dsl.PipelineTaskFinalStatus) -> str:
    return status.state


@dsl.pipeline(name="exit-handler")
def exit_handler(message: str = "broken on purpose"):
    with dsl.ExitHandler(cleanup()):
        show(text="after").after(boom(message=message))


@component
def size(m: dsl.Input[dsl.Model]) -> int:
    return len(open(m.path).read())


@dsl.pipeline(name="imports")
def imports(uri: str):
    shared = dsl.importer(artifact_uri=uri, artifact_class=dsl.Model, reimport=False, metadata={"n": 3, "version": "1"})
    size(m=shared.output)
    size(m=dsl.importer(artifact_uri=uri, artifact_class=dsl.Model, reimport=True).output)


@component
def merge(parts: dsl.Input[List[dsl.Dataset]], joined: dsl.Output[dsl.Dataset]) -> int:
    open(joined.path, "w").write(",".join(open(one.path).read() for one in parts))
    return len(parts)


@component
def total(xs: List[int]) -> int:
    return sum(xs)


@dsl.pipeline(name="many")
def many(numbers: List[int]) -> List[dsl.Dataset]:
    with dsl.ParallelFor(numbers) as n:
        made = piece(x=n)
    return dsl.Collected(made.outputs["data"])


@dsl.pipeline(name="list-output")
def list_output(numbers: List[int] = [7, 8]):
    merge(parts=many(numbers=numbers).output)


@dsl.pipeline(name="loop-collect")
def loop_collect(numbers: List[int] = [4, 5, 6]):
    with dsl.ParallelFor(numbers) as n:
        squared = square(x=n)
        made = piece(x=squared.output)
    total(xs=dsl.Collected(squared.output))
    merge(parts=dsl.Collected(made.outputs["data"]))


@component
def plus(x: int, y: int) -> int:
    return x + y


@dsl.pipeline(name="nested-loop")
def nested_loop():
    with dsl.ParallelFor([1, 2]) as x, dsl.ParallelFor([10, 20]) as y:
        plus(x=x, y=y)


@dsl.pipeline(name="inner")
def inner(x: int) -> NamedTuple("Made", [("squared", int), ("piece", dsl.Dataset)]):
    squared = square(x=x)
    made = piece(x=squared.output)
    return NamedTuple("Made", [("squared", int), ("piece", dsl.Dataset)])(squared.output, made.outputs["data"])


@component
def read(plus: int, data: dsl.Input[dsl.Dataset]) -> int:
    return plus + int(open(data.path).read())


@dsl.pipeline(name="nested")
def nested(x: int = 3):
    made = inner(x=x)
    read(plus=made.outputs["squared"], data=made.outputs["piece"])


@component
def flaky(where: str, metrics: dsl.Output[dsl.Metrics]) -> int:
    import os  # noqa: PLC0415

    attempt = int(open(where).read()) if os.path.exists(where) else 0  # noqa: PTH110
    open(where, "w").write(str(attempt + 1))
    metrics.log_metric("attempt", attempt)
    if attempt < 2:
        raise RuntimeError("not yet")
    return attempt


@dsl.pipeline(name="retried")
def retried(where: str):
    show(text=f"after {flaky(where=where).set_retry(num_retries=2).outputs['Output']}")


@component
def nap(seconds: int):
    import time  # noqa: PLC0415

    time.sleep(seconds)


@dsl.pipeline(name="naps")
def naps(seconds: int):
    nap(seconds=seconds)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for pipeline in [value for value in globals().values() if type(value).__name__ == "GraphComponent"]:
        compiler.Compiler().compile(pipeline, str(Path(sys.argv[1]) / f"{pipeline.name}.yaml"))
