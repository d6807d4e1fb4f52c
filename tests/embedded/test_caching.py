"""Results of earlier tasks: what comes from the cache, and what a retry keeps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.embedded.conftest import Caller
from tests.embedded.runs import a_pipeline, a_run
from tests.embedded.test_native import ended

from kfadapter_embedded.process import start
from kfadapter_embedded.runner.kept import digest

if TYPE_CHECKING:
    from tests.embedded.runs import Reference

    from kfadapter_embedded.json_text import JsonValue

SOURCE = Path(__file__).with_name("caching_pipelines.py")


def test_fingerprint() -> None:
    """A cache key has KFP's fingerprint (`cacheutils/cache_test.go:TestGenerateFingerPrint`)."""
    schema = "title: kfp.Model\ntype: object\nproperties:\n  framework:\n    type: string\n  framework_version:\n"
    key: JsonValue = {
        "inputArtifactNames": {"dataset_one": {"artifactNames": ["1"]}, "dataset_two": {"artifactNames": ["2"]}},
        "inputParameterValues": {"message": "Some string value", "num_steps": 5.0},
        "outputArtifactsSpec": {
            "model": {
                "name": "model",
                "type": {"instanceSchema": f"{schema}    type: string\n"},
                "metadata": {"name": "model"},
            },
            "metrics": {"name": "metrics", "type": {"schemaTitle": "kfp.Metrics"}, "metadata": {"name": "metrics"}},
        },
        "outputParametersSpec": {"output_parameter_one": "STRING", "output_parameter_two": "INT"},
        "containerSpec": {"cmdArgs": ["sh", "ec", "test"], "image": "python:3.11"},
    }
    assert digest(key) == "b498530c9016917298999ec0b01f364a180f8a3862bea0fa672a383ca3f22e4e"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled pipelines."""
    folder = tmp_path_factory.mktemp("compiled")
    subprocess.run([sys.executable, SOURCE, folder], check=True, capture_output=True)
    return folder


def _run(caller: Caller, reference: Reference, **parameters: str) -> tuple[str, dict[str, tuple[str, Any]]]:
    """A finished run: its id, and state and output of each task, with its iteration."""
    config = {"parameters": parameters}
    run_id = a_run(caller, pipeline_version_reference=reference, runtime_config=config)
    return run_id, _tasks(ended(caller, run_id))


def _tasks(run: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    found = {}
    for task in run["tasks"]:
        index = task.get("type_attributes", {}).get("iteration_index", "")
        (value,) = [one["value"] for one in task["outputs"].get("parameters", ())] or [None]
        found[f"{task['name']}{index}"] = (task["state"], value if task["type"] == "RUNTIME" else None)
    return found


@pytest.mark.slow
def test_reuse(compiled: Path, tmp_path: Path) -> None:
    """Equal tasks come from the cache, over runs and restarts, until their run is deleted or their files missing."""
    text, file = (compiled / "caching-reuse.yaml").read_bytes(), tmp_path / "a.csv"
    file.write_text("1", encoding="utf-8")
    with start(tmp_path / "data") as server:
        caller = Caller(server.url)
        reference = a_pipeline(caller, text)
        first_id, first = _run(caller, reference, x="x", file=str(file))
        assert {state for state, _ in first.values()} == {"SUCCEEDED"}

    with start(tmp_path / "data") as server:
        caller = Caller(server.url)
        other = a_pipeline(caller, text.replace(b"name: caching-reuse", b"name: another-name"))
        assert {state for state, _ in _run(caller, other, x="x", file=str(file))[1].values()} == {"SUCCEEDED"}
        _, again = _run(caller, reference, x="x", file=str(file))
        fresh = {name for name, (state, _) in again.items() if state != "CACHED"}
        assert fresh == {"ROOT", "unique", "importer", "read-2"}
        assert again["read-2"] == ("SUCCEEDED", "x")
        assert all(again[name][1] == value for name, (_, value) in first.items() if name not in fresh)
        file.write_text("22", encoding="utf-8")
        _, changed = _run(caller, reference, x="y", file=str(file))
        ran = {name for name, (state, _) in changed.items() if state == "SUCCEEDED"}
        assert ran == {"ROOT", "make", "read", "read-2", "unique", "importer", "read-3"}
        (tmp_path / "data" / "runs" / first_id / "outputs").rename(tmp_path / "elsewhere")
        _, without = _run(caller, reference, x="x", file=str(file))
        assert (without["make"][0], without["read"][0], without["unique-20"][0]) == ("SUCCEEDED", "SUCCEEDED", "CACHED")
        assert caller.call("DELETE", f"/runs/{first_id}").status == 200
        _, deleted = _run(caller, reference, x="x", file=str(file))
        assert (deleted["make"][0], deleted["unique-20"][0]) == ("CACHED", "SUCCEEDED")
        assert all(one.exists() for one in (tmp_path / "data" / "cache").iterdir())


def test_default(caller: Caller, compiled: Path) -> None:
    """A default is no input in the fingerprint: the driver does not know it (`driver/cache.go:getFingerPrint`)."""
    _, tasks = _run(caller, a_pipeline(caller, (compiled / "caching-default.yaml").read_bytes()))
    assert [tasks[name][0] for name in ("unique", "unique-2")] == ["SUCCEEDED", "SUCCEEDED"]


@pytest.mark.slow
def test_retry_of_a_loop(caller: Caller, compiled: Path, tmp_path: Path) -> None:
    """A retry executes the failed iteration, and keeps the results of the others."""
    reference = a_pipeline(caller, (compiled / "caching-retry.yaml").read_bytes())
    run_id, failed = _run(caller, reference, marker=str(tmp_path / "marker"))
    assert failed["fail-once0"] == ("FAILED", None)
    assert "unique0" not in failed
    assert caller.call("POST", f"/runs/{run_id}:retry").status == 200
    again = _tasks(ended(caller, run_id))
    assert {state for state, _ in again.values()} == {"SUCCEEDED"}
    for name in ("fail-once1", "fail-once2", "unique1", "unique2"):
        assert again[name] == failed[name]
    assert again["unique0"][1].startswith("a")
