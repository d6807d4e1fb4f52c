from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
import yaml
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_grpc.cli.references import pipeline_reference
from kfadapter_grpc.cli.values import parse_time
from kfadapter_grpc.client import Client
from kfadapter_grpc.contract.pipelines import PipelineRef

if TYPE_CHECKING:
    from tests.cli.conftest import Kfadapter
    from tests.client.fake_adapter import FakeAdapter

UUID = "0a1b2c3d-0000-4000-8000-00000000000A"


def wire_value(value: object) -> Value:
    """Converts a JSON value to protobuf."""
    return json_format.Parse(json.dumps(value), Value())


@pytest.fixture
def spec() -> pb.PipelineSpecSummary:
    """A spec with parameters of several kinds."""
    return pb.PipelineSpecSummary(
        format=pb.PIPELINE_FORMAT_KFP_V2,
        description="설명",
        schema_version="2.1.0",
        sdk_version="kfp-2.17.0",
        parameters=[
            pb.Parameter(
                name="epochs", type=pb.PARAMETER_TYPE_NUMBER_INTEGER, default_value=wire_value(7), optional=True
            ),
            pb.Parameter(
                name="rate", type=pb.PARAMETER_TYPE_NUMBER_DOUBLE, default_value=wire_value(1.0), optional=True
            ),
            pb.Parameter(name="dataset", type=pb.PARAMETER_TYPE_STRING, description="where the rows are"),
            pb.Parameter(
                name="도시", type=pb.PARAMETER_TYPE_LIST, default_value=wire_value(["서울", 2]), optional=True
            ),
            pb.Parameter(name="odd", declared_type="GCSPath", default_value=wire_value(None)),
        ],
    )


@pytest.mark.parametrize("style", ["json", "yaml"])
def test_documents_keep_every_script(kfadapter: Kfadapter, fake: FakeAdapter, style: str) -> None:
    """If stdout is UTF-8, strings in documents are not escaped."""
    fake.add("학습", description="모델 🙂")
    ended = kfadapter("get", "학습", "-o", style)
    assert (ended.code, "모델 🙂" in ended.out, "학습" in ended.out) == (0, True, True)


def test_get_shows_the_pipeline_and_its_parameters(
    kfadapter: Kfadapter, fake: FakeAdapter, spec: pb.PipelineSpecSummary
) -> None:
    """The view shows the pipeline, its versions and format, and each parameter with type, default and necessity."""
    fake.add("train", spec, description="Trains\na model")
    ended = kfadapter("get", "train")
    assert (ended.code, ended.err) == (0, "")
    head, _, table = ended.out.partition("\n\n")
    fields = dict(line.split(maxsplit=1) for line in head.splitlines() if not line.startswith(" "))
    assert fields["Name"] == "train"
    assert fields["Created"] == "2025-10-09 08:53:21 UTC"
    assert fields["Versions"] == "1"
    assert fields["Format"] == "KFP v2 (schema 2.1.0, kfp-2.17.0)"
    assert "Description   Trains\n              a model\n" in head
    rows = [line.split() for line in table.splitlines()]
    assert rows == [
        ["PARAMETER", "TYPE", "DEFAULT", "NEEDED", "DESCRIPTION"],
        ["epochs", "integer", "7", "optional"],
        ["rate", "double", "1.0", "optional"],
        ["dataset", "string", "required", "where", "the", "rows", "are"],
        ["도시", "list", '["서울",', "2]", "optional"],
        ["odd", "GCSPath", "null", "optional"],
    ]


@pytest.mark.parametrize(
    ("kind", "reported"), [(pb.PIPELINE_FORMAT_KFP_V2, True), (pb.PIPELINE_FORMAT_UNSPECIFIED, False)]
)
def test_no_parameters_are_reported_where_the_file_is_known(
    kind: pb.PipelineFormat.ValueType, reported: bool, kfadapter: Kfadapter, fake: FakeAdapter
) -> None:
    """For a pipeline without parameters the output reports it; for an unknown format parameters are not mentioned."""
    fake.add("train", pb.PipelineSpecSummary(format=kind))
    assert ("Parameters   none" in kfadapter("get", "train").out) is reported


TASKS = [
    pb.Task(
        name="학습",
        kind=pb.TASK_KIND_CONTAINER,
        image=f"r.io/a/fit@sha256:{'0' * 64}",
        resources=pb.TaskResources(cpu_request="1", cpu_limit="2", memory_limit="4G", accelerator_type="gpu"),
        kubernetes_extras=[pb.KubernetesExtra(kind="secretAsEnv", name="s3")],
        max_retries=2,
    ),
    pb.Task(
        name="good-enough",
        kind=pb.TASK_KIND_CONDITION,
        depends_on=["학습"],
        condition="loss < 1",
        tasks=[pb.Task(name="report", kind=pb.TASK_KIND_CONTAINER, image="python:3.11")],
    ),
]


