"""Each pipeline of the corpus has the results of KFP 2.17.0 here, except where a warning is raised."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.embedded.conftest import Caller
from tests.embedded.corpus.corpus import differences, files

from kfadapter_embedded.process import start

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILES = files()
_NAMES = sorted(name[len("expected/") : -len(".json")] for name in _FILES if name.startswith("expected/"))
_OVER = {"SUCCEEDED", "FAILED", "CANCELED"}
_SECONDS = 100.0

_METADATA = "what takers see of metadata comes from ML Metadata in KFP"
WARNED: dict[str, tuple[str, str]] = {
    "failures_ignored_then": ("run", "what depends on a task that ignores failures: KFP refuses the run"),
    "loops_inside_pipelines": ("see-list-2", "collected through two loops is one flat list in KFP"),
    "failures_ignored_many": (r"see", "two tasks ignore failures of the same: KFP runs only the last by name"),
    "failures_ignored_skipped": (r"see-2", "a task that ignores failures of one that never started is not run by KFP"),
    "artifacts_imported": ("importer", "parameters in an importer's metadata stay placeholders in KFP"),
    "artifacts_metadata": ("see(-dataset)?", _METADATA),
    "artifacts_metrics": ("see-metrics", _METADATA),
    "artifacts_odd_metadata": ("odd-metadata|see-dataset-2", f"{_METADATA}; display_name is not compared"),
    "artifact_twice": ("run|take2", "ML Metadata takes an artifact once for each task"),
    "artifact_twice_into_pipeline": ("run|inner-two(/take2)?", "ML Metadata takes an artifact once for each task"),
    "artifact_list_into_pipeline": ("inner-all/take-all", "a pipeline in the pipeline gets one artifact of a list"),
    "caching_one_of": (
        "run|see|condition-branches-1/condition-2",
        "a branch whose tasks are from the cache is never seen to end",
    ),
    "one_of_collected": ("run|see-list", "collected over different branches: the driver crashes"),
    "one_of_inner_branch": ("run|see-int", "a branch that ends with a branch not taken is never seen to end"),
    "artifacts_passed_on": ("see-dataset(-2)?", _METADATA),
    "loops_conditional_collected": (r"run|see-list", "collected over skipped iterations: the driver crashes"),
    "loops_empty": (r"run|see-list(-2)?", "collected of an empty loop: the driver fails"),
    "loops_nested_plain": (
        r"run|see-list-[23]|for-loop-1(\[.\]/see-list)?",
        "collected through two loops is one flat list in KFP, and an empty inner loop fails",
    ),
    "loops_artifacts": (r"run|merge-2", "an empty list of collected artifacts: the driver fails"),
    "loops_outputs": (
        r"for-loop-4|for-loop-4\[1\]/for-loop-5(\[0\]/see-text-5)?",
        "a loop over a field of an item",
    ),
    "loops_constants": (r"for-loop-6|for-loop-6\[[47]\]/see-text-4", "items with quotes inside a text"),
    "loops_fields": (
        r"run|for-loop-4|for-loop-4\[\d\]/for-loop-5(\[\d\]/see-text-4)?",
        "a loop over a field of an item",
    ),
    "options_through_pipelines": (
        "run|inner-2|inner-2/options",
        "a parameter without a value, passed on into a pipeline",
    ),
    "structs_in_text": ("run|see-text|see-text-[256]", "lists and structs that hold texts inside a text"),
    "texts_beyond_utf8mb3": ("run", "a character of four bytes in a constant"),
    "texts_control": ("run", "a character of four bytes in an output"),
    "texts_parameter": ("run|see-2", "quotes and line ends inside a text"),
}
"""By pipeline: tasks that may differ, as a regular expression of paths ("run" is the run), since a warning says so, and
why."""

NOT_MEASURED = {
    "exit_fails": "run",  # Argo decides how a failed exit task counts, and the corpus was recorded without it
    "names_plain": "shape",  # the letters of the Workflow's name are Kubernetes'
    "running_venv": "in-venv",  # recorded without images, where pip changes the packages that a venv sees
    "texts_placeholders": "see-5",  # the path of an output; steps that are processes have one of this machine
}
"""As `WARNED`, without a warning."""

Run = tuple[dict[str, Any], str]


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """Plain HTTP to an embedded KFP for the corpus alone, whose containers are processes, as when it was recorded."""
    with start(tmp_path_factory.mktemp("corpus"), options=["--steps", "process"]) as kfp:
        yield Caller(kfp.url)


@pytest.fixture(scope="module")
def runs(caller: Caller, request: pytest.FixtureRequest) -> dict[str, list[Run]]:
    """The runs of each requested pipeline, all started at once, after those of the cache: that must be empty."""
    asked = {name for item in request.session.items if (name := getattr(item, "callspec", None) and item.name[12:-1])}
    ordered = sorted(asked.intersection(_NAMES), key=lambda name: (not name.startswith("caching"), name))
    return {name: _begun(caller, name) for name in ordered}


def _begun(caller: Caller, name: str) -> list[Run]:
    """Starts the runs of a pipeline; returns KFP's result of each, and its id or the error that rejected it."""
    documents = list(yaml.safe_load_all(_FILES[f"compiled/{name}.yaml"]))
    spec = documents[0] if len(documents) == 1 else {"pipeline_spec": documents[0], "platform_spec": documents[1]}
    found = []
    for expected in json.loads(_FILES[f"expected/{name}.json"])["runs"]:
        config = {"parameters": expected.get("parameters", {})}
        body = {"display_name": f"{name} run", "pipeline_spec": spec, "runtime_config": config}
        answer = caller.call("POST", "/runs", json_body=body)
        found.append((expected, answer["run_id"] if answer.status == 200 else f"refused: {answer.text}"))
        if name.startswith("caching") and answer.status == 200:
            _ended(caller, answer["run_id"])
    return found


def _ended(caller: Caller, run_id: str) -> Any:  # noqa: ANN401  # JSON
    end = time.monotonic() + _SECONDS
    while (run := caller.get(f"/runs/{run_id}").json)["state"] not in _OVER:
        assert time.monotonic() < end, run["state"]
        time.sleep(0.1)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", _NAMES)
def test_corpus(caller: Caller, runs: dict[str, list[Run]], name: str) -> None:
    """A pipeline's runs, tasks, outputs, artifacts and kinds of errors are those of KFP."""
    allowed, _ = WARNED.get(name, (NOT_MEASURED.get(name, "(?!)"), ""))
    found, warnings = [], 0
    for index, (expected, run_id) in enumerate(runs[name]):
        refused = run_id.startswith("refused: ")
        if refused != ("refused" in expected) and not re.fullmatch(allowed, "run"):
            found.append(f"[{index}] run: {expected.get('refused')} in KFP, {run_id} here")
        if refused:
            continue
        details = _ended(caller, run_id)["run_details"]
        run: Any = caller.get(f"/runs/{run_id}", view="FULL").json
        warnings += sum("custom_properties" in (one.get("status_metadata") or {}) for one in run["tasks"])
        if "refused" in expected:
            continue
        found += [
            f"[{index}] {path}: {text}"
            for path, text in differences(expected, run, details["task_details"], run["tasks"])
            if not re.fullmatch(allowed, path)
        ]
    assert not found, "\n".join(found)
    assert bool(warnings) or name not in WARNED, "nothing warned"
