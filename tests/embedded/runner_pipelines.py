"""Pipelines for the tests of the runner: `runner_pipelines.py FOLDER` compiles them."""

# Components are read as text and run elsewhere, by any Python: they import what they need.
# ruff: noqa: ANN201, B006, PLC0415, PLR0917, PTH103, PTH120, PTH123, PYI024, RUF013, SIM115, T201, UP006, UP035
# mypy: ignore-errors

import sys
import warnings
from pathlib import Path
from typing import Dict, List, NamedTuple

from kfp import compiler, dsl

component = dsl.component(base_image="python:3.11-slim")


@component
def write(text: str, out: dsl.Output[dsl.Dataset]):
    open(out.path, "w").write(text)


@component
def read_one(a: dsl.Input[dsl.Dataset]) -> str:
    return open(a.path).read()


@component
def read_two(a: dsl.Input[dsl.Dataset], b: dsl.Input[dsl.Dataset]) -> str:
    return open(a.path).read() + "|" + open(b.path).read()


@component
def read_all(xs: dsl.Input[List[dsl.Dataset]]) -> str:
    return ",".join(open(x.path).read() for x in xs)


@component
def echo(text: str) -> str:
    print("said", text)
    return text


@component
def add(a: int, b: int) -> int:
    return a + b


@component
def total(xs: List[int]) -> int:
    assert all(isinstance(x, int) for x in xs), xs
    return sum(xs)


@component
def total_nested(xs: List[List[int]]) -> int:
    return sum(sum(x) for x in xs)


@component
def three_and_four() -> List[int]:
    return [3, 4]


@component
def fails(message: str):
    raise ValueError(message)


@component
def tell_final_status(status: dsl.PipelineTaskFinalStatus) -> str:
    return f"{status.state}: {status.error_message}"


@component
def many_outputs(model: dsl.Output[dsl.Model], metrics: dsl.Output[dsl.Metrics], n: int = 3) -> NamedTuple(
    "Outputs", [("loss", float), ("name", str), ("flag", bool), ("d", dict), ("xs", list)]
):
    from collections import namedtuple

    metrics.log_metric("accuracy", 0.5)
    open(model.path, "w").write("weights")
    model.metadata["이름"] = "모델"
    return namedtuple("Outputs", "loss name flag d xs")(1.0, "이름", True, {"a": n}, [1, 2])


@component
def show_types(i: int, f: float, b: bool, xs: list, d: dict, maybe: str = None) -> str:
    return repr((i, f, b, xs, d, maybe))


@component
def write_path(out: dsl.OutputPath(int)):
    open(out, "w").write("41")


@component
def count_attempts(marker: str) -> int:
    import os
    from pathlib import Path

    print("retry", os.environ["KFP_RETRY_INDEX"])
    path = Path(marker)
    attempts = int(path.read_text()) + 1 if path.exists() else 1
    path.write_text(str(attempts))
    assert attempts > 2
    return attempts


@component
def flood(megabytes: int):
    import sys

    for _ in range(megabytes):
        sys.stdout.write("x" * 1023 + "\n")
        sys.stdout.write(("y" * 1023 + "\n") * 1023)
    print("the last line")


@component
def leave_a_child(session: bool) -> int:
    import subprocess

    return subprocess.Popen(["sleep", "600"], start_new_session=session).pid


@component
def read_stdin() -> str:
    import sys

    return f"read {sys.stdin.read()!r}"


@component
def refuse_to_end(started: str):
    import os
    import signal
    import time
    from pathlib import Path

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(started).write_text(str(os.getpid()))
    time.sleep(600)


@component
def make_text(characters: int) -> str:
    return "가" * characters


@component
def measure(text: str) -> int:
    return len(text)


@component
def environment(names: list) -> dict:
    import os
    import sys

    return {"prefix": sys.prefix, **{name: os.environ.get(name, "") for name in names}}


@component
def die():
    import os

    os.kill(os.getpid(), 9)


@dsl.component(base_image="python:3.11-slim", packages_to_install=["WHEEL"])
def version_of(package: str) -> str:
    from importlib.metadata import version

    return version(package)


