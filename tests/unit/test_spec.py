from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.transcripts import DATA, PIPELINES

from kfadapter_grpc.contract.errors import KfpError
from kfadapter_grpc.contract.spec import Parameter, ParameterType, PipelineFormat, SpecSummary
from kfadapter_grpc.kfp.spec import summarize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.contract.spec import Json

DOUBLE, INTEGER, STRING = ParameterType.NUMBER_DOUBLE, ParameterType.NUMBER_INTEGER, ParameterType.STRING


def _required(name: str, kind: ParameterType, declared: str | None = None, *, optional: bool = False) -> Parameter:
    return Parameter(name, kind, kind.value if declared is None else declared, optional=optional)


def _with_default(name: str, kind: ParameterType, default: Json, declared: str | None = None) -> Parameter:
    return replace(_required(name, kind, declared, optional=True), has_default=True, default=default)


def _v2(name: str, *parameters: Parameter, description: str = "", returns: ParameterType | None = None) -> SpecSummary:
    reported = SpecSummary(PipelineFormat.KFP_V2, name, description, parameters, "2.1.0", "kfp-2.17.0")
    return replace(reported, output_parameters=(_required("Output", returns),)) if returns else reported


GOLDEN = {
    "all_parameter_types": _v2(
        "all-parameter-types",
        _with_default("b", ParameterType.BOOLEAN, True),
        _with_default("d", ParameterType.STRUCT, {"a": 1}),
        _with_default("f", DOUBLE, 0.5),
        _with_default("i", INTEGER, 7),
        _required("maybe", STRING, optional=True),
        _required("s", STRING),
        _with_default("xs", ParameterType.LIST, [1, 2, 3]),
    ),
    "argo_v1_workflow": SpecSummary(
        PipelineFormat.ARGO_V1,
        "v1-add",
        "Adds two numbers (KFP v1).",
        (_with_default("a", INTEGER, 1, "Integer"), _required("b", INTEGER, "Integer")),
        "argoproj.io/v1alpha1",
        "1.8.22",
    ),
    "container_step": _v2("container-step", _with_default("text", STRING, "hi")),
    "fails_with_exit_handler": _v2("fails-with-exit-handler", _with_default("message", STRING, "broken on purpose")),
    "hello_world": _v2(
        "hello-world",
        _with_default("recipient", STRING, "세계"),
        _with_default("times", INTEGER, 2),
        description="Greets one person; 한국어 설명도 괜찮다.",
        returns=STRING,
    ),
    "kubernetes_platform": _v2("kubernetes-platform", _with_default("size", STRING, "1Gi")),
    "parallel_squares": _v2(
        "parallel-squares", _with_default("numbers", ParameterType.LIST, [1, 2, 3]), returns=INTEGER
    ),
    "sleeps": _v2("sleeps", _with_default("seconds", INTEGER, 60)),
    "train_and_report": _v2(
        "train-and-report",
        _with_default("epochs", INTEGER, 50),
        _with_default("rows", INTEGER, 10),
        _with_default("threshold", DOUBLE, 100),
        description="Passes a dataset file to a trainer, logs a metric, reports when it is good.",
    ),
}


def _summary(spec: object) -> SpecSummary:
    return summarize(json.dumps(spec).encode())


def _served(path_stem: str) -> object:
    """The spec of a file as KFP serves it."""
    parts = list(yaml.safe_load_all((PIPELINES / f"{path_stem}.yaml").read_bytes()))
    return parts[0] if len(parts) == 1 else {"pipeline_spec": parts[0], "platform_spec": parts[1]}


@pytest.mark.parametrize("stem", sorted(path.stem for path in PIPELINES.glob("*.yaml")))
def test_real_pipelines(stem: str) -> None:
    """Every real pipeline has its name, versions, parameters and outputs, each default in its own type."""
    summary = replace(_summary(_served(stem)), tasks=())
    assert summary == GOLDEN[stem]
    assert [type(one.default) for one in summary.parameters if one.type is INTEGER and one.has_default] == [
        int for one in summary.parameters if one.type is INTEGER and one.has_default
    ]


