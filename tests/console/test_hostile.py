"""Hostile and odd texts in every field of every form and record, on every page."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urljoin

import pytest
import yaml
from tests.console.conftest import PIPELINES
from tests.console.visiting import Form, Visitor, addresses, page
from tests.legacy_http.calling import serving

from kfadapter_embedded.process import start
from kfadapter_grpc.client import AdapterError, Client
from kfadapter_grpc.contract.recurring_runs import IntervalSchedule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TYPED = {"text", "input", "textarea", "search", "password"}
"""The kinds of fields that one types into."""
EVERY_HOUR = IntervalSchedule(timedelta(hours=1))
TEXTS = {
    "markup": "<img src=x onerror=alert(1)>",
    "script": "</textarea></title><script>alert(1)</script>",
    "quotes": '"\'` onmouseover=alert(1) x="',
    "template": "{{ 7 * 7 }}{% raw %}${7*7}#{7*7}",
    "korean": "기지국의 이름 한글 👩‍💻",
    "right to left": "\u202eعربي\u2066 \u200fשלום",
    "address": "javascript:alert(1)//../../?a=b&c#d%00%2e",
    "control": "a\x01b\x7f\x85c\u2028d\ud7ff\ufffd",
    "long": "긴" * 10_000,
}
"""Texts by what is odd about them."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """A visitor of a page whose pipelines, runs and experiments have such texts wherever KFP allows them."""
    folder = tmp_path_factory.mktemp("hostile")
    with (
        start(folder) as kfp,
        serving(kfp.url, artifact_folder=folder / "runs") as server,
        Client(server.address, tls=False) as client,
        page(server.address) as visitor,
    ):
        for number, text in enumerate(TEXTS.values()):
            _fill(client, folder, number, text)
        yield visitor


def _fill(client: Client, folder: Path, number: int, text: str) -> None:
    """Makes one of each resource with a text in each of its fields, as far as KFP takes it there."""
    short, label = text[:60], re.sub(r"[\s\W]", "", text[:20]) or "x"
    spec = yaml.safe_load((PIPELINES / "hello_world.yaml").read_text())
    spec["pipelineInfo"]["description"] = text
    spec["root"]["inputDefinitions"]["parameters"]["recipient"] |= {"defaultValue": text, "description": text}
    file = folder / "pipeline.yaml"
    file.write_text(yaml.safe_dump(spec))
    name = f"hello {number}"
    client.pipelines.upload(file, name=name)
    upload, run = partial(client.pipelines.upload, file), partial(client.runs.create, name)
    for make in (
        partial(upload, name=short),
        partial(upload, name=name, version_name=short),
        partial(upload, name=name, display_name=short),
        partial(upload, name=name, description=text),
        partial(upload, name=name, description=short),
        partial(upload, name=name, tags={label: short}),
        partial(upload, name=name, code_source_url=text),
        partial(client.experiments.create, short, description=text),
        partial(client.experiments.create, f"e{number}", description=short),
        partial(run, display_name=short),
        partial(run, description=text[:40]),
        partial(run, labels={label: short[:20]}),
        partial(client.recurring_runs.create, name, schedule=EVERY_HOUR, display_name=short, enabled=False),
    ):
        with suppress(AdapterError):  # KFP refuses some texts in some fields
            make()
    started = client.runs.create(name)
    client.runs.wait(started.run_id, timeout=60)


def test_records(hostile: Visitor) -> None:
    """On no page do names, descriptions, tags or values become markup; `Visitor` checks each page."""
    found = addresses(hostile, ["/recurring", "/experiments"])
    assert len(found) > 10, found
    text = hostile.get("/runs").text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "기지국의 이름 한글" in text
    assert "{{ 7 * 7 }}" in text


@pytest.fixture(scope="module")
def forms(hostile: Visitor) -> list[tuple[str, Form]]:
    """The forms of all pages with something to type, and where they go."""
    found = {
        (urljoin(address, form.action), *form.fields): form
        for address in addresses(hostile, ["/recurring", "/experiments", "/login"], most=60).values()
        for form in hostile.get(address).html.forms
        if any(kind in TYPED for kind, _ in form.fields.values())
    }
    return [(where, form) for (where, *_), form in found.items()]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_forms(hostile: Visitor, forms: list[tuple[str, Form]], text: str) -> None:
    """Each field of each form takes such a text, or refuses it on a page that is in order; none fails."""
    assert len(forms) > 5
    for where, form in forms:
        given = {name: value for name, (kind, value) in form.fields.items() if kind != "file" and name != "csrf"}
        for name in [name for name, (kind, _) in form.fields.items() if kind in TYPED]:
            values = {**given, name: text}
            if form.method == "get":
                answer = hostile.get(f"{where.partition('?')[0]}?{urlencode(values)}")
            else:
                answer = hostile.post(where, values)
            assert answer.status < 500, (where, name, answer.words[:500])


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_addresses(hostile: Visitor, text: str) -> None:
    """As a part of an address, or as a value in one, such a text leads to a page that is in order."""
    for path in (
        "/runs/{}",
        "/runs/{}/task?of={}",
        "/pipelines/{}",
        "/recurring/{}",
        "/compare?run={}",
        "/{}",
        "/runs?page={}",
    ):
        answer = hostile.get(path.replace("{}", quote(text[:3000], safe="")))
        assert answer.status < 500, (path, answer.words[:500])
