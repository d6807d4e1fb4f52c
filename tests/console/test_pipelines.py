"""Pages of pipelines: what they show, uploads, deletions, and two versions compared."""

from __future__ import annotations

import json
import re
import uuid
from io import BytesIO
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.console.conftest import EXAMPLES
from tests.console.visiting import MAX_UPLOAD_BYTES, Visitor, page

from kfadapter_console.pipelines import EXAMPLE
from kfadapter_grpc.client import Client, Page, PipelineNotFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.console.conftest import Made

HOSTILE = "<img src=x onerror=alert(1)>"
TRAIN = (EXAMPLES / "train.yaml").read_bytes()


def _fields(**values: str) -> dict[str, str]:
    return {"once": str(uuid.uuid4()), **values}


def _upload(visitor: Visitor, content: bytes = TRAIN, file_name: str = "train.yaml", **values: str) -> tuple[int, str]:
    """Uploads a file; returns the status and what the page that follows says."""
    answer = visitor.post("/pipelines", _fields(**values), file=("file", file_name, content))
    return answer.status, answer.words


def test_list_finds_and_sorts(visitor: Visitor, client: Client, made: Made) -> None:
    """The list is searched by name and tags, and sorted; a wrong tag is shown beside its field."""
    del made
    client.pipelines.upload(EXAMPLES / "metrics.yaml", name="목록 나", tags={"팀": "가"})
    client.pipelines.upload(EXAMPLES / "metrics.yaml", name="목록 가", tags={"팀": "나"})
    found = visitor.get("/pipelines?name=목록&order=name").text
    assert found.index("목록 가") < found.index("목록 나")
    tagged = visitor.get("/pipelines?tags=팀=가").text
    assert "목록 나" in tagged
    assert "목록 가" not in tagged
    assert "'x' is not KEY=VALUE" in visitor.get("/pipelines?tags=x").words
    assert "is not an order" in visitor.get("/pipelines?order=x").words
    assert "No pipeline matches." in visitor.get("/pipelines?name=nothing").words