def _recorded_specs(body: object) -> Iterator[object]:
    if isinstance(body, dict):
        for key, value in body.items():
            if key == "pipeline_spec":
                yield value
            else:
                yield from _recorded_specs(value)
    elif isinstance(body, list):
        for one in body:
            yield from _recorded_specs(one)


@pytest.mark.parametrize(
    ("transcript", "count"), [("versions", 16), ("bad_uploads", 1), ("kfp-2.5/versions", 1), ("kfp-2.5/bad_uploads", 1)]
)
def test_recorded_specs(transcript: str, count: int) -> None:
    """Specs as KFP served them, of both versions, have the same summary as the files they were created from."""
    steps = json.loads((DATA / "transcripts" / f"{transcript}.json").read_bytes())["steps"]
    summaries = [_summary(spec) for step in steps for spec in _recorded_specs(step["response"]["json"])]
    assert len(summaries) >= count
    known = {golden.name: golden for golden in GOLDEN.values()}
    for summary in summaries:
        assert replace(summary, tasks=()) == known[summary.name]


def _parameter(**spec: Json) -> Parameter:
    (parameter,) = _summary({"root": {"inputDefinitions": {"parameters": {"p": spec}}}}).parameters
    return parameter


@pytest.mark.parametrize(("old", "kind"), [("INT", INTEGER), ("DOUBLE", DOUBLE), ("STRING", STRING)])
def test_old_types(old: str, kind: ParameterType) -> None:
    """Specs of schema 2.0.0, which have `type` with other names, are read too."""
    assert _parameter(type=old) == _required("p", kind, old)


def test_parameter_details() -> None:
    """Description, optional and a default of null are read; a default makes a parameter optional."""
    assert _parameter(parameterType="STRING", description="what for").description == "what for"
    assert _parameter(parameterType="STRING", isOptional=True).optional
    assert _parameter(parameterType="STRING", defaultValue=None) == _with_default("p", STRING, None)
    assert isinstance(_parameter(parameterType="NUMBER_DOUBLE", defaultValue=1).default, float)
    assert _parameter(parameterType="NUMBER_INTEGER", defaultValue=7.5).default == 7.5
    assert _parameter(parameterType="NUMBER_INTEGER", defaultValue="x").default == "x"
    assert _parameter(parameterType="TASK_FINAL_STATUS").type is ParameterType.TASK_FINAL_STATUS


