from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import grpc
import pytest
import typer
from tests.client.fake_adapter import bare_status
from typer.core import TyperGroup
from typer.main import get_command

from kfadapter.v1 import errors_pb2
from kfadapter_grpc.cli.app import app
from kfadapter_grpc.cli.errors import MEANINGS, ExitCode
from kfadapter_grpc.cli.failures import DEBUG_VARIABLE, HINTS, exit_code, report
from kfadapter_grpc.cli.invocation import PIPELINE, Invocation, Step, again, other
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.client import CallFailedError, CannotConnectError, DeadlineError
from kfadapter_grpc.contract.errors import AdapterError, FieldViolation, InvalidFieldError, all_error_classes

if TYPE_CHECKING:
    from tests.cli.conftest import Kfadapter
    from tests.client.fake_adapter import FakeAdapter

EXIT_CODES = {
    "PIPELINE_NOT_FOUND": 5,
    "VERSION_NOT_FOUND": 5,
    "RUN_NOT_FOUND": 5,
    "TASK_NOT_FOUND": 5,
    "ARTIFACT_NOT_FOUND": 5,
    "ARTIFACT_NOT_READABLE": 8,
    "ARTIFACT_STORE_UNAVAILABLE": 3,
    "ISSUER_UNAVAILABLE": 3,
    "ARTIFACT_CHANGED": 8,
    "EXPERIMENT_NOT_FOUND": 5,
    "RECURRING_RUN_NOT_FOUND": 5,
    "PIPELINE_EXISTS": 8,
    "VERSION_EXISTS": 8,
    "EXPERIMENT_EXISTS": 8,
    "REQUEST_ID_REUSED": 8,
    "INVALID_FIELD": 8,
    "INVALID_UPLOAD": 8,
    "INVALID_PIPELINE_FILE": 8,
    "CHECKSUM_MISMATCH": 8,
    "INVALID_PAGE_TOKEN": 8,
    "PARAMETER_MISSING": 8,
    "PARAMETER_UNKNOWN": 8,
    "PARAMETER_TYPE": 8,
    "PIPELINE_HAS_VERSIONS": 8,
    "RUN_NOT_RETRYABLE": 8,
    "AMBIGUOUS_NAME": 8,
    "KFP_REJECTED_CREDENTIALS": 8,
    "NAME_CONTESTED": 8,
    "UPLOAD_TOO_LARGE": 8,
    "STORAGE_FULL": 8,
    "OVERLOADED": 8,
    "UNAUTHENTICATED": 4,
    "PERMISSION_DENIED": 4,
    "KFP_UNAVAILABLE": 3,
    "DRAINING": 3,
    "KFP_TIMEOUT": 6,
    "UNSUPPORTED_BY_KFP": 8,
    "KFP_ERROR": 8,
    "INTERNAL": 8,
    "CANCELLED": 7,
    "CANNOT_CONNECT": 3,
    "DEADLINE": 6,
}
CLASSES: list[type[AdapterError]] = [*all_error_classes(), CannotConnectError, DeadlineError]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.reason)
def test_every_error_class_has_its_exit_code(cls: type[AdapterError]) -> None:
    """Each error class has the exit code in the table above; no class is missing."""
    assert exit_code(cls("x")) == EXIT_CODES[cls.reason]


def test_the_table_has_existing_classes_only() -> None:
    """Every row of the table is an existing error class."""
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
    """For a failure without the adapter's details the status code determines the exit code."""
    assert exit_code(CallFailedError("x", status=status, request_id="", metadata={})) is code


CONTRACT = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118


def test_every_reason_has_a_hint() -> None:
    """Every reason in the contract, or added by the client, has a hint."""
    assert set(HINTS) == CONTRACT | {CannotConnectError.reason, DeadlineError.reason, CallFailedError.reason}


def error_of(reason: str) -> AdapterError:
    """Returns an error with this reason, of a made-up class if none exists yet."""
    if reason == CallFailedError.reason:
        return CallFailedError("x", status=grpc.StatusCode.UNKNOWN, request_id="r", metadata={})
    known = {cls.reason: cls for cls in CLASSES}
    made_up = type("MadeUpError", (AdapterError,), {}, reason=reason, code=grpc.StatusCode.UNKNOWN)
    error = known.get(reason, made_up)("it is wrong", request_id="r")
    assert isinstance(error, AdapterError)
    return error


