from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kfadapter_embedded.pipeline_file import NoPipelineError, read_spec
from kfadapter_embedded.yaml_documents import mappings

if TYPE_CHECKING:
    from kfadapter_embedded.json_text import JsonValue

PIPELINES = Path(__file__).parents[1] / "data" / "pipelines"
MINIMAL = "pipelineInfo: {name: x}\nroot: {dag: {}}\nschemaVersion: 2.1.0\n"


def document(text: str) -> dict[str, JsonValue]:
    """The single document of a YAML text."""
    (found,) = mappings(io.BytesIO(text.encode()))
    return found


def spec(text: str) -> dict[str, JsonValue]:
    """The spec served for a pipeline file."""
    found = json.loads(read_spec(io.BytesIO(text.encode())))
    assert isinstance(found, dict)
    return found


def default(value: str) -> JsonValue:
    """The value served for a parameter default with this YAML text."""
    parameters = f"{{parameters: {{p: {{parameterType: STRUCT, defaultValue: {value}}}}}}}"
    served = spec(MINIMAL.replace("{dag: {}}", f"{{dag: {{}}, inputDefinitions: {parameters}}}"))
    text = json.dumps(served["root"])
    found: JsonValue = json.loads(text)["inputDefinitions"]["parameters"]["p"]["defaultValue"]
    return found


def refusal(text: str) -> str:
    """KFP's message for a file that is not a pipeline."""
    with pytest.raises(NoPipelineError) as caught:
        read_spec(io.BytesIO(text.encode()))
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7.0", "7"),
        ("-0.5", "-0.5"),
        ("{a: [1.0, {b: 2.0}]}", '{"a": [1, {"b": 2}]}'),
        ("0x1F", "31"),
        ("0o17", "15"),
        ("017", "15"),
        ("1_000", "1000"),
        ("+12", "12"),
        ("1e3", "1000"),
        ("'7'", '"7"'),
        ("yes", '"yes"'),
        ("True", "true"),
        ("~", "null"),
        ("2024-02-03", '"2024-02-03T00:00:00Z"'),
        ("1.2.3", '"1.2.3"'),
        ("08", '"08"'),
        ("!!str 7", '"7"'),
        ("!!float 7", "7"),
        ("!!null x", "null"),
        ("한글", '"한글"'),
        ("1e999", '"1e999"'),
    ],
)
def test_values(text: str, value: str) -> None:
    """Values are read as by go-yaml and written as by Go: 7.0 is 7, yes is a string."""
    served = default(text)
    assert json.dumps(served, ensure_ascii=False) == value


@pytest.mark.parametrize(
    ("number", "written"), [("2.0e-05", "0.00002"), ("1.0e-7", "1e-7"), ("1.5", "1.5"), ("-0.0", "0")]
)
def test_spelling_of_numbers(number: str, written: str) -> None:
    """Numbers are formatted as by Go's protojson: YAML, too, reads them as numbers."""
    parameters = f"{{parameters: {{p: {{parameterType: NUMBER_DOUBLE, defaultValue: {number}}}}}}}"
    file = MINIMAL.replace("{dag: {}}", f"{{dag: {{}}, inputDefinitions: {parameters}}}")
    assert f'"defaultValue":{written},' in read_spec(io.BytesIO(file.encode()))


def test_large_numbers() -> None:
    """Numbers too large for an integer are served as floats."""
    assert default("99999999999999999999999") == 1e23


def test_merge_keys() -> None:
    """The key << merges missing keys from one mapping or several; in quotes it is a plain key."""
    merged = document("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [{z: 1}, *a], '<<': 5}")
    assert merged["b"] == {"x": 1, "y": 3}
    assert merged["c"] == {"x": 1, "y": 2, "z": 1, "<<": 5}


def test_aliases() -> None:
    """An alias stands for its anchor, and an anchor may be redefined."""
    assert document("a: &x [1]\nb: *x\nc: &x [2]\nd: *x") == {"a": [1], "b": [1], "c": [2], "d": [2]}


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "1: a", "a: {true: 1}", "a: {? [b] : c}", "a: .nan", "a: [-.inf]", "- a", "a"]
)
def test_documents_that_json_cannot_hold(text: str) -> None:
    """A document that JSON cannot represent, or that is not a mapping, is skipped."""
    assert list(mappings(io.BytesIO(f"{text}\n---\nb: 1".encode()))) == [{"b": 1}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{[}", "yaml: did not find expected node content"),
        ("a: 1\nb: [\n", "yaml: line 2: did not find expected node content"),
        ("a: 1\nb:\n\t- c", "yaml: line 3: found character that cannot start any token"),
        ("a: \x00", "yaml: control characters are not allowed"),
        ("<<: 5", "yaml: map merge requires map or sequence of maps as the value"),
    ],
)
def test_syntax_errors(text: str, words: str) -> None:
    """Invalid YAML is rejected in go-yaml's words, with the line."""
    assert refusal(text) == f"failed to parse pipeline spec YAML: {words}"