def _workflow(inputs: Json, arguments: Json = ()) -> SpecSummary:
    annotation = json.dumps({"name": "v1", "inputs": inputs})
    metadata = {"annotations": {"pipelines.kubeflow.org/pipeline_spec": annotation}}
    spec = {"arguments": {"parameters": arguments}}
    return _summary({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": metadata, "spec": spec})


@pytest.mark.parametrize(
    ("declared", "kind", "text", "default"),
    [
        ("Integer", INTEGER, "1", 1),
        ("Integer", INTEGER, "1.0", 1),
        ("Integer", INTEGER, "one", "one"),
        ("Integer", INTEGER, "1.5", "1.5"),
        ("Integer", INTEGER, "true", "true"),
        ("Integer", INTEGER, "9" * 5000, "9" * 5000),
        ("Float", DOUBLE, "0.5", 0.5),
        ("Float", DOUBLE, "1", 1.0),
        ("Float", DOUBLE, "nan", "nan"),
        ("String", STRING, "1", "1"),
        ("Bool", ParameterType.BOOLEAN, "True", True),
        ("Boolean", ParameterType.BOOLEAN, "false", False),
        ("Bool", ParameterType.BOOLEAN, "1", "1"),
        ("JsonArray", ParameterType.LIST, "[1, 2]", [1, 2]),
        ("List", ParameterType.LIST, "{}", "{}"),
        ("JsonObject", ParameterType.STRUCT, '{"a": 1}', {"a": 1}),
        ("Dict", ParameterType.STRUCT, "{", "{"),
        ("URI", ParameterType.UNKNOWN, "1", "1"),
    ],
)
def test_v1_defaults(declared: str, kind: ParameterType, text: str, default: Json) -> None:
    """KFP v1 keeps defaults as strings; they become values of the declared type, or stay strings if invalid."""
    (parameter,) = _workflow([{"name": "p", "type": declared, "default": text}]).parameters
    assert parameter == _with_default("p", kind, default, declared)
    assert type(parameter.default) is type(default)


def test_v1_types() -> None:
    """A v1 type may be a mapping or missing; both are read as an unknown type, without an unknown part."""
    summary = _workflow([{"name": "a", "type": {"GCSPath": {"data_type": "CSV"}}}, {"name": "b"}])
    assert summary.parameters == (
        _required("a", ParameterType.UNKNOWN, "GCSPath"),
        _required("b", ParameterType.UNKNOWN, ""),
    )
    assert summary.unknown_parts == ()


def test_v1_arguments() -> None:
    """The annotation and the arguments of the Workflow are merged."""
    summary = _workflow(
        [{"name": "a", "type": "Integer", "description": "first"}, {"name": "b", "type": "Integer", "default": "2"}],
        [{"name": "a", "value": "5"}, {"name": "b", "value": "3"}, {"name": "c", "value": "x"}, {"name": "d"}],
    )
    assert summary.parameters == (
        Parameter("a", INTEGER, "Integer", has_default=True, default=5, optional=True, description="first"),
        _with_default("b", INTEGER, 2, "Integer"),
        _with_default("c", ParameterType.UNKNOWN, "x", ""),
        _required("d", ParameterType.UNKNOWN, ""),
    )


def test_v1_without_annotation() -> None:
    """A Workflow not made by the SDK is named by its own metadata."""
    base = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow"}
    assert _summary({**base, "metadata": {"generateName": "made-"}}).name == "made"
    assert _summary({**base, "metadata": {"name": "n", "generateName": "made-"}}).name == "n"


@pytest.mark.parametrize(
    ("spec", "unknown"),
    [
        ([], "$"),
        ({}, "$"),
        ({"pipeline_spec": 3}, "pipeline_spec"),
        ({"apiVersion": "v1", "kind": "Pod"}, "$"),
        ({"root": 3}, "root"),
        ({"root": {"inputDefinitions": 3}}, "root.inputDefinitions"),
        ({"root": {"inputDefinitions": {"parameters": []}}}, "root.inputDefinitions.parameters"),
        ({"root": {"inputDefinitions": {"parameters": {"p": 1}}}}, "root.inputDefinitions.parameters.p"),
        (
            {"root": {"inputDefinitions": {"parameters": {"p": {"parameterType": "NEW"}}}}},
            "root.inputDefinitions.parameters.p.parameterType",
        ),
        (
            {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"annotations": {
                "pipelines.kubeflow.org/pipeline_spec": "{broken"}}},
            "metadata.annotations.pipelines.kubeflow.org/pipeline_spec",
        ),
        (
            {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "spec": {"arguments": {"parameters": [3]}}},
            "spec.arguments.parameters[0]",
        ),
    ],
)  # fmt: skip
def test_unknown_parts(spec: object, unknown: str) -> None:
    """An unknown part is reported with its path, and nothing fails."""
    assert unknown in _summary(spec).unknown_parts


def test_new_parameter_type() -> None:
    """A parameter of an unknown type has the type's name."""
    assert _parameter(parameterType="NEW", defaultValue=1) == _with_default("p", ParameterType.UNKNOWN, 1, "NEW")


def test_v1_type_of_a_malformed_shape() -> None:
    """A v1 type that is neither a name nor a mapping is reported with its path."""
    path = "metadata.annotations.pipelines.kubeflow.org/pipeline_spec.inputs[0].type"
    assert _workflow([{"name": "p", "type": [1]}]).unknown_parts == (path,)


def test_unknown_parts_are_bounded() -> None:
    """At most a hundred unknown parts are reported, the last one shows that there are more."""
    parameters = {f"p{number}": {"parameterType": "NEW"} for number in range(1_000)}
    summary = _summary({"root": {"inputDefinitions": {"parameters": parameters}}})
    assert (len(summary.parameters), len(summary.unknown_parts)) == (1_000, 100)
    assert summary.unknown_parts[-1] == "..."


@pytest.mark.parametrize("default", ["[" * 22 + "]" * 22, "9" * 5_000], ids=["deep", "long"])
def test_defaults_that_cannot_be_represented(default: str) -> None:
    """A default that no message can carry is an unknown part; the parameter stays optional."""
    spec = '{"root": {"inputDefinitions": {"parameters": {"p": {"parameterType": "LIST", "defaultValue": %s}}}}}'
    summary = summarize((spec % default).encode())
    assert summary.parameters == (_required("p", ParameterType.LIST, optional=True),)
    assert summary.unknown_parts == ("root.inputDefinitions.parameters.p.defaultValue",)


def test_literals() -> None:
    """The allowed values of a parameter are in its own type; if one cannot be sent, any value is allowed."""
    parameters = {
        "color": {"parameterType": "STRING", "literals": ["빨강", "green"]},
        "n": {"parameterType": "NUMBER_INTEGER", "literals": [1.0, 2.0]},
        "open": {"parameterType": "STRING", "literals": ["a", "x" * 70_000]},
    }
    summary = _summary({"root": {"inputDefinitions": {"parameters": parameters}}})
    assert [repr(one.literals) for one in summary.parameters] == ["('빨강', 'green')", "(1, 2)", "()"]
    assert "root.inputDefinitions.parameters.open.literals[1]" in summary.unknown_parts


@pytest.mark.parametrize("content", [b"", b"{", b"a: 1", b"{} {}", b"[" * 100_000, b'{"root": ' + b"[" * 100_000])
def test_no_json(content: bytes) -> None:
    """Bytes that are not JSON are reported as KFP's fault."""
    with pytest.raises(KfpError, match="no JSON"):
        summarize(content)


KEYS = st.sampled_from(
    ["pipeline_spec", "pipelineInfo", "root", "inputDefinitions", "parameters", "p", "parameterType", "defaultValue",
     "isOptional", "description", "name", "type", "apiVersion", "kind", "metadata", "annotations", "spec", "arguments",
     "value", "inputs", "pipelines.kubeflow.org/pipeline_spec", "schemaVersion", "sdkVersion"]
)  # fmt: skip
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("a1 한\0", max_size=5)
    | st.sampled_from(["argoproj.io/v1alpha1", "Workflow", "Integer", "STRING", '{"inputs": [{"name": "x"}]}'])
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=10
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_json_object(spec: dict[str, object]) -> None:
    """No JSON object makes the reader fail."""
    assert isinstance(_summary(spec), SpecSummary)


@given(VALUES, st.sampled_from(["root", "inputDefinitions", "parameters", "p"]))
def test_any_v2_parts(value: object, place: str) -> None:
    """With any value in place of a part, the summary is one of a v2 spec."""
    path = ["root", "inputDefinitions", "parameters", "p"]
    for key in reversed(path[: path.index(place) + 1]):
        value = {key: value}
    assert _summary(value).format is PipelineFormat.KFP_V2


@given(VALUES)
def test_any_workflow(value: object) -> None:
    """With any content, a Workflow is read as one."""
    spec = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": value, "spec": value}
    assert _summary(spec).format is PipelineFormat.ARGO_V1
    assert isinstance(_workflow([value], [value]), SpecSummary)  # type: ignore[list-item]


def test_what_a_message_cannot_carry_is_named() -> None:
    """Large defaults, and those that do not fit into the summary, are in unknown_parts instead."""
    large = {"parameterType": "STRING", "defaultValue": "x" * 100_000}
    medium = {f"p{n:03}": {"parameterType": "STRING", "defaultValue": "y" * 60_000} for n in range(50)}
    spec = {
        "pipelineInfo": {"name": "x"},
        "root": {"inputDefinitions": {"parameters": {"large": large, **medium}}},
        "schemaVersion": "2.1.0",
    }
    summary = summarize(json.dumps(spec).encode())
    reported = [parameter for parameter in summary.parameters if parameter.has_default]
    assert 30 <= len(reported) < 50
    assert len(summary.parameters) == 51
    assert "root.inputDefinitions.parameters.large.defaultValue" in summary.unknown_parts
    assert len(summary.unknown_parts) == 51 - len(reported)