def test_list_has_pages(visitor: Visitor, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page leads to the next one, with the same filter."""
    monkeypatch.setattr("kfadapter_console.page.PAGE_SIZE", 2)
    for number in range(3):
        client.pipelines.upload(EXAMPLES / "metrics.yaml", name=f"paged {number}")
    first = visitor.get("/pipelines?name=paged&order=name").text
    following = re.search(r'href="([^"]*page=[^"]*)" rel="next"', first)
    assert "paged 1" in first
    assert "paged 2" not in first
    assert following
    assert "paged 2" in visitor.get(following[1].replace("&amp;", "&")).text


def test_one_pipeline(visitor: Visitor, client: Client, made: Made) -> None:
    """A pipeline shows its graph, whose tasks lead to their details, its parameters and its versions."""
    pipeline = client.pipelines.get(made.train)
    shown = visitor.get(f"/pipelines/{pipeline.pipeline_id}")
    links = re.findall(r'<a id="[^"]*" href="#(task-[^"]+)">', shown.text)
    assert len(links) == 3
    assert all(f'id="{link}"' in shown.text for link in links)
    for words in ("작은 모델을 학습한다", "첫 번째 모델", "dataset_seed", "required", "python:3.11-slim", "Versions"):
        assert words in shown.words
    older = next(one for one in client.pipelines.list_versions(made.train) if one.name == "train")
    shown = visitor.get(f"/pipelines/{pipeline.pipeline_id}/versions/{older.pipeline_version_id}")
    assert "patience" not in shown.words
    assert visitor.get(f"/pipelines/{uuid.uuid4()}").status == 404


def test_details_of_tasks(visitor: Visitor, client: Client) -> None:
    """Conditions, loops, resources, retries and Kubernetes settings of tasks are shown."""
    words = ""
    spec = yaml.safe_load(TRAIN)
    spec["root"]["dag"]["tasks"]["fit"]["retryPolicy"] = {"maxRetryCount": 3}
    retried = BytesIO(yaml.safe_dump(spec).encode())
    files = [EXAMPLES / f"{name}.yaml" for name in ("resources", "parallel_loops", "secret_and_volume", "conditions")]
    sources: list[BytesIO | Path] = [retried, *files]
    for number, source in enumerate(sources):
        made = client.pipelines.upload(source, name=f"details {number}")
        words += visitor.get(f"/pipelines/{made.pipeline.pipeline_id}").words
    for part in (
        "Cpu request",
        "Memory limit",
        "Accelerator type",
        "Max retries 3",
        "Loop items",
        "Loop parallelism",
        "Condition",
        "Kubernetes extras pvcMount",
    ):
        assert f" {part}" in words, part


def test_file_as_yaml(visitor: Visitor, client: Client) -> None:
    """The file is shown as YAML with all texts escaped, and downloaded under the version's name."""
    stored = client.pipelines.upload(EXAMPLES / "korean_text.yaml", name=f"{HOSTILE} 학습", version_name=HOSTILE)
    path = f"/pipelines/{stored.pipeline.pipeline_id}/versions/{stored.version.pipeline_version_id}"
    shown = visitor.get(f"{path}/yaml")
    assert "pipelineInfo:" in shown.text
    assert HOSTILE not in shown.text + visitor.get(path).text + visitor.get("/pipelines").text
    sent = visitor.get(f"{path}/file")
    assert (
        sent.headers["content-disposition"]
        == "attachment; filename*=UTF-8''%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E.yaml"
    )
    assert sent.headers["x-content-type-options"] == "nosniff"
    original = yaml.safe_load((EXAMPLES / "korean_text.yaml").read_bytes())
    assert yaml.safe_load(sent.body) == original


def test_large_file_is_sent_as_json(visitor: Visitor, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that would take long to convert is not shown, and downloaded as it is stored."""
    stored = client.pipelines.upload(EXAMPLES / "train.yaml", name="large")
    path = f"/pipelines/{stored.pipeline.pipeline_id}/versions/{stored.version.pipeline_version_id}"
    monkeypatch.setattr("kfadapter_console.pipelines.YAML_BYTES", 1024)
    assert "more than 1 KiB" in visitor.get(f"{path}/yaml").words
    sent = visitor.get(f"{path}/file")
    assert sent.headers["content-type"] == "application/json"
    assert json.loads(sent.body)["pipelineInfo"]["name"] == "train"


def test_upload(visitor: Visitor, client: Client) -> None:
    """A file becomes a pipeline named after it; the same bytes make no version and the page says so; others do."""
    status, words = _upload(
        visitor, file_name="올린 것.yaml", description="첫 줄\r\n둘째 줄", tags="팀=가\r\nstage=a=b"
    )
    assert (status, "Uploaded." in words) == (200, True)
    made = client.pipelines.get("올린 것")
    assert (made.description, dict(made.tags)) == ("첫 줄\n둘째 줄", {"팀": "가", "stage": "a=b"})
    assert "the same bytes as the file, so nothing was stored" in _upload(visitor, name="올린 것")[1]
    assert "Uploaded." in _upload(visitor, TRAIN + b"\n# \n", name="올린 것", version_name="둘")[1]
    assert client.pipelines.get("올린 것").version_count == 2


def test_upload_twice_by_accident(visitor: Visitor, client: Client) -> None:
    """The same form sent twice stores one version."""
    form = _fields(name="twice")
    addresses = {visitor.post("/pipelines", form, file=("file", "a.yaml", TRAIN)).path for _ in range(2)}
    assert len(addresses) == 1
    assert client.pipelines.get("twice").version_count == 1


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"content": "a: [\n  1\nb: 2\n"}, "file", "Line 3, column 2"),
        ({"content": ""}, "file", "that is not empty"),
        ({"file_name": "train.py"}, "file", "kfp dsl compile --py train.py"),
        ({"file_name": ""}, "file", "choose a file"),
        ({"name": "x" * 200}, "name", "at most 128"),
        ({"tags": "kfadapter_x=1"}, "tags", "the adapter's own"),
        ({"tags": "a=1\nb"}, "tags", "'b' is not KEY=VALUE"),
        ({"tags": "a=1\na=2"}, "tags", "'a=2' repeats a key"),
        (
            {"name": "train", "version_name": "train", "content": f"{TRAIN.decode()}\n# "},
            "version_name",
            "has a version",
        ),
    ],
)
def test_upload_is_refused(visitor: Visitor, made: Made, values: dict[str, str], field: str, words: str) -> None:
    """What is wrong stands beside its field in the server's words, and everything typed is kept."""
    del made
    sent = {"name": "refused", "description": HOSTILE, "file_name": "train.yaml", "content": TRAIN.decode(), **values}
    file = ("file", sent.pop("file_name"), sent.pop("content").encode())
    answer = visitor.post("/pipelines", _fields(**sent), file=file)
    problem = re.search(rf'id="{field}-problem" role="alert">([^<]*)<', answer.text)
    assert 400 <= answer.status < 500
    assert problem
    assert words in problem[1].replace("&#39;", "'")
    assert f'aria-describedby="{field}-hint {field}-problem"' in answer.text
    assert HOSTILE not in answer.text
    assert "&lt;img src=x onerror=alert(1)&gt;</textarea>" in answer.text
    assert sent.get("tags", "") in answer.text


def test_example(visitor: Visitor, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no pipelines, the page says what to do and offers an example, one of the repository's."""
    none = SimpleNamespace(page=lambda _: Page(()))
    monkeypatch.setattr("kfadapter_grpc.client.pipelines.Pipelines.list", lambda *_, **__: none)
    empty = visitor.get("/pipelines")
    assert "There are no pipelines yet." in empty.words
    assert [form.fields.keys() >= {"once", "csrf"} for form in empty.html.forms if form.method == "post"] == [True] * 2
    assert EXAMPLE.read_bytes() == TRAIN
    for _ in "12":
        assert visitor.post("/pipelines", _fields(example="", name="the example")).status == 200
    assert client.pipelines.get("the example").version_count == 1


def test_upload_is_bounded(visitor: Visitor) -> None:
    """A file that is larger than the page accepts is refused before it is read."""
    assert _upload(visitor, b"#" * (MAX_UPLOAD_BYTES + (2 << 20)))[0] == 413


def test_delete(visitor: Visitor, client: Client, tmp_path: Path) -> None:
    """The confirmation names the number of versions; if one was added since, nothing is deleted."""
    (tmp_path / "again.yaml").write_bytes(TRAIN + b"\n# again\n")
    stored = client.pipelines.upload(EXAMPLES / "train.yaml", name="unwanted")
    path = f"/pipelines/{stored.pipeline.pipeline_id}"
    assert "the pipeline with 1 version." in visitor.get(path).words
    second = client.pipelines.upload(tmp_path / "again.yaml", name="unwanted").version
    refused = visitor.post(f"{path}/delete", {"versions": "1"})
    assert (refused.status, "the pipeline now has 2 versions" in refused.words) == (409, True)
    version = f"{path}/versions/{second.pipeline_version_id}"
    assert "one of 2 versions" in visitor.get(version).words
    assert visitor.post(f"{version}/delete").path == path
    assert client.pipelines.get("unwanted").version_count == 1
    assert visitor.post(f"{path}/delete", {"versions": "1"}).path == "/pipelines"
    with pytest.raises(PipelineNotFoundError):
        client.pipelines.get("unwanted")


@pytest.mark.parametrize("what", ["pipeline", "version"])
def test_update(visitor: Visitor, client: Client, what: str) -> None:
    """Display name and tags of a pipeline and of a version are changed in place; what is wrong stands in the form."""
    stored = client.pipelines.upload(EXAMPLES / "train.yaml", name=f"edited {what}", tags={"old": "1"})
    path = f"/pipelines/{stored.pipeline.pipeline_id}"
    if what == "version":
        path += f"/versions/{stored.version.pipeline_version_id}"
    assert "old=1</textarea>" in visitor.get(path).text
    changed = visitor.post(path, {"display_name": HOSTILE, "tags": "팀=가\r\nx="})
    assert changed.path == path
    assert HOSTILE not in changed.text
    pipeline = client.pipelines.get(f"edited {what}")
    record = pipeline if what == "pipeline" else pipeline.latest_version
    assert record
    assert (record.display_name, dict(record.tags)) == (HOSTILE, {"팀": "가", "x": ""})
    refused = visitor.post(path, {"display_name": "이름" * 200, "tags": "a"})
    assert refused.status == 400
    assert "'a' is not KEY=VALUE" in refused.words
    assert "이름" * 200 in refused.text
    refused = visitor.post(path, {"display_name": "이름" * 200, "tags": "a=b"})
    assert 'id="edit-name-problem"' in refused.text


def test_compare_versions(visitor: Visitor, client: Client, made: Made) -> None:
    """Two versions are compared by their graphs, parameters and tasks."""
    older, newer = (client.pipelines.get_version(made.train, version_name=name) for name in ("train", "2"))
    path = f"/pipelines/{newer.pipeline_id}/compare"
    shown = visitor.get(f"{path}?before={older.pipeline_version_id}&after={newer.pipeline_version_id}")
    assert re.search(r"parameter patience \+ added", shown.words)
    assert shown.text.count("<svg") == 2
    assert f'href="/pipelines/{newer.pipeline_id}/versions/{older.pipeline_version_id}#task-make-rows"' in shown.text
    same = visitor.get(f"{path}?before={newer.pipeline_version_id}&after={newer.pipeline_version_id}")
    assert "are the same" in same.words


def test_read_only(target: str, client: Client, made: Made) -> None:
    """A read-only page offers nothing that changes something, and shows the rest."""
    path = f"/pipelines/{client.pipelines.get(made.train).pipeline_id}"
    with page(target, read_only=True) as visitor:
        for shown in (visitor.get("/pipelines"), visitor.get(path)):
            assert shown.status == 200
            assert 'method="post"' not in shown.text
            assert "/start?" not in shown.text
            assert "/delete" not in shown.text
        assert visitor.get(f"/start?pipeline_id={path}").status == 403
        assert visitor.post(f"{path}/delete", {"versions": "2"}).status == 403
