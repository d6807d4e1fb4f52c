"""Behaviours of a scripted KFP that answers as a real one did."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from tests.scripted_kfp import answers, head, resets, sends
from tests.transcripts import load

if TYPE_CHECKING:
    from tests.scripted_kfp import Behaviour, ScriptedKfp
    from tests.transcripts import Step


def step(note: str, transcript: str) -> Step:
    """A recorded step, by its note."""
    return next(one for one in load(transcript).steps if one.note == note)


def placed(name: str) -> str:
    """The id that a recording has a placeholder for."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


PIPELINE, VERSION = placed("PIPELINE"), placed("VERSION")
"""The ids of the recorded pipeline and of its version."""
BROKEN: dict[str, Behaviour] = {
    "a reset": resets(),
    "a reset in the head": resets(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "half an answer": sends(head(200, {"Content-Length": "500"}) + b'{"experiment_id"', then_close=True),
    "503": answers(503),
}
"""How the answer to a write may break."""


def played(note: str, transcript: str) -> Behaviour:
    """Answers as KFP did in this step, with ids and times in place of the placeholders of the recording."""
    response = step(note, transcript).response
    text = json.dumps(response["json"]).replace("{time}", "2026-01-02T03:04:05Z")
    text = re.sub(r"\{([A-Za-z0-9]+)\}", lambda match: placed(match[1]), text)
    return answers(int(str(response["status"])), text.encode(), content_type=str(response["content_type"]))


def query_of(path: str) -> dict[str, str]:
    """The query of a request."""
    return {key: values[0] for key, values in parse_qs(urlsplit(path).query).items()}


def with_pipeline(scripted: ScriptedKfp) -> ScriptedKfp:
    """Makes KFP serve the recorded pipeline, its only version, and the default experiment."""
    version = {"id": VERSION, "name": "rec", "created_at": "2026-01-02T03:04:05Z"}
    scripted.on("GET", "v1beta1/pipeline_versions", answers(200, {"versions": [version], "total_size": 1}))
    scripted.on("GET", rf"/versions/{VERSION}$", recorded_version())
    scripted.on("GET", r"/pipelines/names/rec", answers(200, {"pipeline_id": PIPELINE, "name": "rec"}))
    scripted.on("GET", rf"/pipelines/{PIPELINE}$", answers(200, {"pipeline_id": PIPELINE, "name": "rec"}))
    return scripted.on("GET", r"/experiments\?", played("default experiment exists", "experiments"))


def recorded_version() -> Behaviour:
    """The recorded pipeline's version with its spec."""
    listed = step("its version", "recurring_runs").response["json"]
    text = json.dumps(listed["pipeline_versions"][0])  # type: ignore[index,call-overload]
    text = text.replace("{PIPELINE}", PIPELINE).replace("{VERSION}", VERSION).replace("{time}", "2026-01-02T03:04:05Z")
    return answers(200, text.encode())
