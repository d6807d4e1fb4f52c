"""`kfadapter check`, compared with how KFP 2.17.0 ran the corpus, and run on files of all kinds."""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.embedded.corpus.corpus import files
from tests.transcripts import PIPELINES

from kfadapter_grpc.check import rules as all_rules
from kfadapter_grpc.check.findings import findings
from kfadapter_grpc.check.pipeline import read_documents
from kfadapter_grpc.check.rule import CLUSTERS, LAPTOP, Finding, Rule

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Kfadapter
    from tests.client.fake_adapter import FakeAdapter

CORPUS = {name: content for name, content in files().items() if name.startswith("compiled/")}
FOUND = {
    "artifact_list_into_pipeline": {"error artifact-list-into-pipeline"},
    "artifact_twice": {"error same-artifact-twice"},
    "artifact_twice_into_pipeline": {"error same-artifact-twice"},
    "artifacts_imported": {"warning importer-metadata"},
    "caching_one_of": {"warning one-of-unfinished-branch"},
    "one_of_collected": {"warning collected-one-of"},
    "one_of_in_condition": {"error undeclared-input"},
    "artifacts_metadata": {"warning artifact-metadata"},
    "artifacts_metrics": {"warning artifact-metadata"},
    "artifacts_odd_metadata": {"warning artifact-metadata"},
    "artifacts_passed_on": {"warning artifact-metadata"},
    "artifacts_renamed": {"warning artifact-metadata"},
    "code_with_placeholders": {"error placeholder-in-code", "warning placeholder-in-code"},
    "conditions_skipped_inner": {"error loop-item-in-text"},
    "containers_exits": {"warning container-image"},
    "containers_files": {"warning container-image"},
    "containers_values": {"warning concat-placeholder", "warning container-image"},
    "failures_ignored": {"warning ignored-failure-output"},
    "failures_ignored_many": {"error ignored-failure-shared"},
    "failures_ignored_skipped": {"warning ignored-failure-skipped"},
    "failures_ignored_then": {"error ignored-failure-dependents"},
    "failures_ignored_two": {"error ignored-failure-twice"},
    "handmade_constants": {"error type-mismatch"},
    "handmade_conversions": {"error type-mismatch"},
    "handmade_loop_parameters": {"error type-mismatch"},
    "loops_and_branches": {"error loop-item-in-text"},
    "loops_artifacts": {"error collected-empty-loop"},
    "loops_conditional_collected": {"warning collected-skipped"},
    "loops_constants": {"error loop-item-in-text", "error raw-json-in-text"},
    "loops_empty": {"error collected-empty-loop", "warning collected-empty-loop"},
    "loops_fields": {"error loop-over-item-field"},
    "handmade_optional": {"error type-mismatch"},
    "loops_inside_pipelines": {"warning collected-nested-loops"},
    "loops_nested": {"error loop-item-in-text", "warning collected-nested-loops"},
    "loops_nested_parameters": {"error loop-item-in-text", "warning collected-nested-loops"},
    "loops_nested_plain": {"warning collected-nested-loops"},
    "loops_outputs": {"error loop-item-in-text", "error loop-over-item-field"},
    "names_in_text": {"warning placeholder-in-text"},
    "options_through_pipelines": {"warning optional-into-pipeline"},
    "structs_in_text": {"error raw-json-in-text", "warning raw-json-in-text"},
    "texts_beyond_utf8mb3": {"error four-byte-character"},
    "texts_placeholders": {"warning unknown-placeholder"},
}
"""By pipeline of the corpus; the letters and numbers of the facts that each is about are in its row there.

All others are silent. Of those that KFP and the embedded KFP treat alike, three are here: texts with items of inner
loops, which the SDK compiles so that both fail.
"""
FAIL_OTHERWISE = {"artifact-list-into-pipeline", "ignored-failure-shared", "ignored-failure-twice"}
"""Errors after which a task succeeds: another one is missing, it ran twice, or it got one artifact of many."""
STAYS = {("loops_outputs", "for-loop-6"), ("loops_outputs", "for-loop-3/see-text-4")}
"""Where a text with an item stays empty, or as it is."""


