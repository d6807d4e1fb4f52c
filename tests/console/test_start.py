"""The form that starts a run: what it takes, what it refuses, and what it keeps."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from html import unescape
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.console.conftest import EXAMPLES

from kfadapter_grpc.client import CronSchedule, IntervalSchedule

if TYPE_CHECKING:
    from tests.console.conftest import Made
    from tests.console.visiting import Answer, Visitor

    from kfadapter_grpc.client import Client, PipelineVersion, Run
    from kfadapter_grpc.contract.spec import Json

HOSTILE = "<img src=x onerror=alert(1)>"
PARAMETERS: dict[str, Json] = {
    "plain": {"parameterType": "STRING", "defaultValue": "  앞 공백"},
    "needed": {"parameterType": "STRING", "description": HOSTILE},
    "lines": {"parameterType": "STRING", "defaultValue": "하나\r\n둘\r셋\n\n"},
    "choice": {"parameterType": "STRING", "literals": ["가", "나 다"], "defaultValue": "가"},
    "left": {"parameterType": "STRING", "isOptional": True},
    "count": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3},
    "rate": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.1},
    "flag": {"parameterType": "BOOLEAN", "defaultValue": True},
    "items": {"parameterType": "LIST", "defaultValue": [1, 2.5, "셋"]},
    "options": {"parameterType": "STRUCT", "defaultValue": {"a": {"b": [None, True]}}},
}


@pytest.fixture(scope="module")
def typed(client: Client) -> PipelineVersion:
    """A version with parameters of all types, whose task takes none of them."""
    command = ["sh", "-c", "true"]
    spec = {
        "pipelineInfo": {"name": "typed"},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "components": {"comp-a": {"executorLabel": "exec-a"}},
        "deploymentSpec": {"executors": {"exec-a": {"container": {"image": "busybox", "command": command}}}},
        "root": {
            "dag": {"tasks": {"a": {"componentRef": {"name": "comp-a"}, "taskInfo": {"name": "a"}}}},
            "inputDefinitions": {"parameters": PARAMETERS},
        },
    }
    return client.pipelines.upload(BytesIO(yaml.safe_dump(spec, allow_unicode=True).encode()), name="typed").version


def _opened(answer: Answer) -> dict[str, str]:
    """Returns the fields of the form, as a browser would send them unchanged."""
    form = answer.text[answer.text.index('action="/start"') :]
    fields: dict[str, str] = {}
    for attributes in re.findall(r"<input ([^>]*)>", form):
        name, value = re.search(r'name="([^"]*)"', attributes), re.search(r'value="([^"]*)"', attributes)
        if name and ("checkbox" not in attributes or "checked" in attributes):
            fields[unescape(name[1])] = unescape(value[1]) if value else "on"
    for attributes, text in re.findall(r"<textarea ([^>]*)>\n(.*?)</textarea>", form, re.DOTALL):
        fields[unescape(re.findall(r'name="([^"]*)"', attributes)[0])] = unescape(text)
    for name, options in re.findall(r'<select [^>]*name="([^"]*)"[^>]*>(.*?)</select>', form, re.DOTALL):
        fields[unescape(name)] = unescape((re.findall(r'value="([^"]*)" selected', options) or [""])[0])
    del fields["csrf"]
    return {name: re.sub("\r\n|\r|\n", "\r\n", value) for name, value in fields.items()}


def _form(visitor: Visitor, version: PipelineVersion, **values: str) -> dict[str, str]:
    opened = visitor.get(f"/start?pipeline_id={version.pipeline_id}&version_id={version.pipeline_version_id}")
    assert opened.status == 200
    return _opened(opened) | {f"parameters.{name}": value for name, value in values.items()}


def _started(visitor: Visitor, client: Client, form: dict[str, str]) -> Run:
    answer = visitor.post("/start", form, follow=False)
    assert (answer.status, answer.headers["location"][:6]) == (303, "/runs/"), answer.words
    return client.runs.get(answer.headers["location"].removeprefix("/runs/"))


def test_defaults_are_left_out(visitor: Visitor, client: Client, typed: PipelineVersion) -> None:
    """Fields that were not changed, or were emptied, leave their defaults to the pipeline."""
    form = _form(visitor, typed, needed="있음", count="", rate="")
    assert form["parameters.plain"] == "  앞 공백"
    run = _started(visitor, client, form)
    assert run.parameters == {"needed": "있음"}
    assert run.experiment_name == "Default"


@pytest.mark.parametrize(
    "sent",
    [
        ("needed", "  true ", "  true "),
        ("needed", "1e3", "1e3"),
        ("needed", "하나\r\n\r\n 둘\r\n", "하나\n\n 둘\n"),
        ("needed", HOSTILE + "&amp;", HOSTILE + "&amp;"),
        ("choice", "나 다", "나 다"),
        ("left", " ", " "),
        ("count", " 9007199254740991 ", 9007199254740991),
        ("count", "-0", 0),
        ("rate", "1e3", 1000),
        ("rate", "-.5", -0.5),
        ("flag", "false", False),
        ("items", '["a", null, {"b": 1e3}]', ["a", None, {"b": 1000}]),
        ("options", '{"이름": ["값"]}', {"이름": ["값"]}),
        ("options", "{}", {}),
    ],
)
def test_values_survive(visitor: Visitor, client: Client, typed: PipelineVersion, sent: tuple[str, str, Json]) -> None:
    """Values arrive in their declared type, exactly as they were typed."""
    name, text, value = sent
    run = _started(visitor, client, _form(visitor, typed, **{"needed": "x", name: text}))
    assert run.parameters[name] == value
    assert type(run.parameters[name]) is type(value) or isinstance(value, int | float)


def test_empty_text(visitor: Visitor, client: Client, typed: PipelineVersion) -> None:
    """An empty text is sent if that is ticked; otherwise a required parameter is missing."""
    form = _form(visitor, typed, needed="", plain="") | {"empty.needed": "on"}
    assert _started(visitor, client, form).parameters == {"needed": ""}
    del form["empty.needed"]
    assert "has no value and no default; set it to a string" in visitor.post("/start", form).words


def test_all_faults_at_once(visitor: Visitor, typed: PipelineVersion) -> None:
    """Each wrong field says what is wrong, in the server's words, and keeps what was typed."""
    wrong = {
        "count": "1e3",
        "rate": "많이",
        "items": "{}",
        "options": '{"a": ',
        "plain": HOSTILE,
        "lines": "둘\r\n셋",
    }
    form = _form(visitor, typed, **wrong) | {"labels": "a", "description": "설명", "display_name": "이름"}
    answer = visitor.post("/start", form)
    assert answer.status == 400
    for words in (
        "is the string '1e3'; the pipeline declares an integer",
        "is the string '많이'; the pipeline declares a number",
        "is the string '{}'; the pipeline declares a list",
        "the pipeline declares an object",
        "has no value and no default",
    ):
        assert words in answer.words
    assert HOSTILE not in answer.text
    del form["labels"]
    again = _opened(answer)
    assert {name: again[name] for name in form} == form
    assert (
        "&#39;a&#39; is not KEY=VALUE"
        in visitor.post("/start", _form(visitor, typed, needed="x") | {"labels": "a"}).text
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"parameters.count": "9007199254740993"}, "integers are exact only up to 2^53 - 1"),
        ({"parameters.items": "[9007199254740993]"}, "parameters.items[0]: is an integer beyond 2^53"),
        ({"parameters.choice": "다른 것"}, "the pipeline allows only"),
        ({"display_name": "x" * 300}, "at most 255 are allowed"),
        ({"labels": "=x"}, "is not KEY=VALUE"),
        ({"experiment": "x" * 200}, "at most 128 are allowed"),
        ({"experiment_id": str(uuid.uuid4()), "experiment": ""}, "experiment"),
    ],
)
def test_what_else_is_refused(visitor: Visitor, typed: PipelineVersion, values: dict[str, str], words: str) -> None:
    """Other faults stand in the form, too."""
    answer = visitor.post("/start", _form(visitor, typed, needed="x") | values)
    assert 400 <= answer.status < 500
    assert words in answer.words
    assert 'role="alert"' in answer.text
    assert 'action="/start"' in answer.text


