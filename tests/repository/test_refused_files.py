"""Files that KFP rejects, never answers, or fails to store: those that hang it are not sent; positions are reported."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import pytest
from tests.repository.conftest import call
from tests.scripted_kfp import ScriptedKfp, answers
from tests.transcripts import PIPELINES, load

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.pipelines import UploadPipelineMetadata, UploadResult
from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.upload.receive import receive_file

if TYPE_CHECKING:
    from tests.transcripts import Step

    from kfadapter_grpc.kfp.pipelines import Pipelines

HELLO = (PIPELINES / "hello_world.yaml").read_bytes()
ID = "11111111-1111-4111-8111-111111111111"
UNKNOWN_FORMAT = answers(400, {"error_message": "unknown template format", "error_details": "main.go:1"})
FAILED = answers(500, {"error_message": "Failed to create a pipeline version", "error_details": "main.go:1"})


def _zipped(data: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("pipeline.yaml", data)
    return target.getvalue()


MADE = {
    "a good file cut in the middle of a line": HELLO[:1398],
    "a good file cut after a whole line": HELLO[: HELLO.index(b"\n", 440) + 1],
    "a NUL byte in a comment": HELLO + b"# \0\n",
    "not UTF-8 in a comment": HELLO + b"# \xff\xfe..\n",
    "the same key twice": HELLO + b"root: {} \n",
    "a good document, then a malformed one": HELLO + b"---\n{[}\n",
    "malformed YAML in a zip": _zipped(b"{[}"),
}
"""The files that the recording describes; of the others it holds the text."""
HANGING = load("hanging_uploads").steps


def _upload(kfp: Pipelines, data: bytes, request: UploadPipelineMetadata | None = None) -> UploadResult:
    """Receives a file and stores it, as the servicer does."""
    the_call = call()
    with receive_file([data], UploadLimits(), total_bytes=len(data), sha256=None, call=the_call) as file:
        return kfp.upload(request or UploadPipelineMetadata("p"), file, the_call)


def _answering(scripted: ScriptedKfp, *version: object) -> None:
    """A KFP that creates the pipeline and answers the version like this."""
    made = {"pipeline_id": ID, "name": "p", "display_name": "p", "tags": {"kfadapter_attempt": "x"}}
    scripted.on("POST", r"/pipelines$", answers(200, made)).on("DELETE", ID, answers(200, {}))
    scripted.on("POST", "/upload_version", *version)  # type: ignore[arg-type]


@pytest.mark.parametrize("step", HANGING, ids=[step.note for step in HANGING])
def test_files_that_hang_kfp(scripted: ScriptedKfp, before_scripted: Pipelines, step: Step) -> None:
    """Each is rejected with INVALID_PIPELINE_FILE, and no byte of those that KFP never answered is sent."""
    recorded = step.response
    _answering(scripted, answers(400, recorded.get("json")))
    data = MADE.get(step.note) or str(step.request["body"]).encode()
    with pytest.raises(errors.InvalidPipelineFileError):
        _upload(before_scripted, data)
    if recorded["status"] == 0:
        assert scripted.requests == []


def test_a_cut_file_is_refused_in_kfps_words(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """If nothing in the file explains the rejection, the reason is KFP's own message."""
    _answering(scripted, UNKNOWN_FORMAT)
    with pytest.raises(errors.InvalidPipelineFileError, match="unknown template format"):
        _upload(before_scripted, MADE["a good file cut after a whole line"])


DUPLICATE = b"""\
# a comment
pipelineInfo: {name: duplicate-key}
root: {dag: {tasks: {}}}
schemaVersion: 2.1.0
pipelineInfo: {name: again}
"""