def found_in(content: bytes | str) -> list[Finding]:
    """Returns the findings in a compiled pipeline."""
    pipeline = read_documents(list(yaml.load_all(content, yaml.CSafeLoader)))
    assert pipeline is not None
    return findings(pipeline)


@pytest.mark.parametrize("name", [name[9:-5] for name in CORPUS])
def test_corpus(name: str) -> None:
    """The check finds what KFP handles differently from what the pipeline suggests, and nothing else."""
    found = {f"{one.severity} {one.rule}" for one in found_in(CORPUS[f"compiled/{name}.yaml"])}
    assert found == FOUND.get(name, set())


@pytest.mark.parametrize("name", FOUND)
def test_errors_fail(name: str) -> None:
    """On KFP, a task with an error failed, or was not started because a task around it failed."""
    run = json.loads(files()[f"expected/{name}.json"])["runs"][0]
    if "refused" in run:
        return
    states: dict[str, set[str]] = {}
    for path, task in run["tasks"].items():
        states.setdefault(re.sub(r"\[\d+\]", "", path), set()).add(task["state"])
    for one in found_in(CORPUS[f"compiled/{name}.yaml"]):
        if one.severity == "error" and one.rule not in FAIL_OTHERWISE and (name, one.task) not in STAYS:
            assert "FAILED" in states.get(one.task, {"FAILED"}), one
            assert run["state"] == "FAILED"


def spec(tasks: dict[str, Any], *, components: dict[str, Any] | None = None, **root: object) -> str:
    """Returns a pipeline of these tasks, which run the component of the same name, or `take`."""
    take = {
        "executorLabel": "exec-take",
        "inputDefinitions": {
            "parameters": {"x": {"parameterType": "STRING"}, "n": {"parameterType": "NUMBER_INTEGER"}}
        },
        "outputDefinitions": {"parameters": {"Output": {"parameterType": "LIST"}}},
    }
    known = {"take": take, **(components or {})}
    named = {
        name: {"componentRef": {"name": name if name in known else "take"}, **task} for name, task in tasks.items()
    }
    command = ["python3", "-m", "kfp.dsl.executor_main"]
    document = {
        "pipelineInfo": {"name": "p"},
        "root": {"dag": {"tasks": named}, **root},
        "components": known,
        "deploymentSpec": {"executors": {"exec-take": {"container": {"image": "i", "command": command}}}},
    }
    return yaml.safe_dump(document, allow_unicode=True)


def constant(value: object) -> dict[str, object]:
    """Returns a constant as the source of an input."""
    return {"runtimeValue": {"constant": value}}


def of_task(task: str, key: str = "Output") -> dict[str, object]:
    """Returns a task's output as the source of an input."""
    return {"taskOutputParameter": {"producerTask": task, "outputParameterKey": key}}


