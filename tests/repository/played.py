"""Behaviours of a scripted KFP that answer as a real one did."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING

from tests.scripted_kfp import answers
from tests.transcripts import load

if TYPE_CHECKING:
    from tests.scripted_kfp import Behaviour
    from tests.transcripts import Step


def step(note: str, transcript: str) -> Step:
    """A recorded step, by its note."""
    return next(one for one in load(transcript).steps if one.note == note)


def placed(name: str) -> str:
    """The id that stands in the place that a recording leaves open."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def played(note: str, transcript: str) -> Behaviour:
    """Answers as KFP did in this step, with ids and times in the places that the recording leaves open."""
    response = step(note, transcript).response
    text = json.dumps(response["json"]).replace("{time}", "2026-01-02T03:04:05Z")
    text = re.sub(r"\{([A-Za-z0-9]+)\}", lambda match: placed(match[1]), text)
    return answers(int(str(response["status"])), text.encode(), content_type=str(response["content_type"]))