DELETE = ["delete", "훈련 '2'"]
UPLOAD = ["upload", "a b.yaml", "--version-name", "v", "--request-id=r", "--if-exists", "fail", "--target=h:1"]
GET = ["get", "--timeout", "1", "--name", "--", "-x"]
NEW = ["experiments", "create", "실험 1"]
ONLY = {"PIPELINE_EXISTS": [UPLOAD], "PIPELINE_HAS_VERSIONS": [DELETE], "EXPERIMENT_EXISTS": [NEW]}
"""The commands that get an error, where not all do."""
CASES = [(reason, typed) for reason in sorted(HINTS) for typed in ONLY.get(reason, [DELETE, UPLOAD, GET])]


@pytest.mark.parametrize(("reason", "typed"), CASES, ids=[f"{reason}-{typed[0]}" for reason, typed in CASES])
def test_every_reason_has_a_next_step_that_works(
    reason: str, typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every error has three parts; if the next step is a command, the shell and the program can parse it."""
    pipeline = {"delete": typed[1], "get": typed[-1]}.get(typed[0], "")
    step = HINTS[reason]
    report(error_of(reason), Invocation(tuple(typed), pipeline, ClientOptions("h:1")))
    what, why, *after = capsys.readouterr().err.splitlines()
    assert (what.partition(":")[0], why.partition(":")[0], after[0][:7]) == ("error", "why", "next:  ")
    assert len(after[0]) > len("next:  ")
    if isinstance(step, Step):
        program, *words = shlex.split(after[0].removeprefix("next:  "))
        assert program == "kfadapter"
        if words[-1] != "--help":
            understand(words)
            assert words[0] != typed[0] or typed[-1 if pipeline else 1] in words


def understand(words: list[str]) -> None:
    """Parses a command line as the program does, without running it; fails if it is invalid."""
    group = get_command(app)
    while isinstance(group, TyperGroup):
        with group.make_context("kfadapter", list(words)) as context:
            command = group.get_command(context, context._protected_args[0])
            words = [*context._protected_args[1:], *context.args]
        assert command is not None
        group = command
    group.make_context("command", words, parent=context)


def test_the_same_command_again_is_spelled_as_it_was_typed() -> None:
    """Added options replace typed ones and precede `--`; words with special characters are quoted for the shell."""
    typed = Invocation(("upload", "내 파일.yaml", "--timeout=1", "--name", "a'b", "--", "x"))
    assert (
        typed.format(again("--timeout", "9")) == """kfadapter upload '내 파일.yaml' --name 'a'"'"'b' --timeout 9 -- x"""
    )
    assert typed.format(again(without="--name")) == "kfadapter upload '내 파일.yaml' --timeout=1 -- x"
    odd = Invocation(("delete", "--", "--force"))
    assert odd.format(again("--force")) == "kfadapter delete --force -- --force"
    piped = Invocation(("upload", "-", "--name", "x"))
    assert piped.format(again("--force", text="y")) == "the same command again with --force\ny"


def test_another_command_goes_to_the_same_adapter(kfadapter: Kfadapter) -> None:
    """The next step keeps --target and --namespace, and names the pipeline, quoted for the shell."""
    invocation = Invocation(pipeline="내 것", options=ClientOptions("h:1", namespace="team a"))
    spelled = invocation.format(other("versions", PIPELINE))
    assert spelled == "kfadapter --target h:1 --namespace 'team a' versions '내 것'"
    ended = kfadapter("get", "absent", "-n", "x")
    assert f"next:  kfadapter --target {kfadapter.target} --namespace x list\n" in ended.err


def test_an_error_has_three_parts(kfadapter: Kfadapter) -> None:
    """The error is on stderr: what is wrong, the reason with the request id, and the next step; stdout is empty."""
    ended = kfadapter("get", "absent")
    assert ended.code == ExitCode.NOT_FOUND
    assert ended.out == ""
    assert ended.err.splitlines() == [
        "error: no pipeline is named 'absent'",
        "why:   PIPELINE_NOT_FOUND, request req-1",
        f"next:  kfadapter --target {kfadapter.target} list",
        "       shows all pipelines; --namespace selects another namespace",
    ]


def test_several_wrong_fields_are_all_reported(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """The message names every wrong field."""
    fake.failures = [InvalidFieldError.of_all([FieldViolation("name", "is empty"), FieldViolation("tags", "too many")])]
    ended = kfadapter("get", "x")
    assert ended.code == ExitCode.REFUSED
    assert "name: is empty; tags: too many" in ended.err
    assert "next:  kfadapter get --help\n       describes the options\n" in ended.err


@pytest.mark.slow
def test_unreachable_adapter() -> None:
    """If the server is unreachable, the error names its address, the cause, and the command that starts one."""
    from tests.cli.conftest import Kfadapter  # noqa: PLC0415  a fixture would start a server

    ended = Kfadapter("127.0.0.1:1")("list")
    assert ended.code == ExitCode.CANNOT_CONNECT
    assert "cannot connect to 127.0.0.1:1" in ended.err
    assert "refused" in ended.err
    assert "next:  kfadapter dev --port 1\n" in ended.err


def test_a_foreign_server_cannot_steer_the_terminal(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """Escape sequences in a message are printed escaped."""
    fake.failures = [bare_status(grpc.StatusCode.NOT_FOUND, "gone \x1b[2J")]
    ended = kfadapter("get", "x")
    assert "\x1b" not in ended.err
    assert r"gone \x1b[2J" in ended.err


def test_choices_on_one_line(kfadapter: Kfadapter) -> None:
    """A usage error of several lines is one line."""
    assert "error: Missing option '--role'. Choose from: reader, writer\n" in kfadapter("token", "x").err


def test_a_file_that_cannot_be_read_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """An OS error is reported in words, without a traceback."""
    assert report(PermissionError(13, "Permission denied", "x.yaml")) is ExitCode.REFUSED
    assert capsys.readouterr().err == (
        "error: Permission denied: 'x.yaml'\nwhy:   EACCES\nnext:  the same command again\n       once that is fixed\n"
    )


def test_a_fault_of_the_program_is_reported_in_three_parts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception has three parts and an exit code too; its traceback is shown on request."""
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
    reported = capsys.readouterr().err
    assert reported.startswith("Traceback")
    assert reported.endswith("\n".join(lines) + "\n")


def test_every_exit_code_is_in_the_help(kfadapter: Kfadapter) -> None:
    """The help lists all exit codes with their meaning."""
    ended = kfadapter("--help")
    assert ended.code == ExitCode.OK
    assert set(MEANINGS) == set(ExitCode)
    for code, meaning in MEANINGS.items():
        assert f"{code.value:>5}  {meaning}" in ended.out


@pytest.mark.parametrize("target", ["127.0.0.1", "http://127.0.0.1:50051", "a b:1", "::1:50051", "host:port"])
def test_a_target_that_is_no_address(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid target is a usage error, reported before any call."""
    with pytest.raises(typer.BadParameter, match="HOST:PORT"):
        ClientOptions(target).client()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "target", ["localhost:1", "[::1]:1", "dns:///kfadapter.ml:50051", "unix:/tmp/x", "ml.svc:50051"]
)
def test_a_target_that_is_one(target: str) -> None:
    """Every form of address that gRPC supports is accepted."""
    ClientOptions(target).client().close()


def test_another_server_is_not_suggested_to_be_started(capsys: pytest.CaptureFixture[str]) -> None:
    """If another server listens at the address, or no server can, the next step is to check the address."""
    error = CannotConnectError(
        "cannot connect to x:1", metadata={"target": "x:1", "cause": "Trying to connect an http1.x server"}
    )
    assert report(error) is ExitCode.CANNOT_CONNECT
    assert "next:  check HOST:PORT" in capsys.readouterr().err