PARAMETERS = {"inputDefinitions": {"parameters": {"rows": {"parameterType": "LIST", "defaultValue": [1]}}}}
LOOP = {
    "inputs": {"parameters": {"rows": {"componentInputParameter": "rows"}}},
    "parameterIterator": {"items": {"inputParameter": "rows"}, "itemInput": "item"},
}
BODY = {
    "inputDefinitions": {
        "parameters": {"rows": {"parameterType": "LIST"}, "item": {"parameterType": "NUMBER_INTEGER"}}
    },
    "dag": {
        "tasks": {
            "a": {
                "componentRef": {"name": "take"},
                "inputs": {"parameters": {"x": {"componentInputParameter": "rows"}}},
            }
        }
    },
}
LITERAL = {
    "executorLabel": "exec-take",
    "inputDefinitions": {"parameters": {"x": {"parameterType": "STRING", "literals": ["red"]}}},
}
STATUS = {
    "executorLabel": "exec-status",
    "inputDefinitions": {"parameters": {"s": {"parameterType": "TASK_FINAL_STATUS"}}},
}
HAND_MADE = {
    "loop-over-artifacts": spec({"a": {"artifactIterator": {"items": {"inputArtifact": "x"}, "itemInput": "y"}}}),
    "looped-list-inside": spec({"loop": LOOP}, components={"loop": BODY}, **PARAMETERS),
    "root-artifact": spec({"a": {}}, inputDefinitions={"artifacts": {"data": {}}}),
    "missing-artifact": spec(
        {"a": {"inputs": {"artifacts": {"d": {"componentInputArtifact": "data"}}}}},
        inputDefinitions={"artifacts": {"data": {"isOptional": True}}},
    ),
    "literal-value": spec({"lit": {"inputs": {"parameters": {"x": constant("blue")}}}}, components={"lit": LITERAL}),
    "undeclared-input": spec({"a": {"inputs": {"parameters": {"x": {"componentInputParameter": "nothing"}}}}}),
    "argo-template": spec({"a": {"inputs": {"parameters": {"x": constant("<li>{{ item.name }}</li>")}}}}),
    "four-byte-character": spec({"a": {"inputs": {"parameters": {"x": constant("😀")}}}}),
    "ignored-failure-dependents": spec(
        {
            "a": {},
            "b": {"dependentTasks": ["a"], "triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}},
            "c": {"dependentTasks": ["b"]},
        }
    ),
    "ignored-failure-without-hook": spec(
        {
            "loop": LOOP,
            "b": {"dependentTasks": ["loop"], "triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}},
        },
        **PARAMETERS,
    ),
    "type-mismatch": spec({"a": {}, "b": {"inputs": {"parameters": {"n": of_task("a")}}}}),
    "item-of-any-list": spec(
        {"loop": LOOP},
        components={
            "loop": {
                "inputDefinitions": {
                    "parameters": {"rows": {"parameterType": "LIST"}, "item": {"parameterType": "STRING"}}
                },
                "dag": {
                    "tasks": {
                        "a": {
                            "componentRef": {"name": "take"},
                            "inputs": {"parameters": {"n": {"componentInputParameter": "item"}}},
                        }
                    }
                },
            }
        },
        **PARAMETERS,
    ),
}


@pytest.mark.parametrize("rule", HAND_MADE)
def test_errors_of_hand_made_files(rule: str) -> None:
    """Errors that occur in no pipeline of the corpus are found; their sources in KFP are quoted with the rules."""
    assert [(one.rule, one.severity) for one in found_in(HAND_MADE[rule])] == [(rule, "error")]


INNER = {
    "inputDefinitions": {"parameters": {"item": {"parameterType": "STRUCT"}, "x": {"parameterType": "STRING"}}},
    "dag": {
        "tasks": {
            "a": {
                "componentRef": {"name": "take"},
                "inputs": {
                    "parameters": {
                        "x": {
                            "componentInputParameter": "item",
                            "parameterExpressionSelector": 'parseJson(string_value)["a"]',
                        }
                    }
                },
            }
        }
    },
}
HAND_MADE["null-field"] = spec(
    {"loop": {"parameterIterator": {"items": {"raw": '[{"a": 1}, {"a": null}]'}, "itemInput": "item"}}},
    components={"loop": INNER},
)
WARNED = {
    "text-into-pipeline": spec(
        {"inner": {"inputs": {"parameters": {"x": constant("<{{$.inputs.parameters['y']}}>"), "y": constant("1")}}}},
        components={"inner": INNER},
    ),
    "line-break-in-default": spec(
        {"a": {}}, inputDefinitions={"parameters": {"q": {"parameterType": "STRING", "defaultValue": "one\ntwo"}}}
    ),
    "collected-empty-loop": spec(
        {
            "b": {},
            "loop": {**LOOP, "inputs": {"parameters": {"rows": of_task("b")}}},
            "c": {"inputs": {"parameters": {"x": of_task("loop", "all")}}},
        },
        components={
            "loop": {
                **BODY,
                "outputDefinitions": {"parameters": {"all": {"parameterType": "LIST"}}},
                "dag": {
                    "tasks": {"a": {"componentRef": {"name": "take"}}},
                    "outputs": {
                        "parameters": {
                            "all": {"valueFromParameter": {"producerSubtask": "a", "outputParameterKey": "Output"}}
                        }
                    },
                },
            }
        },
    ),
}


@pytest.mark.parametrize("rule", WARNED)
def test_warnings_of_hand_made_files(rule: str) -> None:
    """Warnings that no pipeline of the corpus raises, or raises alone, are found."""
    assert [(one.rule, one.severity) for one in found_in(WARNED[rule])] == [(rule, "warning")]


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ("{{$.inputs.parameters['x']}}", "error default-in-command"),
        ("{{$.inputs.parameters['n']}}", ""),
        ("{{$.outputs.parameters['o'].output_file}} {{$.inputs.parameters['x']}}", ""),
        ('{"IfPresent": {"InputName": "x", "Then": ["{{$.inputs.parameters[\'x\']}}"]}}', ""),
        ('{"IfPresent": {"InputName": "data", "Then": ["a"]}}', "warning if-present-artifact"),
        ('{"Concat": ["a", "b"]}', "warning concat-placeholder"),
    ],
)
def test_commands(part: str, found: str) -> None:
    """What KFP's driver leaves out of a command, or puts there otherwise, is found (`driver/util.go`)."""
    run = {"executorLabel": "exec-run", "inputDefinitions": {"artifacts": {"data": {"isOptional": True}}}}
    document = yaml.safe_load(spec({"run": {"inputs": {"parameters": {"n": constant(1)}}}}, components={"run": run}))
    document["deploymentSpec"]["executors"]["exec-run"] = {"container": {"image": "i", "command": ["echo", part]}}
    named = [f"{one.severity} {one.rule}" for one in found_in(yaml.safe_dump(document))]
    assert [one for one in named if one != "warning container-image"] == ([found] if found else [])