def test_sent_twice(visitor: Visitor, client: Client, typed: PipelineVersion) -> None:
    """The same form sent twice starts one run; changed in between, or opened again, it starts another one."""
    form = _form(visitor, typed, needed="twice")
    runs = [
        _started(visitor, client, one).run_id
        for one in (form, form, form | {"parameters.count": "4"}, _form(visitor, typed, needed="twice"))
    ]
    assert runs[0] == runs[1]
    assert len(set(runs)) == 3


def test_experiment_and_caching(visitor: Visitor, client: Client, typed: PipelineVersion) -> None:
    """An experiment is chosen or made; names, labels and caching reach the run."""
    form = _form(visitor, typed, needed="x") | {
        "experiment": "새 실험",
        "display_name": HOSTILE,
        "description": "첫 줄\r\n둘째 줄",
        "labels": "팀=가\r\nkey=a=b",
    }
    del form["caching"]
    run = _started(visitor, client, form)
    assert run.caching_disabled
    assert "caching" not in _opened(visitor.get(f"/start?like={run.run_id}"))
    assert (run.experiment_name, run.display_name, run.description) == ("새 실험", HOSTILE, "첫 줄\n둘째 줄")
    assert dict(run.labels) == {"팀": "가", "key": "a=b"}
    form = _form(visitor, typed, needed="x") | {"experiment_id": run.experiment_id}
    assert _started(visitor, client, form).experiment_name == "새 실험"


