from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.cli.conftest import Kfadapter
from tests.cli.fake_runs import SUCCEEDED, FakeRuns, serving_all

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1 import run_pb2
from kfadapter_grpc.cli.errors import ExitCode

if TYPE_CHECKING:
    from tests.client.fake_adapter import FakeAdapter

PROGRAM = Path(sys.executable).parent / "kfadapter"
CONTAINER = pb.TASK_KIND_CONTAINER
PICTURE = """\
      ┌───────┐
      │ load  │
      └───┬───┘
    ┌─────┴─────┐
    ▼           ▼
┌───────┐  ┌─────────┐
│ clean │  │ measure │
└───┬───┘  └────┬────┘
    └─────┬─────┘
          ▼
      ┌───────┐
      │ 학습  │
      └───────┘
"""


@pytest.fixture
def spec() -> pb.PipelineSpecSummary:
    """A spec with a fork and a join."""
    return pb.PipelineSpecSummary(
        name="training",
        tasks=[
            pb.Task(name="load", kind=CONTAINER),
            pb.Task(name="clean", kind=CONTAINER, depends_on=["load"]),
            pb.Task(name="measure", kind=CONTAINER, depends_on=["load"]),
            pb.Task(name="학습", kind=CONTAINER, depends_on=["clean", "measure"]),
        ],
    )


@pytest.fixture
def train(fake: FakeAdapter, spec: pb.PipelineSpecSummary) -> str:
    """The name of a pipeline with that spec."""
    fake.add("train", spec)
    return "train"


def test_the_picture(kfadapter: Kfadapter, train: str) -> None:
    """Boxes, a fork and a join are drawn; stdout holds nothing else, and no escape codes."""
    ended = kfadapter("graph", train)
    assert (ended.code, ended.out, ended.err) == (0, PICTURE, "")


def test_ascii(kfadapter: Kfadapter, train: str) -> None:
    """With `--ascii` frames and lines are ASCII; names are unchanged."""
    out = kfadapter("graph", train, "--ascii").out
    assert "    +-----+-----+\n    v           v\n" in out
    assert out.replace("학습", "").isascii()