@dsl.component(base_image="python:3.11-slim", packages_to_install=["no-such-package-anywhere"])
def needs_an_index():
    pass


@dsl.pipeline(name="same-component-twice")
def same_component_twice(x: str = "가", y: str = "나") -> str:
    return read_two(a=write(text=x).outputs["out"], b=write(text=y).outputs["out"]).output


@dsl.pipeline(name="branches")
def branches(n: int = 5) -> str:
    with dsl.If(n == 1):
        one = echo(text="one")
    with dsl.Elif(n == 5):
        five = echo(text="five")
    with dsl.Else():
        other = echo(text="other")
    return echo(text=dsl.OneOf(one.output, five.output, other.output)).output


@dsl.pipeline(name="nested-loops")
def nested_loops() -> int:
    with dsl.ParallelFor([1, 2, 3]) as x, dsl.ParallelFor([10, 20]) as y:
        task = add(a=x, b=y)
    return total_nested(xs=dsl.Collected(task.output)).output


@dsl.pipeline(name="struct-loop")
def struct_loop(items: List[Dict[str, int]] = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]) -> int:
    with dsl.ParallelFor(items, parallelism=1) as item:
        first = add(a=item.a, b=item.b)
        second = add(a=first.output, b=100)
    return total(xs=dsl.Collected(second.output)).output


@dsl.pipeline(name="condition-in-loop")
def condition_in_loop() -> int:
    items = three_and_four()
    with dsl.ParallelFor(items.output) as x, dsl.If(x > 3):
        add(a=x, b=1)
    return total(xs=items.output).output


@dsl.pipeline(name="artifact-loop")
def artifact_loop() -> str:
    with dsl.ParallelFor(["a", "b", "c"]) as x:
        task = write(text=x)
    return read_all(xs=dsl.Collected(task.outputs["out"])).output


@dsl.pipeline(name="loop-over-nothing")
def loop_over_nothing(texts: List[str] = []) -> str:
    with dsl.ParallelFor(texts) as x:
        task = write(text=x)
    return read_all(xs=dsl.Collected(task.outputs["out"])).output


@dsl.pipeline(name="inner")
def inner(a: int, b: int = 5) -> int:
    return add(a=a, b=b).output


@dsl.pipeline(name="nested-pipeline")
def nested_pipeline() -> int:
    task = inner(a=1)
    return add(a=task.output, b=task.output).output


@dsl.pipeline(name="named-output-condition")
def named_output_condition():
    task = many_outputs()
    with dsl.If(task.outputs["flag"] == True):  # noqa: E712
        echo(text=task.outputs["name"])


@dsl.pipeline(name="optional-and-types")
def optional_and_types(maybe: str = None, i: int = 7, f: float = 2, xs: list = [1, 2.5], d: dict = {"a": 1}) -> str:
    return show_types(i=i, f=f, b=True, xs=xs, d=d, maybe=maybe).output


@component
def write_elsewhere(out: dsl.Output[dsl.Dataset]):
    import tempfile

    out.custom_path = tempfile.mkdtemp() + "/rows"
    open(out.custom_path, "w").write("행")


@component
def write_beside(out: dsl.Output[dsl.Dataset]):
    open("rows", "w").write("열")
    out.set_path("rows")


@component
def write_at_own_uri(out: dsl.Output[dsl.Model]) -> str:
    import os

    out.uri = dsl.get_uri("sub/model.txt")
    os.makedirs(os.path.dirname(out.path), exist_ok=True)
    open(out.path, "w").write("model")
    return out.uri


@component
def write_at_path(path: str, out: dsl.Output[dsl.Dataset]):
    out.path = path
    open(path, "w").write("x")


@component
def change(data: dsl.Input[dsl.Dataset]) -> str:
    before = open(data.path).read()
    open(data.path, "a").write("+")
    return before


@component
def describe(data: dsl.Input[dsl.Artifact]) -> str:
    return f"{type(data).__name__} {data.name.isdigit()} {data.uri.rsplit('/', 1)[-1]} {open(data.path).read()}"


@component
def pod() -> list:
    import os

    return [os.environ["KFP_POD_NAME"], os.environ["KFP_POD_UID"], os.environ.get("KFP_RETRY_INDEX", "")]


