from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from tests.client.fake_adapter import bare_status

from kfadapter.v1 import errors_pb2
from kfadapter_grpc.cli.exit_codes import MEANINGS, ExitCode
from kfadapter_grpc.cli.failures import DEBUG_VARIABLE, exit_code, report
from kfadapter_grpc.cli.hints import HINTS
from kfadapter_grpc.client import CallFailedError, CannotConnectError, DeadlineError
from kfadapter_grpc.domain.errors import AdapterError, FieldViolation, InvalidFieldError, all_error_classes

if TYPE_CHECKING:
    from tests.cli.conftest import Kfadapter
    from tests.client.fake_adapter import FakeAdapter

EXIT_CODES = {
    "PIPELINE_NOT_FOUND": 5,
    "VERSION_NOT_FOUND": 5,
    "PIPELINE_EXISTS": 8,
    "VERSION_EXISTS": 8,
    "REQUEST_ID_REUSED": 8,
    "INVALID_FIELD": 8,
    "INVALID_UPLOAD": 8,
    "INVALID_PIPELINE_FILE": 8,
    "CHECKSUM_MISMATCH": 8,
    "INVALID_PAGE_TOKEN": 8,
    "PIPELINE_HAS_VERSIONS": 8,
    "KFP_REJECTED_CREDENTIALS": 8,
    "NAME_CONTESTED": 8,
    "UPLOAD_TOO_LARGE": 8,
    "OVERLOADED": 8,
    "PERMISSION_DENIED": 4,
    "KFP_UNAVAILABLE": 3,
    "DRAINING": 3,
    "KFP_TIMEOUT": 6,
    "UNSUPPORTED_BY_KFP": 8,
    "NOT_IMPLEMENTED": 8,
    "KFP_ERROR": 8,
    "INTERNAL": 8,
    "CANCELLED": 7,
    "CANNOT_CONNECT": 3,
    "DEADLINE": 6,
}
CLASSES: list[type[AdapterError]] = [*all_error_classes(), CannotConnectError, DeadlineError]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.reason)
def test_every_error_class_has_its_exit_code(cls: type[AdapterError]) -> None:
    """The exit code of each error is the one that the table above writes down; no class is forgotten."""
    assert exit_code(cls("x")) == EXIT_CODES[cls.reason]


def test_the_table_holds_no_class_that_is_gone() -> None:
    """Every row of the table is an error that can occur."""
    assert set(EXIT_CODES) == {cls.reason for cls in CLASSES}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, ExitCode.NOT_ALLOWED),
        (grpc.StatusCode.PERMISSION_DENIED, ExitCode.NOT_ALLOWED),
        (grpc.StatusCode.NOT_FOUND, ExitCode.NOT_FOUND),
        (grpc.StatusCode.UNIMPLEMENTED, ExitCode.REFUSED),
        (grpc.StatusCode.UNKNOWN, ExitCode.REFUSED),
    ],
)
def test_a_foreign_status_has_the_exit_code_of_its_kind(status: grpc.StatusCode, code: ExitCode) -> None:
    """A failure without the adapter's details is judged by its status code."""
    assert exit_code(CallFailedError("x", status=status, request_id="", metadata={})) is code


def test_every_reason_has_a_hint() -> None:
    """Whatever reason the contract knows, or the client adds, somebody who meets it is told what to do next."""
    contract = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    client = {CannotConnectError.reason, DeadlineError.reason, CallFailedError.reason}
    assert set(HINTS) == contract | client
    assert all(HINTS.values())


def test_an_error_has_three_parts(kfadapter: Kfadapter) -> None:
    """What is wrong, the reason with the request id, and what to type next; nothing of it on stdout."""
    ended = kfadapter("get", "absent")
    assert ended.code == ExitCode.NOT_FOUND
    assert ended.out == ""
    what, why, step = ended.err.splitlines()
    assert what == "error: no pipeline is named 'absent'"
    assert why == "why:   PIPELINE_NOT_FOUND, request req-1"
    assert step.startswith("next:  kfadapter list")


def test_several_wrong_fields_are_all_told(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """The message names every wrong field."""
    fake.failures = [InvalidFieldError.of_all([FieldViolation("name", "is empty"), FieldViolation("tags", "too many")])]
    ended = kfadapter("get", "x")
    assert ended.code == ExitCode.REFUSED
    assert "name: is empty; tags: too many" in ended.err


def test_nobody_there() -> None:
    """Without a server the error says where it looked, why, and how to start one."""
    from tests.cli.conftest import Kfadapter  # noqa: PLC0415  a fixture would start a server

    ended = Kfadapter("127.0.0.1:1")("list")
    assert ended.code == ExitCode.CANNOT_CONNECT
    assert "cannot connect to 127.0.0.1:1" in ended.err
    assert "refused" in ended.err
    assert "kfadapter dev" in ended.err


def test_a_foreign_server_cannot_steer_the_terminal(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """Escape codes in a message are shown, not sent."""
    fake.failures = [bare_status(grpc.StatusCode.NOT_FOUND, "gone \x1b[2J")]
    ended = kfadapter("get", "x")
    assert "\x1b" not in ended.err
    assert r"gone \x1b[2J" in ended.err


def test_a_file_that_cannot_be_read_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """An error of the operating system becomes words, not a traceback."""
    assert report(PermissionError(13, "Permission denied", "x.yaml")) is ExitCode.REFUSED
    assert capsys.readouterr().err.startswith("error: Permission denied: 'x.yaml'\nwhy:   EACCES\nnext:")


def test_a_fault_of_the_program_is_told_in_three_parts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody expected has words and an exit code too; its traceback is shown where it was asked for."""
    monkeypatch.delenv(DEBUG_VARIABLE, raising=False)
    assert report(KeyError("x")) is ExitCode.REFUSED
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "why", "next"]
    assert lines[1] == "why:   KeyError: 'x'"
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    try:
        raise KeyError("x")
    except KeyError as error:
        report(error)
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert told.endswith("\n".join(lines) + "\n")


def test_every_exit_code_is_in_the_help(kfadapter: Kfadapter) -> None:
    """The help lists all exit codes with their meaning."""
    ended = kfadapter("--help")
    assert ended.code == ExitCode.OK
    assert set(MEANINGS) == set(ExitCode)
    for code, meaning in MEANINGS.items():
        assert f"{code.value:>5}  {meaning}" in ended.out