def test_final_status() -> None:
    """An exit handler that compares with SUCCEEDED gets the finding that 2.17 reports COMPLETE."""
    document = yaml.safe_load(spec({"end": {}}, components={"end": STATUS}))
    code = "import kfp\n\ndef end(s):\n    if s.state == 'SUCCEEDED':\n        print('fine')\n"
    command = ["python3", "-m", "kfp.dsl.executor_main", code]
    document["deploymentSpec"]["executors"]["exec-status"] = {"container": {"image": "i", "command": command}}
    assert [one.rule for one in found_in(yaml.safe_dump(document))] == ["final-status-state"]
    document["deploymentSpec"]["executors"]["exec-status"]["container"]["command"] = command[:-1]
    assert not found_in(yaml.safe_dump(document))


@pytest.mark.parametrize(
    ("address", "source", "found"),
    [
        ({"constant": "gs://bucket/a"}, None, []),
        ({"constant": "/data/a.csv"}, None, ["local-import"]),
        ({"constant": "file:///data/a.csv"}, None, ["local-import"]),
        ({"constant": "https://host/a.csv"}, None, ["importer-address"]),
        ({"runtimeParameter": "uri"}, {"componentInputParameter": "here"}, ["local-import"]),
        ({"runtimeParameter": "uri"}, {"componentInputParameter": "there"}, []),
        (
            {"runtimeParameter": "uri"},
            {"componentInputParameter": "there", "parameterExpressionSelector": "x"},
            ["importer-uri"],
        ),
        ({"runtimeParameter": "uri"}, {"taskOutputParameter": {"producerTask": "a"}}, ["importer-uri"]),
    ],
)
def test_importers(address: dict[str, str], source: dict[str, object] | None, found: list[str]) -> None:
    """Importing local files, or from URIs that tasks output, is a finding, because it fails on a cluster."""
    parameters = {
        "here": {"parameterType": "STRING", "defaultValue": "data.csv"},
        "there": {"parameterType": "STRING", "defaultValue": "s3://bucket/data.csv"},
    }
    get = {"executorLabel": "exec-get", "inputDefinitions": {"parameters": {"uri": {"parameterType": "STRING"}}}}
    task = {"inputs": {"parameters": {"uri": source}}} if source else {}
    made = {"executorLabel": "exec-take", "outputDefinitions": {"parameters": {"": {"parameterType": "STRING"}}}}
    components = {"get": get, "a": made}
    document = yaml.safe_load(
        spec({"a": {}, "get": task}, components=components, inputDefinitions={"parameters": parameters})
    )
    document["deploymentSpec"]["executors"]["exec-get"] = {"importer": {"artifactUri": address}}
    assert [one.rule for one in found_in(yaml.safe_dump(document))] == found


