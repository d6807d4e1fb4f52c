"""Kinds of malformed records that a KFP or a proxy may serve, and a server of malformed and valid records."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from tests.scripted_kfp import ScriptedKfp, answers

if TYPE_CHECKING:
    from tests.scripted_kfp import Behaviour, Connection, Received

BAD, SOUND = "0dd00000-0000-4000-8000-000000000000", "50000000-0000-4000-8000-000000000000"
"""The ids of the malformed record and of the sound one, of whatever kind."""
JOB = "42"
_V2 = "/apis/v2beta1"
_AT = "2026-01-02T04:04:05Z"
_LABELS = json.dumps(f'설명\nkfadapter: {{"trainingjob_id":"{JOB}"}}', ensure_ascii=False)
_LARGE = 4 * 1024 * 1024


@dataclass(frozen=True)
class Odd:
    """A kind of malformed record.

    Attributes:
        value: The JSON text of a parameter `x`, of a task's output, and of an artifact's metadata.
        fields: JSON texts of further fields, by name, that replace valid ones.
        shown: What is shown in place of the value; None if it is omitted.
        warns: The text of the run's warning; empty if there is none.
    """

    value: str = '"값"'
    fields: dict[str, str] = field(default_factory=dict)
    shown: object = None
    warns: str = ""


def _nested(depth: int, opening: str, closing: str, inner: str = "1") -> str:
    return opening * depth + inner + closing * depth


_TEXT = "shown as text"
_DEEP = "nested too deeply; shown as JSON text"
ODD: dict[str, Odd] = {
    "45 lists": Odd(_nested(45, "[", "]")),
    "46 lists": Odd(_nested(46, "[", "]"), warns=_DEEP),
    "48 lists": Odd(_nested(48, "[", "]"), warns=_DEEP),
    "50 lists": Odd(_nested(50, "[", "]"), warns=_DEEP),
    "150 lists": Odd(_nested(150, "[", "]"), warns=_DEEP),
    "5000 lists": Odd(_nested(5000, "[", "]"), warns=_DEEP),
    "100000 lists": Odd(_nested(100_000, "[", "]"), warns=_DEEP),
    "30 objects": Odd(_nested(30, '{"a":', "}")),
    "31 objects": Odd(_nested(31, '{"a":', "}"), warns=_DEEP),
    "3000 objects": Odd(_nested(3000, '{"키":', "}"), warns=_DEEP),
    "NaN": Odd("NaN", shown="NaN", warns=_TEXT),
    "Infinity": Odd("Infinity", shown="Infinity", warns=_TEXT),
    "-Infinity": Odd("-Infinity", shown="-Infinity", warns=_TEXT),
    "2^53": Odd("9007199254740992", shown=2.0**53),
    "2^53 + 1": Odd("9007199254740993", shown="9007199254740993", warns=_TEXT),
    "-2^63": Odd(str(-(2**63)), shown=str(-(2**63)), warns=_TEXT),
    "400 digits": Odd("9" * 400, shown="9" * 400, warns=_TEXT),
    "5000 digits": Odd("9" * 5000, shown="9" * 5000, warns=_TEXT),
    "1e999": Odd("1e999", shown="1e999", warns=_TEXT),
    "-1.5E+400": Odd("-1.5E+400", shown="-1.5E+400", warns=_TEXT),
    "1e-999": Odd("1e-999", shown=0.0),
    "a lone surrogate": Odd('"\\ud800값"', shown="\ufffd값", warns="lone surrogate; shown as U+FFFD"),
    "a lone surrogate at the end": Odd('"a\\udc00"', shown="a\ufffd", warns="U+FFFD"),
    "a surrogate pair": Odd('"\\ud83d\\ude00"', shown="😀"),
    "4 MiB of text": Odd('"' + "ㅎ" * (_LARGE // 3) + '"', warns="bytes do not fit into one message; truncated"),
    "4 MiB of texts": Odd(json.dumps(["x" * 9999] * 420), shown="(too large to be shown)", warns="truncated"),
    "a lone surrogate in a name": Odd(fields={"display_name": '"이름\\ud800"'}, warns="display_name"),
    "a lone surrogate in a label": Odd(fields={"description": json.dumps('kfadapter: {"a":"\\ud800"}')}),
    "a byte that is no UTF-8": Odd(fields={"display_name": '"\udcff"'}, warns="display_name"),
    "an unknown state": Odd(fields={"state": '"DREAMING"', "storage_state": '"LOST"'}, warns="'DREAMING'"),
    "a state as a number": Odd(fields={"state": "17", "storage_state": "9", "mode": "8"}, warns="'17'"),
    "nothing but an id": Odd(fields=dict.fromkeys(("runtime_config", "display_name", "created_at", "state"), "")),
    "nulls": Odd(
        fields=dict.fromkeys(("runtime_config", "display_name", "created_at", "state", "run_details"), "null")
    ),
    "fields of other types": Odd(
        fields={"display_name": "true", "state_history": "7", "service_account": "[]", "run_details": '"x"'},
        warns="state_history is not a list",
    ),
    "parameters of another type": Odd(fields={"runtime_config": "[1]"}, warns="runtime_config is not an object"),
    "the year 0": Odd(fields={"created_at": '"0000-01-01T00:00:00Z"'}, warns="created_at is not a time"),
    "the year 1": Odd(fields={"created_at": '"0001-01-01T00:00:00Z"', "finished_at": '"0001-01-01T00:00:00Z"'}),
    "before the year 1": Odd(fields={"created_at": '"0001-01-01T00:00:00+10:00"'}),
    "the year 9999": Odd(
        fields={"created_at": '"9999-12-31T23:59:59Z"', "finished_at": '"9999-12-31T23:59:59.999999999Z"'}
    ),
    "after the year 9999": Odd(fields={"created_at": '"9999-12-31T23:59:59-10:00"'}),
    "the year 10000": Odd(fields={"finished_at": '"10000-01-01T00:00:00Z"'}, warns="finished_at is not a time"),
    "no time at all": Odd(fields={"created_at": '"어제"', "updated_at": "5"}, warns="created_at is not a time"),
    "4 MiB of a description": Odd(fields={"description": '"' + "d" * _LARGE + '"'}, warns="description"),
}
"""All kinds, by name."""


@dataclass
class OddKfp:
    """A KFP with a malformed and a valid one each of runs, recurring runs, pipelines with versions, and experiments.

    Attributes:
        odd: The kind of the malformed records; None if there are none.
    """

    odd: Odd | None = None

    def __post_init__(self) -> None:
        self.server = ScriptedKfp()
        self.server.on("GET", "^/", self._serve)

    def _serve(self, connection: Connection, received: Received) -> bool:
        parts = urlsplit(received.path)
        return self._answer(parts.path, dict(parse_qsl(parts.query)))(connection, received)

    def _answer(self, path: str, query: dict[str, str]) -> Behaviour:
        if of_run := re.fullmatch(rf"{_V2}/runs/([-0-9a-f]+)/tasks", path):
            return _raw(_tasks((self.odd or Odd()) if of_run[1] == BAD else Odd()))
        for pattern, key, make in _ROUTES:
            if re.fullmatch(pattern, path):
                return _raw(self._page(key, make, query))
            found = re.fullmatch(rf"{pattern}/([-0-9a-f]+)", path)
            if found:
                return _raw(make(found[1], (self.odd or Odd()) if found[1] == BAD else Odd()))
        return answers(404, {"code": 5, "message": "Not Found", "details": []})

    def _page(self, key: str, make: object, query: dict[str, str]) -> str:
        ids = [SOUND] if self.odd is None else [BAD, SOUND]
        asked = re.search(r'"key": "run_id", "string_values": {"values": \[([^]]*)\]', query.get("filter", ""))
        ids = [one for one in ids if asked is None or one in asked[1]]
        start, size = int(query.get("page_token", "0")), int(query.get("page_size", "20"))
        shown = ids[start : start + size]
        items = ",".join(make(one, self.odd if one == BAD and self.odd else Odd()) for one in shown)  # type: ignore[operator]
        more = f',"next_page_token":"{start + size}"' if start + size < len(ids) else ""
        return f'{{"{key}":[{items}],"total_size":{len(ids)}{more}}}'


def _raw(text: str) -> Behaviour:
    return answers(200, text.encode("utf-8", "surrogateescape"))


def _object(fields: dict[str, str], odd: Odd) -> str:
    known = {**fields, **{name: text for name, text in odd.fields.items() if name in fields}}
    return "{" + ",".join(f'"{name}":{text}' for name, text in known.items() if text) + "}"


def _common(odd_id: str) -> dict[str, str]:
    return {
        "display_name": '"이름"',
        "description": _LABELS,
        "created_at": f'"{_AT}"',
        "experiment_id": f'"{odd_id}"',
        "storage_state": '"AVAILABLE"',
    }


def _run(run_id: str, odd: Odd) -> str:
    task = '{"display_name":"train","task_id":"t","state":"SUCCEEDED"}'
    return _object(
        {
            "run_id": f'"{run_id}"',
            **_common(run_id),
            "state": '"SUCCEEDED"',
            "finished_at": f'"{_AT}"',
            "service_account": '"pipeline-runner"',
            "state_history": f'[{{"update_time":"{_AT}","state":"SUCCEEDED"}}]',
            "runtime_config": f'{{"parameters":{{"x":{odd.value},"epochs":3}}}}',
            "task_count": "1",
            "run_details": f'{{"task_details":[{task}]}}',
        },
        odd,
    )


def _tasks(odd: Odd) -> str:
    artifact = f'{{"artifact_id":"a","name":"m","type":"Artifact","metadata":{{"x":{odd.value}}}}}'
    parameters = f'[{{"parameter_key":"x","value":{odd.value}}}]'
    outputs = f'{{"parameters":{parameters},"artifacts":[{{"artifact_key":"m","artifacts":[{artifact}]}}]}}'
    task = f'{{"name":"train","task_id":"t","state":"SUCCEEDED","type":"RUNTIME","outputs":{outputs}}}'
    return f'{{"tasks":[{task}]}}'


def _recurring_run(recurring_run_id: str, odd: Odd) -> str:
    start = odd.fields.get("created_at") or f'"{_AT}"'
    return _object(
        {
            "recurring_run_id": f'"{recurring_run_id}"',
            **_common(recurring_run_id),
            "mode": '"ENABLE"',
            "updated_at": f'"{_AT}"',
            "trigger": f'{{"cron_schedule":{{"cron":"0 0 4 * * *","start_time":{start}}}}}',
            "runtime_config": f'{{"parameters":{{"x":{odd.value},"epochs":3}}}}',
        },
        odd,
    )


def _pipeline(pipeline_id: str, odd: Odd) -> str:
    return _object({"pipeline_id": f'"{pipeline_id}"', "name": '"n"', **_common(pipeline_id)}, odd)


def _version(version_id: str, odd: Odd) -> str:
    parameter = f'{{"parameterType":"NUMBER_DOUBLE","defaultValue":{odd.value}}}'
    root = f'{{"inputDefinitions":{{"parameters":{{"x":{parameter}}}}},"dag":{{"tasks":{{}}}}}}'
    spec = f'{{"pipelineInfo":{{"name":"p"}},"root":{root},"schemaVersion":"2.1.0"}}'
    fields = {"pipeline_version_id": f'"{version_id}"', "pipeline_id": f'"{SOUND}"', "name": '"1"', **_common(SOUND)}
    return _object({**fields, "pipeline_spec": spec}, odd)


def _cheap_version(version_id: str, odd: Odd) -> str:
    return _object({"id": f'"{version_id}"', "name": '"1"', **_common(SOUND)}, odd)


def _experiment(experiment_id: str, odd: Odd) -> str:
    fields = {**_common(experiment_id), "last_run_created_at": f'"{_AT}"'}
    return _object(fields, odd)


_ROUTES = (
    (f"{_V2}/runs", "runs", _run),
    (f"{_V2}/recurringruns", "recurringRuns", _recurring_run),
    (f"{_V2}/pipelines", "pipelines", _pipeline),
    (f"{_V2}/pipelines/{SOUND}/versions", "pipeline_versions", _version),
    (f"{_V2}/experiments", "experiments", _experiment),
    ("/apis/v1beta1/pipeline_versions", "versions", _cheap_version),
)
_OF_RPCS = {
    "RunService/": _run,
    "RecurringRunService/": _recurring_run,
    "PipelineService/ListVersions FULL": _version,
    "PipelineService/ListVersions": _cheap_version,
    "PipelineService/": _pipeline,
    "ExperimentService/": _experiment,
}


def shows(odd: Odd, rpc: str) -> bool:
    """Returns whether KFP's responses for an RPC contain the malformed record."""
    make = next(make for prefix, make in _OF_RPCS.items() if rpc.startswith(prefix))
    return make(BAD, odd) != make(BAD, Odd())