@pytest.fixture
def whole(spec: pb.PipelineSpecSummary) -> pb.PipelineSpecSummary:
    """A spec with every kind of content."""
    spec.tasks.extend(TASKS)
    spec.input_artifacts.add(name="rows", type="system.Dataset", is_list=True)
    spec.output_artifacts.add(name="model", type="system.Model", description="모델")
    spec.output_parameters.add(name="loss", type=pb.PARAMETER_TYPE_NUMBER_DOUBLE)
    spec.unknown_parts.extend(f"root.x{number}" for number in range(10))
    return spec


def test_get_shows_what_is_inside(kfadapter: Kfadapter, fake: FakeAdapter, whole: pb.PipelineSpecSummary) -> None:
    """The view shows artifacts, the outline of tasks, their requirements, images, and parts unknown to the adapter."""
    fake.add("train", whole)
    head, _, artifacts, outputs, tasks, needs = kfadapter("get", "train").out.split("\n\n")
    assert "Images        r.io/a/fit@sha256:000000000000\n              python:3.11\n" in head
    assert "Unknown       this adapter does not know: root.x0, root.x1" in head
    assert "root.x7, and 2 more (get -o json shows all)" in head
    assert [line.split() for line in artifacts.splitlines()] == [
        ["INPUT", "ARTIFACT", "TYPE", "NEEDED"],
        ["rows", "list", "of", "Dataset", "required"],
    ]
    assert [line.split() for line in outputs.splitlines()] == [
        ["OUTPUT", "TYPE", "DESCRIPTION"],
        ["model", "Model", "모델"],
        ["loss", "double"],
    ]
    assert tasks.splitlines() == ["TASKS", "• 학습", "• good-enough: if loss < 1; after 학습", "  • report"]
    assert needs.splitlines() == [
        "TASK   NEEDS",
        "학습   CPU 1 to 2, memory up to 4G, 1 x gpu, secret as env s3, 2 retries",
    ]


def test_tasks_of_one_name_are_distinguished(
    kfadapter: Kfadapter, fake: FakeAdapter, spec: pb.PipelineSpecSummary
) -> None:
    """Tasks with the same name are shown with the names of their groups."""
    needy = pb.Task(name="say", kind=pb.TASK_KIND_CONTAINER, image="a", max_retries=1)
    alone = pb.Task(name="alone", kind=pb.TASK_KIND_CONTAINER, image="a", max_retries=2)
    spec.tasks.extend([pb.Task(name="heads", tasks=[needy]), pb.Task(name="tails", tasks=[needy, alone])])
    fake.add("train", spec)
    *_, needs = kfadapter("get", "train").out.split("\n\n")
    assert [line.rpartition("   ")[0].strip() for line in needs.splitlines()[1:]] == [
        "heads / say",
        "tails / say",
        "alone",
    ]


