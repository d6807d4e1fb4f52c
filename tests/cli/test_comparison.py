from __future__ import annotations

import csv
import json
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from tests.cli.conftest import Kfadapter
from tests.cli.fake_runs import FakeRuns, serving_all
from tests.cli.test_completion import offered

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1 import run_pb2
from kfadapter_grpc.cli.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client.fake_adapter import FakeAdapter


@pytest.fixture
def runs() -> FakeRuns:
    """A service without runs."""
    return FakeRuns()


@pytest.fixture
def kfadapter(fake: FakeAdapter, runs: FakeRuns) -> Iterator[Kfadapter]:
    """The command line with an adapter that has pipelines and runs."""
    with serving_all(fake, runs) as target:
        yield Kfadapter(target)


def struct(**values: float | str | None) -> Struct:
    """Returns values as parameters have them."""
    made = Struct()
    made.update(values)
    return made


@pytest.fixture
def two(runs: FakeRuns) -> list[str]:
    """Two runs of one pipeline that differ in a parameter, a metric and their duration."""
    made = []
    for number, parameters in enumerate([struct(rate=0.1, city="서울", seed=None), struct(rate=0.2, city="서울")]):
        metric = run_pb2.RunMetric(name="accuracy", value=0.5 + number / 10, task="train", output="m")
        run = runs.add(
            f"실행 {number}",
            state=run_pb2.RUN_STATE_SUCCEEDED,
            pipeline_name="train",
            parameters=parameters,
            metrics=[metric],
            finished_at=Timestamp(seconds=1_760_000_062 + 60 * number),
        )
        made.append(run.run_id)
    return made


def test_compare_marks_what_differs(kfadapter: Kfadapter, two: list[str]) -> None:
    """The table has what differs; with `--all` everything, and what differs is marked."""
    ended = kfadapter("runs", "compare", *two)
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert lines[:3] == ["≠ KIND NAME RUN 1 RUN 2", "name 실행 0 실행 1", f"id {two[0]} {two[1]}"]
    assert lines[3:] == [
        "≠ fact duration 1m01s 2m00s",
        "≠ fact created 2025-10-09 08:53:21 UTC 2025-10-09 08:53:22 UTC",
        "≠ parameter rate 0.1 0.2",
        "≠ parameter seed null -",
        "≠ metric accuracy 0.5 0.6",
    ]
    assert ended.err == "5 equal values are not shown; --all shows them\n"
    every = kfadapter("runs", "compare", *two, "--all")
    assert (every.err, every.out.count("≠")) == ("", 6)
    assert "fact        pipeline     train" in every.out
    assert "parameter   city         서울" in every.out


def test_compare_for_programs(kfadapter: Kfadapter, two: list[str]) -> None:
    """JSON and CSV have all values with their types; a missing one differs from null."""
    record = json.loads(kfadapter("runs", "compare", *two, "-o", "json").out)
    assert [run["run_id"] for run in record["runs"]] == two
    rows = {row["name"]: row for row in record["rows"]}
    assert rows["rate"] == {
        "kind": "parameter",
        "name": "rate",
        "differs": True,
        "values": {two[0]: 0.1, two[1]: 0.2},
    }
    assert rows["seed"]["values"] == {two[0]: None}
    assert rows["duration"]["values"] == {two[0]: 61, two[1]: 120}
    assert rows["created"]["values"][two[0]] == "2025-10-09T08:53:21Z"
    assert not rows["city"]["differs"]
    head, *lines = csv.reader(StringIO(kfadapter("runs", "compare", *two, "-o", "csv").out))
    assert head == ["kind", "name", "differs", *two]
    assert ["parameter", "seed", "true", "null", ""] in lines
    assert ["parameter", "city", "false", "서울", "서울"] in lines
    assert ["fact", "created", "true", "2025-10-09T08:53:21Z", "2025-10-09T08:53:22Z"] in lines


@pytest.mark.parametrize("count", [1, 11])
def test_compare_two_to_ten(kfadapter: Kfadapter, two: list[str], count: int) -> None:
    """Other numbers of runs are a usage error."""
    ended = kfadapter("runs", "compare", *[two[0]] * count)
    assert (ended.code, f"compare 2 to 10 runs, not {count}" in ended.err) == (ExitCode.USAGE, True)