@pytest.mark.parametrize(
    ("title", "taken", "found"),
    [
        ("system.Model", False, []),
        ("system.Model", True, [("kubernetes-only", "a")]),
        ("system.Dataset", False, [("importer-address", "get")]),
    ],
)
def test_models_in_images(title: str, *, taken: bool, found: list[tuple[str, str]]) -> None:
    """Only models may come from images, and a step that takes one needs Kubernetes."""
    artifact = {"artifactType": {"schemaTitle": title}}
    made = {"executorLabel": "exec-get", "outputDefinitions": {"artifacts": {"artifact": artifact}}}
    model = {"taskOutputArtifact": {"producerTask": "get", "outputArtifactKey": "artifact"}}
    inputs = {"m": model} if taken else {}
    document = yaml.safe_load(spec({"get": {}, "a": {"inputs": {"artifacts": inputs}}}, components={"get": made}))
    importer = {"importer": {"artifactUri": {"constant": "oci://registry/model:1"}}}
    document["deploymentSpec"]["executors"]["exec-get"] = importer
    assert [(one.rule, one.task) for one in found_in(yaml.safe_dump(document))] == found


def test_what_must_exist() -> None:
    """Secrets, ConfigMaps and volumes that must exist are named."""
    found = found_in((PIPELINES / "kubernetes_platform.yaml").read_text("utf-8"))
    assert {(one.rule, one.task) for one in found} == {
        ("kubernetes-object", "greet"),
        ("kubernetes-only", "createpvc"),
        ("kubernetes-only", "deletepvc"),
    }
    assert "the secret 's3'" in " ".join(one.what for one in found)


def test_rules() -> None:
    """Rule names are unique, their KFP versions are known, and their texts are complete, without unfilled braces."""
    known = [one for one in vars(all_rules).values() if isinstance(one, Rule)]
    assert len({one.name for one in known}) == len(known)
    for one in known:
        assert set(one.kfp) <= {*CLUSTERS, LAPTOP}
        fields = dict.fromkeys(re.findall(r"(?<!\{)\{(\w+)\}", one.what), "값")
        text = one.text(**fields)
        assert text.endswith(f"({one.name})")
        assert "{input}" not in text
        assert not one.what.endswith(".")
        assert one.do.endswith(".")