def test_run_again(visitor: Visitor, client: Client, typed: PipelineVersion) -> None:
    """A run is started again with its version, experiment, labels and exact parameters, whatever they hold."""
    values: dict[str, Json] = {
        "needed": "",
        "lines": "a\rb\r\nc",
        "count": 7,
        "rate": 1e-7,
        "flag": False,
        "plain": "새\r줄",
    }
    old = client.runs.create(
        pipeline_id=typed.pipeline_id,
        pipeline_version_id=typed.pipeline_version_id,
        parameters=values,
        experiment_name="다시",
        create_experiment=True,
        labels={"a": "b"},
    )
    opened = visitor.get(f"/start?like={old.run_id}")
    form = _opened(opened)
    assert re.search('<textarea [^>]*name="parameters.plain"', opened.text)
    run = _started(visitor, client, form)
    assert dict(run.parameters) == values
    assert (run.experiment_name, dict(run.labels)) == ("다시", {"a": "b"})
    assert run.pipeline_version_id == typed.pipeline_version_id
    changed = _started(visitor, client, form | {"parameters.count": "8", "parameters.plain": ""})
    assert dict(changed.parameters) == {name: one for name, one in values.items() if name != "plain"} | {"count": 8}


def test_run_again_with_another_version(visitor: Visitor, client: Client, made: Made) -> None:
    """With another version, what that one does not declare is named."""
    older, newer = (client.pipelines.get_version(made.train, version_name=name) for name in ("train", "2"))
    old = client.runs.create(
        pipeline_id=newer.pipeline_id,
        pipeline_version_id=newer.pipeline_version_id,
        parameters={"dataset_seed": 1, "patience": 5},
    )
    shown = visitor.get(f"/start?like={old.run_id}&version_id={older.pipeline_version_id}")
    assert "of another version. This version does not declare: patience." in shown.words
    assert _opened(shown)["parameters.dataset_seed"] == "1"
    assert visitor.get(f"/start?like={uuid.uuid4()}").status == 404
    assert visitor.get("/start").path == "/pipelines"


def test_what_was_typed_is_kept_for_another_version(visitor: Visitor, client: Client, made: Made) -> None:
    """The form of another version has its own defaults, and what was typed; nothing starts until it was shown."""
    older, newer = (client.pipelines.get_version(made.train, version_name=name) for name in ("train", "2"))
    typed = _form(visitor, older, epochs="7") | {"description": "설명", "version_id": newer.pipeline_version_id}
    typed.pop("caching")
    for more in ({}, {"choose": "1"}):
        shown = visitor.post("/start", typed | more)
        assert shown.status == 200
        form = _opened(shown)
        assert (form["parameters.epochs"], form["description"]) == ("7", "설명")
        assert (form["version_id"], form["shown"]) == (newer.pipeline_version_id, newer.pipeline_version_id)
        assert form["parameters.patience"]
        assert "caching" not in form


def test_run_again_without_its_version(visitor: Visitor, client: Client, typed: PipelineVersion) -> None:
    """If the version of the run was deleted, the latest is used."""
    older, newer = (
        client.pipelines.upload(EXAMPLES / "metrics.yaml", name="again", version_name=name).version for name in "가나"
    )
    old = client.runs.create(pipeline_id=older.pipeline_id, pipeline_version_id=older.pipeline_version_id)
    client.pipelines.delete_version(pipeline_id=older.pipeline_id, pipeline_version_id=older.pipeline_version_id)
    opened = visitor.get(f"/start?like={old.run_id}")
    assert "It was of another version." in opened.words
    assert _opened(opened)["version_id"] == newer.pipeline_version_id
    gone = f"/start?pipeline_id={typed.pipeline_id}&version_id={older.pipeline_version_id}"
    assert visitor.get(gone).status == 404


def test_recurring_run(visitor: Visitor, client: Client, typed: PipelineVersion) -> None:
    """The form also makes a recurring run; what is wrong with its schedule is said next to the field."""
    form = _form(visitor, typed, needed="x", count="8") | {"repeat": "1", "display_name": "밤마다"}
    for schedule, words in [
        ({"cron.cron": "0 3 * *"}, "has 4 fields"),
        ({"interval.interval": "soon"}, "&#39;soon&#39; is no length of time"),
        ({"cron.cron": "@daily", "interval.interval": "1h"}, "fill in either this or the cron expression"),
    ]:
        wrong = visitor.post("/start", form | schedule)
        assert wrong.status == 400
        (name,) = [*schedule][-1:]
        assert re.search(rf'id="{re.escape(name)}-problem" role="alert">[^<]*{words}', wrong.text)
    for schedule in ({"cron.cron": "0 3 * * *"}, {"interval.interval": "1h30m"}):
        assert visitor.post("/start", form | schedule).path == "/recurring"
    made = [one for one in client.recurring_runs.list() if one.display_name == "밤마다"]
    assert {one.schedule for one in made} == {CronSchedule("0 0 3 * * *"), IntervalSchedule(timedelta(minutes=90))}
    assert all(one.parameters == {"needed": "x", "count": 8} for one in made)
    for one in made:
        client.recurring_runs.delete(one.recurring_run_id)