@dsl.pipeline(name="files-of-steps")
def files_of_steps():
    rows = write_elsewhere()
    first = change(data=rows.outputs["out"])
    second = change(data=rows.outputs["out"]).after(first)
    describe(data=rows.outputs["out"]).after(second)
    describe(data=write_at_own_uri().outputs["out"])
    describe(data=write_beside().outputs["out"])


@dsl.pipeline(name="file-elsewhere")
def file_elsewhere(path: str):
    write_at_path(path=path)


@dsl.pipeline(name="pods")
def pods():
    pod()


@dsl.pipeline(name="imports-of-objects")
def imports_of_objects(uri: str):
    found = dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset, reimport=True)
    first = change(data=found.output)
    change(data=found.output).after(first)


@dsl.pipeline(
    name="imports-into-workspace",
    pipeline_config=dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size="1Gi")),
)
def imports_into_workspace(uri: str):
    found = dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset, download_to_workspace=True)
    first = change(data=found.output)
    change(data=found.output).after(first)


@dsl.pipeline(name="texts-with-values")
def texts_with_values(who: str = "세계", n: int = 3) -> str:
    return echo(text=f"안녕 {who} {n} {dsl.PIPELINE_JOB_NAME_PLACEHOLDER} {dsl.PIPELINE_TASK_NAME_PLACEHOLDER}").output


@dsl.pipeline(name="quotes")
def quotes(text: str = 'it\'s "quoted" \\ 한') -> str:
    said = echo(text=text)
    with dsl.If(said.output == "other"):
        yes = echo(text="yes")
    with dsl.Else():
        no = echo(text="no")
    return dsl.OneOf(yes.output, no.output)


@dsl.pipeline(name="exit-handler")
def exit_handler(message: str = "지금 망가짐"):
    with dsl.ExitHandler(tell_final_status()):
        failed = fails(message=message)
        echo(text="never").after(failed)


@dsl.pipeline(name="ignored-failure")
def ignored_failure():
    echo(text="still").after(fails(message="x")).ignore_upstream_failure()


@dsl.pipeline(name="retried")
def retried(marker: str) -> int:
    return count_attempts(marker=marker).set_retry(num_retries=3, backoff_duration="0s").output


@dsl.pipeline(name="imported")
def imported(uri: str) -> str:
    data = dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset, metadata={"언어": "한국어"})
    return read_one(a=data.output).output


@dsl.pipeline(name="path-output")
def path_output() -> int:
    return add(a=write_path().outputs["out"], b=1).output


@dsl.pipeline(name="loud")
def loud(megabytes: int = 100):
    flood(megabytes=megabytes)


@dsl.pipeline(name="leaves-a-child")
def leaves_a_child(session: bool) -> int:
    return leave_a_child(session=session).output


@dsl.pipeline(name="reads-stdin")
def reads_stdin() -> str:
    return read_stdin().output


@dsl.pipeline(name="refuses-to-end")
def refuses_to_end(started: str):
    refuse_to_end(started=started)


@dsl.pipeline(name="large-values")
def large_values(characters: int) -> int:
    return measure(text=make_text(characters=characters).output).output


@dsl.pipeline(name="shows-environment")
def shows_environment(names: list) -> dict:
    task = environment(names=names)
    task.set_env_variable("OF_THE_TASK", "값")
    return task.output


@component
def odd_number(kind: str, metrics: dsl.Output[dsl.Metrics]) -> dict:
    if kind == "nan metric":
        metrics.log_metric("loss", float("nan"))
    return {"n": 10**400 if kind == "huge" else float("-inf") if kind == "infinite" else 1}


@dsl.pipeline(name="odd-numbers")
def odd_numbers(kind: str):
    odd_number(kind=kind)


@dsl.pipeline(name="killed")
def killed():
    die()


@dsl.pipeline(name="installs")
def installs(package: str) -> str:
    return version_of(package=package).output


@dsl.pipeline(name="installs-unknown")
def installs_unknown():
    needs_an_index()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for one in [value for value in globals().values() if type(value).__name__ == "GraphComponent"]:
        compiler.Compiler().compile(one, str(Path(sys.argv[1]) / f"{one.name}.yaml"))
