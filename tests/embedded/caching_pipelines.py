"""Pipelines whose tasks may come from the cache: `caching_pipelines.py FOLDER` compiles them."""

# Components are read as text and run elsewhere, by any Python: they import what they need.
# ruff: noqa: ANN201, PTH123, SIM115
# mypy: ignore-errors

import sys
import warnings
from pathlib import Path

from kfp import compiler, dsl

component = dsl.component(base_image="python:3.11-slim")


@component
def unique(x: str = "default") -> str:
    import uuid  # noqa: PLC0415

    return x + uuid.uuid4().hex


@component
def make(x: str, data: dsl.Output[dsl.Dataset]):
    open(data.path, "w").write(x)


@component
def read(data: dsl.Input[dsl.Dataset]) -> str:
    return open(data.path).read()


@component
def fail_once(marker: str, x: str) -> str:
    import os  # noqa: PLC0415

    if not os.path.exists(marker):  # noqa: PTH110
        open(marker, "w").close()
        raise RuntimeError(x)
    return x


@dsl.pipeline(name="caching-reuse")
def caching_reuse(x: str, file: str):
    made = make(x=x).outputs["data"]
    read(data=made)
    read(data=made).set_caching_options(enable_caching=False)
    unique(x=x).set_caching_options(enable_caching=False)
    with dsl.ParallelFor(["a", "b"]) as item:
        unique(x=item)
    read(data=dsl.importer(artifact_uri=file, artifact_class=dsl.Dataset).output)


@dsl.pipeline(name="caching-default")
def caching_default():
    unique().after(unique(x="default"))


@dsl.pipeline(name="caching-retry")
def caching_retry(marker: str):
    with dsl.ParallelFor(["a", "b", "c"], parallelism=1) as item:
        unique(x=fail_once(marker=marker, x=item).output)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for pipeline in (caching_reuse, caching_default, caching_retry):
        compiler.Compiler().compile(pipeline, str(Path(sys.argv[1]) / f"{pipeline.name}.yaml"))