def test_a_narrow_terminal_gets_a_list(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """A graph that is too wide is listed, and stderr has the reason and how to draw it."""
    tasks = [pb.Task(name=f"a{number}", kind=CONTAINER) for number in range(30)]
    tasks += [pb.Task(name=f"b{n}", kind=CONTAINER, depends_on=[f"a{n}", f"a{(n + 7) % 30}"]) for n in range(30)]
    fake.add("wide", pb.PipelineSpecSummary(tasks=tasks))
    ended = kfadapter("graph", "wide", "--width", "40")
    assert ended.code == 0
    assert "• b0: after a0, a7\n" in ended.out
    assert ended.err == "too wide to draw in 40 columns, so here is a list; --width N or -o svg draws it\n"
    assert "* b0: after a0, a7\n" in kfadapter("graph", "wide", "--width", "40", "--ascii").out


def test_documents(kfadapter: Kfadapter, train: str) -> None:
    """SVG, Mermaid and DOT are printed to stdout unchanged."""
    drawn = kfadapter("graph", train, "-o", "svg").out
    assert drawn.startswith("<svg ")
    assert "<title>training, version train</title>" in drawn
    assert "  t1 --> t2\n" in kfadapter("graph", train, "-o", "mermaid").out
    assert "  t1 -> t2;\n" in kfadapter("graph", train, "-o", "dot").out


def test_the_version_that_was_requested(kfadapter: Kfadapter, fake: FakeAdapter, train: str) -> None:
    """The latest version is drawn, or the one given; a missing version is an error."""
    fake.add_version(train, "2", pb.PipelineSpecSummary(tasks=[pb.Task(name="new", kind=CONTAINER)]))
    assert "new" in kfadapter("graph", train).out
    assert kfadapter("graph", train, "--version", "train").out == PICTURE
    assert kfadapter("graph", train, "--version", "3").code == ExitCode.NOT_FOUND
    assert kfadapter("graph", "absent").code == ExitCode.NOT_FOUND


def test_no_tasks(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """For a pipeline without tasks stderr reports that there is nothing to draw; a document is empty but valid."""
    fake.add("empty", pb.PipelineSpecSummary())
    fake.add("unknown")
    for name in ("empty", "unknown"):
        ended = kfadapter("graph", name)
        assert (ended.code, ended.out, ended.err) == (0, "", f"version '{name}' has no tasks that could be drawn\n")
        assert kfadapter("graph", name, "-o", "mermaid").out == "flowchart TD\n"


def test_what_was_not_understood_is_reported(
    kfadapter: Kfadapter, fake: FakeAdapter, spec: pb.PipelineSpecSummary
) -> None:
    """If parts of a pipeline were not understood, stderr reports that the picture may lack them."""
    spec.unknown_parts.append("root.dag.tasks.odd")
    fake.add("odd", spec)
    ended = kfadapter("graph", "odd")
    assert ended.out == PICTURE
    assert ended.err == "not understood, so perhaps missing here: root.dag.tasks.odd\n"
    spec.unknown_parts.extend(f"x{number}" for number in range(99))
    fake.add("odder", spec)
    assert kfadapter("graph", "odder").err.endswith(", x5, x6, and 92 more (get -o json shows all)\n")


def test_a_file_cannot_steer_the_terminal(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """Control characters in a file are printed escaped."""
    fake.add("evil", pb.PipelineSpecSummary(tasks=[pb.Task(name="\x1b[2Jgone", kind=CONTAINER)]))
    for form in ("text", "svg", "mermaid", "dot"):
        assert "\x1b" not in kfadapter("graph", "evil", "-o", form).out


@pytest.mark.parametrize("form", ["text", "svg", "mermaid", "dot"])
def test_a_terminal_without_korean(target: str, train: str, form: str) -> None:
    """If stdout is ASCII, all output is ASCII, and the lines of a box stay equally long."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [PROGRAM, "--target", target, "graph", train, "-o", form],
        capture_output=True, env=environment, check=True, timeout=60,
    )  # fmt: skip
    reported = done.stdout.decode("ascii")
    shown = {"text": "| \\ud559\\uc2b5", "svg": ">&#54617;&#49845;<", "mermaid": "#54617;#49845;", "dot": "&#54617;"}
    assert shown[form] in reported


@pytest.mark.parametrize("arguments", [["--width", "19"], ["--width", "x"], ["-o", "png"]])
def test_wrong_options(kfadapter: Kfadapter, train: str, arguments: list[str]) -> None:
    """A width below 20 and an unknown format are usage errors."""
    assert kfadapter("graph", train, *arguments).code == ExitCode.USAGE


def test_the_width_is_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The width is the terminal's columns, and 80 in a pipe."""
    from kfadapter_grpc.cli import graph  # noqa: PLC0415

    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert graph._width() == 50
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert graph._width() == 80


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Returns true."""
        return True


def test_a_run(fake: FakeAdapter, spec: pb.PipelineSpecSummary) -> None:
    """The pipeline of a run is drawn with the states of its tasks."""
    runs = FakeRuns()
    about = {"pipeline_id": fake.add("train", spec).pipeline_id}
    about["pipeline_version_id"] = fake.versions["train"][-1].pipeline_version_id
    run = runs.add("r", state=run_pb2.RUN_STATE_FAILED, **about)
    run.tasks.add(name="load", task_id="a", state=run_pb2.RUN_STATE_SUCCEEDED)
    run.tasks.add(name="학습", task_id="b", state=run_pb2.RUN_STATE_FAILED)
    with serving_all(fake, runs) as target:
        kfadapter = Kfadapter(target)
        lines = kfadapter("graph", "--run", run.run_id).out.splitlines()
        titles = [index for index, line in enumerate(lines) if "load" in line or "학습" in line]
        assert [lines[index + 1].strip("│ ") for index in titles] == ["SUCCEEDED", "FAILED"]
        assert "SUCCEEDED" in kfadapter("graph", "--run", run.run_id, "-o", "mermaid").out
        for words in ((), ("train", "--run", run.run_id)):
            assert kfadapter("graph", *words).code == ExitCode.USAGE


def test_a_run_whose_pipeline_is_not_known(fake: FakeAdapter) -> None:
    """A run started from a file, or whose version was deleted or is not understood, is drawn from its own tasks."""
    runs = FakeRuns()
    gone = {"pipeline_id": "11111111-0000-4000-8000-000000000001"}
    of_file = runs.add("파일", state=SUCCEEDED)
    of_gone = runs.add("삭제됨", state=SUCCEEDED, **gone, pipeline_version_id=gone["pipeline_id"])
    unknown = fake.add("unknown", pb.PipelineSpecSummary()).pipeline_id
    odd = {"pipeline_id": unknown, "pipeline_version_id": fake.versions["unknown"][-1].pipeline_version_id}
    why = "started from a file, or its version was deleted"
    runs_of = [
        (of_file, why),
        (of_gone, why),
        (runs.add("모름", state=SUCCEEDED, **odd), "its version has no known tasks"),
    ]
    for run, _ in runs_of:
        run.tasks.add(name="준비", task_id="a", state=SUCCEEDED)
        run.tasks.add(name="for-loop-1", display_name="each", task_id="b", kind=pb.TASK_KIND_LOOP, state=SUCCEEDED)
        for index in range(3):
            fit = run.tasks.add(name="fit", task_id=f"c{index}", parent_task_id="b", state=SUCCEEDED, kind=CONTAINER)
            fit.iteration_index = index
            fit.inputs.add(name="data", source_task="준비", source_output="data")
    bare = runs.add("from a file")
    with serving_all(fake, runs) as target:
        kfadapter = Kfadapter(target)
        for run, words in runs_of:
            ended = kfadapter("graph", "--run", run.run_id, "-o", "mermaid")
            assert words in ended.err
            assert ended.out.count("준비") == ended.out.count("fit") == 1
            assert "3 SUCCEEDED" in ended.out
            assert "3 iterations" in ended.out
            assert ended.out.count("-->") == 1
        drawn = kfadapter("graph", "--run", of_file.run_id, "-o", "svg").out
        assert "<title>pipeline, run 파일</title>" in drawn
        assert ' succeeded"' in drawn
        assert "run 'from a file' has no tasks that could be drawn\n" in kfadapter("graph", "--run", bare.run_id).err