def stock(fake: FakeAdapter) -> None:
    """Adds a pipeline with three versions, of which the last two are equal."""
    first = pb.PipelineSpecSummary(tasks=[pb.Task(name="each", tasks=[pb.Task(name="train", image="python:3.11")])])
    second = pb.PipelineSpecSummary(
        parameters=[pb.Parameter(name="도시", type=pb.PARAMETER_TYPE_STRING)],
        tasks=[pb.Task(name="each", tasks=[pb.Task(name="train", image="python:3.12")])],
    )
    fake.add("train", first)
    fake.add_version("train", "2", second)
    fake.add_version("train", "3", second)


def test_changes_between_versions(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """What was added, removed and changed, and that code is not compared; one version stands for it and the latest."""
    stock(fake)
    ended = kfadapter("versions", "diff", "train", "train", "2")
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert lines == [
        "PART NAME CHANGE BEFORE: train AFTER: 2",
        "parameter 도시 added type=STRING optional=false",
        "task each/train image python:3.11 python:3.12",
    ]
    assert "code and the arguments of containers are not compared" in ended.err
    assert kfadapter("versions", "diff", "train", "train").out == ended.out.replace("AFTER: 2", "AFTER: 3")
    equal = kfadapter("versions", "diff", "train", "2")
    assert (equal.code, equal.out) == (0, "")
    assert equal.err.startswith("parameters, artifacts and tasks are equal; the code ")


def test_changes_for_programs(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """JSON names the versions and leaves out the side that is missing; CSV leaves it empty."""
    stock(fake)
    record = json.loads(kfadapter("versions", "diff", "train", "train", "2", "-o", "json").out)
    assert [one["name"] for one in record["versions"]] == ["train", "2"]
    assert record["changes"] == [
        {
            "kind": "parameter",
            "name": "도시",
            "change": "added",
            "field": "",
            "after": {"type": "STRING", "optional": False},
        },
        {
            "kind": "task",
            "name": "each/train",
            "change": "changed",
            "field": "image",
            "before": "python:3.11",
            "after": "python:3.12",
        },
    ]
    _, added, _ = csv.reader(StringIO(kfadapter("versions", "diff", "train", "train", "2", "-o", "csv").out))
    assert added == ["parameter", "도시", "added", "", "", '{"type": "STRING", "optional": false}']


def test_changed_lines(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """With `-o diff` the files are compared line by line, as YAML with code in blocks."""
    stock(fake)
    same = kfadapter("versions", "diff", "train", "-o", "diff")
    assert (same.code, same.out, same.err) == (0, "", "the pipelines in train and 3 are the same\n")
    files = [json.dumps({"code": f"a\n가 {number}\n"}).encode() for number in range(2)]
    fake.on_call = lambda: setattr(fake, "file", files.pop(0)) if fake.calls[-1] == "Download" else None
    ended = kfadapter("versions", "diff", "train", "2", "3", "-o", "diff")
    assert ended.out.splitlines() == [
        "--- 2",
        "+++ 3",
        "@@ -1,4 +1,4 @@",
        " code: |",
        "   a",
        "-  가 0",
        "+  가 1",
        " ",
    ]


def test_the_only_version(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """A pipeline with one version has nothing to compare."""
    fake.add("alone")
    ended = kfadapter("versions", "diff", "alone")
    assert (ended.code, "has no other version" in ended.err) == (ExitCode.NOT_FOUND, True)


def test_versions_lists_by_default(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """`versions NAME` is `versions list NAME`, with options anywhere; a pipeline may be called as a command is."""
    fake.add("diff")
    fake.add("train")
    for words in (["train"], ["list", "train"], ["-o", "name", "train"], ["--name", "train"]):
        assert kfadapter("versions", *words, "-o", "name").out == "train\n"
    assert kfadapter("versions", "--name", "diff", "-o", "name").out == "diff\n"
    assert "Commands:" in kfadapter("versions", "--help").out


def test_completion_of_versions(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """Commands and pipelines are offered after `versions`, and versions after the pipeline of `diff`."""
    fake.add("different")
    fake.add_version("different", "v2")
    assert offered(kfadapter.target, "bash", "versions", "dif") == ["diff", "different"]
    assert offered(kfadapter.target, "bash", "versions", "diff", "different", "v") == ["v2"]
