"""The pipelines of the tests of runs."""

# Components are read as text and run elsewhere, by any Python: they import what they need.
# ruff: noqa: ANN201, PLC0415, PTH123, SIM115, T201
# mypy: ignore-errors

from pathlib import Path

from kfp import compiler, dsl
from kfp.dsl import HTML, ClassificationMetrics, Markdown, Metrics, Output

HOSTILE = "<img src=x onerror=alert(1)>"
component = dsl.component(base_image="python:3.11-slim")


@component
def report(page: Output[HTML], text: Output[Markdown], scores: Output[Metrics], curve: Output[ClassificationMetrics]):
    print("\x1b[31m쓰는 중\x1b[0m <b>x</b>")
    open(page.path, "w").write("<h1>보고서</h1><script>document.title = 1</script>")
    open(text.path, "w").write("# 제목\n\n<script>alert(1)</script> [x](javascript:alert(1))")
    scores.log_metric("<img src=x onerror=alert(1)>", 0.93)
    curve.log_roc_curve([0.0, 0.5, 1.0], [0.0, 0.9, 1.0], [1.0, 0.5, 0.0])
    curve.log_confusion_matrix(["고양이", "<img src=x onerror=alert(1)>"], [[5, 1], [2, 7]])


@component
def say(text: str) -> str:
    print("말하기:", text)
    return text


@component
def count(seconds: int):
    import time

    for number in range(seconds):
        print("line", number, flush=True)
        time.sleep(1)


@component
def fail(text: str):
    raise ValueError("발산했다: " + text)


@dsl.pipeline(name="story")
def story(text: str = HOSTILE):
    made = report().set_display_name(HOSTILE)
    fail(text=text).after(made)
    with dsl.ParallelFor(["a", "b", "c"], name="words") as word:
        say(text=word).set_display_name("말하기")


@dsl.pipeline(name="slow")
def slow(seconds: int = 2):
    count(seconds=seconds)


def compile_to(folder: Path) -> list[Path]:
    """Compiles both."""
    paths = [folder / "story.yaml", folder / "slow.yaml"]
    for pipeline, path in zip((story, slow), paths, strict=True):
        compiler.Compiler().compile(pipeline, str(path))
    return paths