@pytest.mark.parametrize("packed", [False, True], ids=["bare", "zip"])
@pytest.mark.parametrize(
    ("data", "line", "column", "words"),
    [
        (DUPLICATE, 5, 1, "'pipelineInfo' is in this mapping twice, first in line 2"),
        (b"a:\n  b: 1\n  c: {d: 1, d: 2}\n", 3, 13, "'d' is in this mapping twice, first in line 3"),
        (b"a: {x: 1}\nb: {x: 1}\n'\xed\x95\x9c': 1\n\xed\x95\x9c: 2\n", 4, 1, "'한' is in this mapping twice"),
        (b"a:\n  7: x\n", 2, 3, "'7' is not a text"),
        (b"a:\n- yes: x\n", 2, 3, "'yes' is not a text"),
        (b"a:\n  .nan: x\n", 2, 3, "'.nan' is not a text"),
        (b"a:\n  'no': 1\n  -1.5e3: x\n", 3, 3, "'-1.5e3' is not a text"),
    ],
)
def test_faulty_keys(  # noqa: PLR0917 - what is parametrized
    scripted: ScriptedKfp,
    before_scripted: Pipelines,
    data: bytes,
    line: int,
    column: int,
    words: str,
    packed: bool,
) -> None:
    """A duplicate or non-string key, which is "unknown template format" to KFP, is reported with its position."""
    _answering(scripted, UNKNOWN_FORMAT)
    with pytest.raises(errors.InvalidPipelineFileError, match=words) as caught:
        _upload(before_scripted, _zipped(data) if packed else data)
    place = {"line": str(line), "column": str(column), "kfp_status": "400"}
    assert place.items() <= caught.value.metadata.items()


def test_sound_keys_are_not_accused(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """Quoted numbers, equal keys of different mappings, strings as values and merged keys are not reported."""
    _answering(scripted, UNKNOWN_FORMAT)
    data = b"a: &b {'7': 7, x: yes}\nc: [{x: 1}, {x: 2}]\nd: {<<: *b, x: 1}\nnulls: ~\nv1.2: 1\n2a: 3\n"
    with pytest.raises(errors.InvalidPipelineFileError, match="unknown template format"):
        _upload(before_scripted, data)


@pytest.mark.parametrize("text", ["축하 🎉", '"\\U0001F389 축하"'], ids=["written", "escaped"])
@pytest.mark.parametrize("packed", [False, True], ids=["bare", "zip"])
def test_an_emoji_in_the_file(scripted: ScriptedKfp, before_scripted: Pipelines, text: str, packed: bool) -> None:
    """After KFP's 500 the first text with a 4-byte character is reported, literally and as an escape."""
    _answering(scripted, FAILED)
    data = f"한국어: 값\nb:\n  c: {text}\n".encode()
    with pytest.raises(errors.InvalidPipelineFileError, match="U\\+1F389") as caught:
        _upload(before_scripted, _zipped(data) if packed else data)
    assert (caught.value.metadata["line"], caught.value.metadata["column"]) == ("3", "6")


def test_an_emoji_is_not_refused_beforehand(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """A KFP whose database supports 4-byte characters gets them."""
    _answering(scripted, answers(200, {"pipeline_id": ID, "pipeline_version_id": "v", "name": "p 🎉"}))
    assert _upload(before_scripted, "a: 🎉\n".encode(), UploadPipelineMetadata("p 🎉")).version_created


def test_a_500_without_an_emoji_stays_what_it_is(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """Korean text is no explanation for a failure of KFP."""
    _answering(scripted, FAILED)
    with pytest.raises(errors.KfpError, match="HTTP 500"):
        _upload(before_scripted, "한국어: 값\n".encode(), UploadPipelineMetadata("p", version_name="둘째"))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (UploadPipelineMetadata("p", version_name="v 🎉"), "metadata.version_name"),
        (UploadPipelineMetadata("p", description="🎉"), "metadata.description"),
        (UploadPipelineMetadata("p", tags={"k": "🎉"}), "metadata.tags"),
    ],
)
def test_an_emoji_in_a_field(
    scripted: ScriptedKfp, before_scripted: Pipelines, request_: UploadPipelineMetadata, field: str
) -> None:
    """After KFP's 500 the field with a 4-byte character is named."""
    _answering(scripted, FAILED)
    with pytest.raises(errors.InvalidFieldError, match="U\\+1F389") as caught:
        _upload(before_scripted, b"a: 1\n", request_)
    assert [violation.field for violation in caught.value.violations] == [field]