def test_get_shows_the_newest_versions(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """Five versions are shown with their ages, and a command that lists the rest, quoted for the shell."""
    fake.add("내 것")
    for number in range(2, 8):
        fake.add_version("내 것", str(number))
    *_, table = kfadapter("get", "내 것", "-n", "x").out.split("\n\n")
    head, *rows, rest = table.splitlines()
    assert head.split() == ["VERSION", "ID", "CREATED", "DESCRIPTION"]
    assert len(rows) == 5
    assert rows[2].endswith("d ago")
    assert rest == f"and 2 more: kfadapter --target {kfadapter.target} --namespace x versions '내 것'"
    assert fake.calls == ["Get", "ListVersions"]
    record = json.loads(kfadapter("get", "내 것", "-o", "json").out)
    assert [version["name"] for version in record["versions"]] == ["내 것", "2", "3", "4", "5"]


def test_get_one_version(kfadapter: Kfadapter, fake: FakeAdapter, whole: pb.PipelineSpecSummary) -> None:
    """`--version` shows that version and its content, in every format."""
    fake.add("train", whole)
    fake.add_version("train", "2")
    shown = kfadapter("get", "train", "--version", "train").out
    fields = dict(line.split(maxsplit=1) for line in shown.partition("\n\n")[0].splitlines()[:1])
    assert (fields["Version"], "TASKS\n• 학습\n" in shown) == ("train", True)
    record = json.loads(kfadapter("get", "train", "--version", fields["Version"], "-o", "json").out)
    assert (record["name"], record["spec"]["tasks"][1]["condition"]) == ("train", "loss < 1")
    assert kfadapter("get", "train", "--version", "2", "-o", "name").out == "2\n"
    assert kfadapter("get", "train", "--version", "3").code == ExitCode.NOT_FOUND
    assert kfadapter("get", "train", "--version", "").code == ExitCode.USAGE


def test_delete_one_version(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """`--version` deletes only that version; a missing version is an error, except with --allow-missing."""
    fake.add("train")
    fake.add_version("train", "2")
    assert kfadapter("delete", "train", "--version", "2").out == "deleted version 2 of pipeline 'train'\n"
    assert [version.name for version in fake.versions["train"]] == ["train"]
    assert kfadapter("delete", "train", "--version", "2").code == ExitCode.NOT_FOUND
    allowed = kfadapter("delete", "train", "--version", "2", "--allow-missing")
    assert (allowed.code, allowed.out) == (0, "")
    assert allowed.err == "not found: version '2' of pipeline 'train'\n"
    record = json.loads(kfadapter("delete", "train", "--version", "train", "-o", "json").out)
    assert record == {"pipeline_version_id": "11111111-0000-4000-8000-000000000000", "name": "train"}
    assert kfadapter("delete", "train", "--version", "").code == ExitCode.USAGE
    assert "train" in fake.pipelines


def test_fields_missing_in_a_list_are_null(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """Fields that a list of versions does not contain, such as tags and checksums, are null rather than empty."""
    fake.add("train")
    (record,) = json.loads(kfadapter("versions", "train", "-o", "json").out)
    assert {key for key, value in record.items() if value is None} == {"display_name", "tags", "sha256", "spec"}
    assert record["description"] == ""


def test_korean_keeps_its_columns(kfadapter: Kfadapter, fake: FakeAdapter, spec: pb.PipelineSpecSummary) -> None:
    """A wide character takes two columns, so columns stay aligned."""
    fake.add("train", spec)
    table = kfadapter("get", "train").out.partition("\n\n")[2].splitlines()
    assert table[4].startswith("도시")
    assert table[0].index("TYPE") == table[4].index("list") + 2 == table[1].index("integer")


def test_get_as_json_keeps_types(kfadapter: Kfadapter, fake: FakeAdapter, spec: pb.PipelineSpecSummary) -> None:
    """JSON has the proto's field names, typed defaults, and no default if the file has none."""
    fake.add("train", spec)
    record = json.loads(kfadapter("get", "train", "-o", "json").out)
    assert (record["name"], record["version_count"], record["created_at"]) == ("train", 1, "2025-10-09T08:53:21Z")
    parameters = {p["name"]: p for p in record["latest_version"]["spec"]["parameters"]}
    assert repr(parameters["epochs"]["default_value"]) == "7"
    assert repr(parameters["rate"]["default_value"]) == "1.0"
    assert parameters["도시"]["default_value"] == ["서울", 2]
    assert parameters["odd"]["default_value"] is None
    assert "default_value" not in parameters["dataset"]
    assert (parameters["odd"]["type"], parameters["epochs"]["type"]) == ("GCSPath", "NUMBER_INTEGER")
    assert parameters["odd"]["declared_type"] == "GCSPath"


def test_yaml_equals_json(kfadapter: Kfadapter, fake: FakeAdapter, spec: pb.PipelineSpecSummary) -> None:
    """YAML and JSON contain the same document."""
    fake.add("train", spec)
    as_json = json.loads(kfadapter("get", "train", "-o", "json").out)
    assert yaml.safe_load(kfadapter("get", "train", "-o", "yaml").out) == as_json


def test_get_by_id(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """A UUID is sent as an id; --name sends it as a name."""
    pipeline = fake.add("train")
    assert kfadapter("get", pipeline.pipeline_id, "-o", "name").out == "train\n"
    assert kfadapter("get", "--name", pipeline.pipeline_id).code == ExitCode.NOT_FOUND
    sent = fake.requests[-1]
    assert isinstance(sent, pb.GetPipelineRequest)
    assert sent.WhichOneof("pipeline") == "name"


@pytest.mark.parametrize(
    ("text", "by_id", "ref"),
    [
        ("train", None, PipelineRef(name="train")),
        (UUID, None, PipelineRef(pipeline_id=UUID)),
        (UUID, False, PipelineRef(name=UUID)),
        ("train", True, PipelineRef(pipeline_id="train")),
        (UUID + "x", None, PipelineRef(name=UUID + "x")),
    ],
)
def test_names_and_ids_are_distinguished(text: str, by_id: bool | None, ref: PipelineRef) -> None:
    """A complete UUID is an id, unless an option selects otherwise; no call is made to find that out."""
    assert pipeline_reference(Client("127.0.0.1:1"), text, by_id=by_id) == ref


def test_list_in_every_format(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """All pages are listed, as a table, as names and as a document."""
    for number in range(5):
        fake.add(f"train-{number}", description="d")
    table = [line.split()[0] for line in kfadapter("list").out.splitlines()]
    names = kfadapter("list", "-o", "name").out.splitlines()
    document = [record["name"] for record in json.loads(kfadapter("list", "-o", "json").out)]
    assert table == ["NAME", *names]
    assert names == document == [f"train-{number}" for number in range(5)]


def test_list_sends_its_filters(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """Each option is sent in the request; options after the command take precedence."""
    arguments = [
        "--contains",
        "a",
        "--created-after",
        "2026-01-01T00:00:00Z",
        "--tag",
        "team=a=b",
        "--order-by",
        "name",
    ]
    assert kfadapter("-n", "x", "list", *arguments, "--limit", "7", "-n", "team-a").code == 0
    sent = fake.requests[0]
    assert isinstance(sent, pb.ListPipelinesRequest)
    assert (sent.name_contains, sent.created_after.seconds, dict(sent.tags)) == ("a", 1767225600, {"team": "a=b"})
    assert (sent.order_by, sent.page_size, sent.namespace) == ("name", 7, "team-a")


def test_limit_ends_the_listing(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """No more items than the limit are shown, and no page is requested in vain."""
    for number in range(5):
        fake.add(f"train-{number}")
    assert kfadapter("list", "--limit", "3", "-o", "name").out.splitlines() == ["train-0", "train-1", "train-2"]
    assert fake.calls == ["List"]


def test_an_empty_list_is_no_data(kfadapter: Kfadapter) -> None:
    """For an empty list stdout has only the empty document; with a table, stderr reports that nothing was found."""
    assert kfadapter("list") == kfadapter("list", "-o", "table")
    assert (kfadapter("list").out, kfadapter("list").err) == ("", "no pipelines\n")
    assert kfadapter("list", "-o", "json").out == "[]\n"


def test_versions(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """The versions of a pipeline are listed in all formats."""
    fake.add("train")
    fake.add_version("train", "2")
    fake.add_version("train", "3")
    assert kfadapter("versions", "train", "-o", "name").out.splitlines() == ["train", "2", "3"]
    assert [line.split()[0] for line in kfadapter("versions", "train").out.splitlines()] == [
        "VERSION",
        "train",
        "2",
        "3",
    ]
    assert [v["name"] for v in yaml.safe_load(kfadapter("versions", "train", "-o", "yaml").out)] == ["train", "2", "3"]
    assert kfadapter("versions", "absent").code == ExitCode.NOT_FOUND


def test_data_cannot_steer_the_terminal(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """Control characters in a description are escaped in tables, and a line break does not break a row."""
    fake.add("train", description="a\n\x1b[31mred\x07")
    row = kfadapter("list").out.splitlines()[1]
    assert row.endswith(r"a \x1b[31mred\x07")
    assert "\x1b" not in kfadapter("get", "train").out


@pytest.mark.parametrize("char", ["\x9b", "\x7f", "\u202e", "\u2066", "\u061c", "\u2028"])
def test_data_cannot_reverse_a_line(kfadapter: Kfadapter, fake: FakeAdapter, char: str) -> None:
    """C1 controls, and characters that change the text direction or break a line, are escaped, too."""
    fake.add("train", description=f"a{char}b")
    shown = char.encode("unicode_escape").decode()
    for command in ("list", "get"):
        out = kfadapter(command, *["train"][: command == "get"]).out
        assert char not in out
        assert f"a{shown}b" in out or char == "\u2028"  # there a table's cell continues after a space


def test_json_holds_no_controls(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """JSON escapes all control characters, even those that it need not, and decodes to the same string."""
    description = "a\x1b\x7f\x85\x9bb 설명"
    fake.add("train", description=description)
    out = kfadapter("get", "train", "-o", "json").out
    assert not {"\x1b", "\x7f", "\x85", "\x9b"} & set(out)
    assert json.loads(out)["description"] == description


def test_long_lines_are_not_broken_for_pipes(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """If stdout is not a terminal, a row stays one line of any length, without trailing spaces."""
    fake.add("train", description="word " * 200)
    fake.add("b")
    lines = kfadapter("list").out.splitlines()
    assert len(lines) == 3
    assert all(line == line.rstrip() for line in lines)


def test_delete_reports_the_number_of_versions(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """Deleting more than one version requires --force; the output names the number deleted."""
    fake.add("train")
    fake.add_version("train", "2")
    refused = kfadapter("delete", "train")
    assert refused.code == ExitCode.REFUSED
    assert "has 2 versions" in refused.err
    assert "--force" in refused.err
    assert kfadapter("delete", "train", "--force").out == "deleted train with 2 versions\n"
    assert fake.pipelines == {}


def test_delete_a_missing_pipeline(kfadapter: Kfadapter) -> None:
    """A missing pipeline is an error, except with --allow-missing."""
    assert kfadapter("delete", "absent").code == ExitCode.NOT_FOUND
    allowed = kfadapter("delete", "absent", "--allow-missing")
    assert (allowed.code, allowed.out, allowed.err) == (0, "", "not found: pipeline 'absent'\n")
    record = json.loads(kfadapter("delete", "absent", "--allow-missing", "-o", "json").out)
    assert record == {"pipeline_id": "", "name": "", "versions_deleted": 0}


@pytest.mark.parametrize(
    "text", ["2026-01-01T00:00:00Z", "2026-01-01T09:00:00+09:00", "2026-01-01", "2026-01-01T00:00"]
)
def test_times_are_read(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time is ISO 8601; without a zone it is UTC, whatever the machine's time zone."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Seoul")
        time.tzset()
        seconds = parse_time(text).timestamp()
    time.tzset()
    assert seconds == 1767225600


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--created-after", "yesterday"],
        ["list", "--tag", "team"],
        ["list", "--tag", "a=1", "--tag", "a=2"],
        ["list", "--limit", "-1"],
        ["get"],
        ["get", "x", "-o", "xml"],
        ["list", "--timeout", "0"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str], kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """For a wrong command line nothing is sent, the exit code is 2, and stderr reports what is wrong."""
    ended = kfadapter(*arguments)
    assert (ended.code, ended.out, fake.calls) == (ExitCode.USAGE, "", [])
    assert [line.partition(":")[0] for line in ended.err.splitlines()] == ["error", "why", "next"]
    assert ended.err.splitlines()[2].endswith(" --help")
    assert "Value error" not in ended.err


@pytest.mark.parametrize(("command", "id_field"), [("list", "pipeline_id"), ("versions list", "pipeline_version_id")])
def test_the_help_names_the_words_of_an_order(command: str, id_field: str, kfadapter: Kfadapter) -> None:
    """The help names exactly the fields that the adapter sorts by."""
    reported = " ".join(kfadapter(*command.split(), "--help").out.split())
    assert f"created_at, name or {id_field}; append desc for descending order: 'name desc'." in reported


def test_update_changes_display_name_and_tags(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """Tags are added and removed one by one; without any, only the display name is sent."""
    fake.add("train").tags.update({"a": "1", "b": "2"})
    ended = kfadapter("update", "train", "--display-name", "학습", "--tag", "c=3", "--tag", "a=0", "--remove-tag", "b")
    assert (ended.code, ended.err) == (0, "")
    assert [line.split(maxsplit=1)[-1] for line in ended.out.splitlines()] == ["train", "name   학습", "a=0, c=3"]
    ended = kfadapter("update", "train", "--display-name", "", "-o", "json")
    assert json.loads(ended.out)["display_name"] == "train"
    assert fake.calls == ["Get", "Update", "Update"]
    assert list(fake.requests[-1].update_mask.paths) == ["display_name"]  # type: ignore[attr-defined]


def test_update_of_a_version(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """With --version, it changes that version."""
    fake.add("train")
    fake.add_version("train", "2").tags["a"] = "1"
    ended = kfadapter("update", "train", "--version", "2", "--remove-tag", "a", "--remove-tag", "none", "-o", "name")
    assert (ended.code, ended.out) == (0, "2\n")
    assert fake.calls == ["GetVersion", "UpdateVersion"]
    assert dict(fake.versions["train"][1].tags) == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "nothing to change; give --display-name, --tag or --remove-tag"),
        (("--tag", "a=1", "--remove-tag", "a"), "the tag 'a' is in --tag and in --remove-tag"),
        (("--tag", "a"), "'a' is not of the form KEY=VALUE"),
        (("--version", "", "--tag", "a=b"), "an empty text is no version"),
    ],
)
def test_update_without_sense(kfadapter: Kfadapter, fake: FakeAdapter, options: tuple[str, ...], words: str) -> None:
    """A contradiction is a usage error, before any call."""
    ended = kfadapter("update", "train", *options)
    assert (ended.code, fake.calls) == (ExitCode.USAGE, [])
    assert words in ended.err