def test_encodings() -> None:
    """A byte order mark and UTF-16 are read, invalid UTF-8 is rejected."""
    plain = read_spec(io.BytesIO(MINIMAL.encode()))
    assert read_spec(io.BytesIO(MINIMAL.encode("utf-8-sig"))) == plain
    assert read_spec(io.BytesIO(MINIMAL.encode("utf-16"))) == plain
    with pytest.raises(NoPipelineError, match="yaml: invalid leading UTF-8 octet"):
        read_spec(io.BytesIO(b"a: \xff"))


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL + "colour: red",
        MINIMAL.replace("{name: x}", "{name: 5}"),
        MINIMAL.replace("{dag: {}}", "[]"),
        MINIMAL + "components: {a: {inputDefinitions: {parameters: {p: {parameterType: COLOUR}}}}}",
    ],
)
def test_schema(text: str) -> None:
    """Fields that KFP's message definitions do not have make a pipeline invalid."""
    assert refusal(text) == "unknown template format"


def test_defaults_are_left_out() -> None:
    """As in proto3's JSON, KFP omits default values."""
    task = "{cachingOptions: {enableCache: false}, retryPolicy: {maxRetryCount: 3, backoffFactor: 2.0}}"
    served = spec(MINIMAL.replace("{dag: {}}", f"{{dag: {{tasks: {{t: {task}}}}}}}") + "sdkVersion: ''")
    assert "sdkVersion" not in served
    policy = {"maxRetryCount": 3, "backoffFactor": 2}
    assert served["root"] == {"dag": {"tasks": {"t": {"cachingOptions": {}, "retryPolicy": policy}}}}


def test_platform_spec() -> None:
    """Two documents, in either order, are served under their names; duplicates of a kind are rejected."""
    platform = "platforms: {kubernetes: {a: 1.0}}"
    both = {"pipeline_spec": spec(MINIMAL), "platform_spec": {"platforms": {"kubernetes": {}}}}
    served = spec(f"{MINIMAL}---\n{platform.replace('a: 1.0', '')}")
    assert served == both
    assert spec(f"{platform.replace('a: 1.0', '')}\n---\n{MINIMAL}") == both
    assert refusal(f"{MINIMAL}---\n{MINIMAL}") == "multiple pipeline specs provided"
    twice = "platforms: {kubernetes: {}}"
    assert refusal(f"{MINIMAL}---\n{twice}\n---\n{twice}") == "multiple platform specs provided"
    assert refusal(f"{MINIMAL}---\n{{[}}").startswith("unable to decode yaml document: yaml: ")


@pytest.mark.parametrize("name", sorted(each.name for each in PIPELINES.glob("*.yaml") if "argo" not in each.name))
def test_served_spec_uploaded_again(name: str) -> None:
    """The spec served for a compiled pipeline, uploaded again as JSON documents, is served identically."""
    first = read_spec(io.BytesIO((PIPELINES / name).read_bytes()))
    body = json.loads(first)
    parts = [body["pipeline_spec"], body["platform_spec"]] if "platform_spec" in body else [body]
    again = "\n---\n".join(json.dumps(part, ensure_ascii=False) for part in parts)
    assert json.loads(read_spec(io.BytesIO(again.encode()))) == body


def test_argo_workflow() -> None:
    """A Workflow is served with the empty fields that Go adds, and with parameters as strings, shared parts too."""
    served = spec(
        """
        apiVersion: argoproj.io/v1alpha1
        kind: Workflow
        spec:
          arguments: {parameters: [{name: a, value: 1}, {name: b, value: true}]}
          templates:
          - &t {name: s, script: {image: i, source: "x"}, sidecars: [{image: j}]}
          - *t
          - {name: d, dag: {tasks: [{name: t, template: s}]}}
          - {name: e, steps: [[{name: u, template: s}]]}
        """
    )
    container = {"image": "i", "name": "", "resources": {}, "source": "x"}
    sidecar = {"image": "j", "name": "", "resources": {}}
    empty: dict[str, object] = {"inputs": {}, "metadata": {}, "outputs": {}}
    script = {"name": "s", "script": container, "sidecars": [sidecar], **empty}
    assert served == {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {},
        "spec": {
            "arguments": {"parameters": [{"name": "a", "value": "1"}, {"name": "b", "value": "true"}]},
            "templates": [
                script,
                script,
                {"name": "d", "dag": {"tasks": [{"name": "t", "template": "s", "arguments": {}}]}, **empty},
                {"name": "e", "steps": [[{"name": "u", "template": "s", "arguments": {}}]], **empty},
            ],
        },
        "status": {"finishedAt": None, "startedAt": None},
    }


def test_keys_are_served_in_order() -> None:
    """As in KFP: the order of the tasks does not change from server to server."""
    spec = json.loads(read_spec(io.BytesIO((PIPELINES / "train_and_report.yaml").read_bytes())))
    assert list(spec) == sorted(spec)
    assert list(spec["root"]["dag"]["tasks"]) == ["condition-1", "make-data", "train"]