HOSTILE = {
    "aliases": "root: {dag: {tasks: {}}}\na0: &a0 [x, x]\n"
    + "".join(f"a{one + 1}: &a{one + 1} [*a{one}, *a{one}, *a{one}]\n" for one in range(40)),
    "a component inside itself": spec(
        {"c": {}, "d": {}},
        components={
            name: {"dag": {"tasks": {key: {"componentRef": {"name": other}} for key in "ab"}}}
            for name, other in (("c", "d"), ("d", "c"))
        },
    ),
    "nothing as it should be": "root: {dag: {tasks: {1: [], a: {inputs: 3, dependentTasks: {x: y}}}}}\ncomponents: 7\n",
    "empty values": "root:\npipelineInfo:\ncomponents: {a: null}\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name: str) -> None:
    """The check of a hostile file ends soon and without a traceback."""
    assert not [one for one in found_in(HOSTILE[name]) if one.severity == "error"]


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """A pipeline with an error and a warning."""
    path = tmp_path / "중첩.yaml"
    path.write_bytes(CORPUS["compiled/loops_nested.yaml"])
    return path


def test_errors_end_with_8(kfadapter: Kfadapter, nested: Path) -> None:
    """Each finding has three lines: task and rule, what happens, what to do."""
    ended = kfadapter("check", str(nested))
    assert (ended.code, ended.err) == (8, "2 errors, 1 warning\n")
    first, what, do = ended.out.splitlines()[:3]
    assert first == "error: for-loop-1: loop-item-in-text (2.5, 2.17, next, laptop)"
    assert what.startswith("  'loop-item-param-2' is a loop item in a string")
    assert do == "  Pass the item to the component as its own input, and build the string there."


def test_nothing_found(kfadapter: Kfadapter) -> None:
    """A pipeline without findings is reported as such, with exit code 0."""
    ended = kfadapter("check", str(PIPELINES / "hello_world.yaml"))
    assert (ended.code, ended.out, ended.err) == (0, "", "nothing found\n")


@pytest.mark.parametrize("style", ["json", "yaml"])
def test_for_programs(kfadapter: Kfadapter, nested: Path, style: str) -> None:
    """JSON and YAML have the same findings with field names; stdout holds nothing else."""
    ended = kfadapter("check", str(nested), "-o", style)
    rows = yaml.safe_load(ended.out)
    assert (ended.code, len(rows)) == (8, 3)
    assert list(rows[0]) == ["pipeline", "task", "rule", "severity", "kfp", "what", "do"]
    assert rows[0]["pipeline"] == "중첩"
    assert rows[0]["kfp"] == ["2.5", "2.17", "next", "laptop"]


def test_archives(kfadapter: Kfadapter, nested: Path, tmp_path: Path) -> None:
    """Archives are read as an upload reads them."""
    content = nested.read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("pipeline.yaml", content)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("pipeline.yaml")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    outputs = {kfadapter("check", str(tmp_path / name)).out for name in ("a.zip", "a.tar.gz")}
    assert outputs == {kfadapter("check", str(nested)).out}


@pytest.mark.parametrize("content", [b"a: b\n", b"\x00\x01", b"[", b"PK\x03\x04"])
def test_no_pipeline(kfadapter: Kfadapter, tmp_path: Path, content: bytes) -> None:
    """A file that is not a pipeline is rejected with an error message."""
    (tmp_path / "p.yaml").write_bytes(content)
    ended = kfadapter("check", str(tmp_path / "p.yaml"))
    assert ended.code == 8
    assert ended.err.startswith("error: ")


SEVERAL = """
from typing import List

from kfp import dsl

@dsl.component
def step(n: int) -> int:
    return n

@dsl.component
def total(ns: list) -> int:
    return sum(ns)

@dsl.pipeline
def fine():
    step(n=1).set_retry(num_retries=2)

@dsl.pipeline
def empty(rows: List[int] = []):
    with dsl.ParallelFor(rows) as row:
        one = step(n=row)
    total(ns=dsl.Collected(one.output))
"""


def test_all_pipelines_of_a_file(kfadapter: Kfadapter, tmp_path: Path) -> None:
    """A .py is compiled; findings name the pipeline; a finding that depends on the installation is a note."""
    path = tmp_path / "several.py"
    path.write_text(SEVERAL, encoding="utf-8")
    ended = kfadapter("check", str(path))
    assert ended.code == 8
    assert ended.out.startswith("error: empty/total: collected-empty-loop (2.5, 2.17)\n")
    assert "note: step: retry-policy (2.17)\n" in ended.err


def test_uploads_warn(kfadapter: Kfadapter, fake: FakeAdapter, nested: Path) -> None:
    """An upload prints the same findings on stderr, and is not rejected."""
    ended = kfadapter("upload", str(nested))
    assert ended.code == 0
    assert fake.pipelines
    assert "error: for-loop-1: loop-item-in-text" in ended.err
