"""The command line of the notifier, except for notifying."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.notices.boxes import at, seen

from kfadapter_grpc.cli import errors as extras
from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_oran.notices.database import Database
from kfadapter_oran.notices.outbox import Outbox

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Kfadapter

WITH_ALL = ("--url", "http://127.0.0.1:1/", "--metrics-listen", "off")


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    """An outbox with a notice of each status, numbered from 1."""
    path = tmp_path / "notices.db"
    with closing(Database(path, create=True)) as database:
        box = Outbox(database)
        box.begin(at(), "")
        for number, status in enumerate(("pending", "parked", "delivered", "superseded", "discarded", "parked"), 1):
            written = box.record(seen(f"run-{number}", "FAILED", at(minutes=1)))
            assert written is not None
            with database.writing() as connection:
                connection.execute(
                    "UPDATE notices SET status = ?, answer = '404 없는 길', settled_at = 0 WHERE id = ?",
                    (status, written.id),
                )
    return path


@pytest.fixture(autouse=True)
def _nobody_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRAININGMGR_HOST", "TRAININGMGR_PORT", "K_SINK"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        ((), "no receiver: set TRAININGMGR_HOST and TRAININGMGR_PORT"),
        (("--url", "tm:32002"), "is no URL of http or https"),
        (("--format", "cloudevents"), "no receiver: give --url, or set K_SINK"),
        (("--url", "http://x/", "--source", "a b"), "--source 'a b' is not a URI"),
        (("--url", "http://u:secret@x/"), "a user or a password does not belong into a URL"),
        ((*WITH_ALL, "--header", "no-value"), "the header 'no-value' is not of the form"),
        ((*WITH_ALL, "--header", "Host: x"), "the header 'Host' is the notifier's own"),
        ((*WITH_ALL, "--receiver-token-file", "/nowhere"), "--receiver-token-file: /nowhere cannot be read"),
        ((*WITH_ALL, "--receiver-ca", "/nowhere"), "--receiver-ca needs an https URL"),
        (("--url", "https://x/", "--receiver-ca", "/nowhere"), "not found: file /nowhere"),
        (("--url", "http://x/", "--metrics-listen", "nonsense"), "--metrics-listen must be HOST:PORT"),
        ((*WITH_ALL, "--keep", "long"), "'long' is no length of time"),
        ((*WITH_ALL, "--since", "yesterday"), "'yesterday' is no time"),
        (("--list", "--retry"), "--list and --retry do not go together"),
        (("--list", "3"), "ids and --all belong to --retry or --discard"),
        (("--all",), "ids and --all belong to --retry or --discard"),
    ],
)
def test_mistakes_are_reported(kfadapter: Kfadapter, tmp_path: Path, arguments: tuple[str, ...], output: str) -> None:
    """Missing or wrong options are reported before any file is opened, with exit code 2; secrets are not printed."""
    ended = kfadapter("notify", "--outbox", str(tmp_path / "box" / "notices.db"), *arguments)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert output in ended.err
    assert "secret" not in ended.err
    assert not (tmp_path / "box").exists()


def test_an_unknown_variable(kfadapter: Kfadapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown variable of the notifier is reported with the one that was meant, and without its value."""
    monkeypatch.setenv("KFADAPTER_NOTIFY_ULR", "canary")
    monkeypatch.setenv("KFADAPTER_NOTIFY_HEADERS", "X-Team: a")
    monkeypatch.setenv("KFADAPTER_NOTIFY_PORT", "tcp://10.0.0.1:9091")
    ended = kfadapter("notify", "--outbox", str(tmp_path / "n.db"), *WITH_ALL)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert "error: KFADAPTER_NOTIFY_ULR: unknown variable; did you mean KFADAPTER_NOTIFY_URL?\n" in ended.err
    assert "canary" not in ended.err


def test_a_token_does_not_go_far_in_plain_text(kfadapter: Kfadapter, tmp_path: Path) -> None:
    """A token for a remote receiver requires TLS or the flag that accepts the risk."""
    token = tmp_path / "token"
    token.write_text("t")
    reported = ("--url", "http://receiver.example/", "--receiver-token-file", str(token))
    ended = kfadapter("notify", "--outbox", str(tmp_path / "n.db"), *reported)
    assert (ended.code, "without TLS" in ended.err) == (ExitCode.USAGE, True)
    # With the flag it fails at the next check: the outbox path is not in a folder.
    (tmp_path / "file").touch()
    ended = kfadapter("notify", "--outbox", str(tmp_path / "file" / "n.db"), *reported, "--insecure-receiver-token")
    assert ended.code == ExitCode.REFUSED


def test_missing_packages_are_named(kfadapter: Kfadapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If only the client is installed, the error names the extra."""
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    ended = kfadapter("notify", "--outbox", str(tmp_path / "n.db"), *WITH_ALL)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert "next:  pip install 'kfadapter-grpc[notify]'\n" in ended.err


def test_what_is_listed(kfadapter: Kfadapter, outbox: Path) -> None:
    """The list has all fields of each notice, as a table and as JSON."""
    table = kfadapter("notify", "--outbox", str(outbox), "--list")
    assert (table.code, table.err) == (ExitCode.OK, "")
    head, *rows = table.out.splitlines()
    assert head.split() == ["ID", "JOB", "RUN", "STATE", "STATUS", "TRIED", "WRITTEN", "NEXT", "ANSWER"]
    assert len(rows) == 6
    assert "404 없는 길" in rows[0]
    documents = json.loads(kfadapter("notify", "--outbox", str(outbox), "--list", "-o", "json").out)
    assert [one["id"] for one in documents] == [1, 2, 3, 4, 5, 6]
    assert {key for one in documents for key in one} == {
        "id",
        "trainingjob_id",
        "run_id",
        "run_status",
        "status",
        "written_at",
        "attempts",
        "refusals",
        "next_at",
        "settled_at",
        "answer",
    }
    assert kfadapter("notify", "--outbox", str(outbox), "--list", "-o", "name").out.split() == list("123456")


def test_a_missing_outbox(kfadapter: Kfadapter, tmp_path: Path) -> None:
    """Reading a missing outbox does not create it."""
    path = tmp_path / "notices.db"
    for what in (("--list",), ("--retry", "1"), ("--discard", "--all")):
        ended = kfadapter("notify", "--outbox", str(path), *what)
        assert (ended.code, ended.out) == (ExitCode.NOT_FOUND, "")
        assert f"error: not found: outbox at {path}\n" in ended.err
    assert not path.exists()


def test_decisions(kfadapter: Kfadapter, outbox: Path) -> None:
    """Only parked notices can be retried or discarded, all of the given ones or none; the error names the reason."""
    where = ("notify", "--outbox", str(outbox))
    for number, why in (
        (1, "sent again by itself"),
        (3, "repeats"),
        (4, "a later end"),
        (5, "discarded by an operator"),
    ):
        ended = kfadapter(*where, "--retry", "2", str(number))
        assert (ended.code, ended.out) == (ExitCode.REFUSED, "")
        assert f"error: notice {number} is not parked" in ended.err
        assert why in ended.err
    assert kfadapter(*where, "--retry", "9").code == ExitCode.NOT_FOUND
    assert kfadapter(*where, "--retry").code == ExitCode.USAGE
    assert kfadapter(*where, "--retry", "2", "--all").code == ExitCode.USAGE
    assert kfadapter(*where, "--discard", "2").out == "never to be sent: 2\n"
    retried = kfadapter(*where, "--retry", "--all", "-o", "json")
    assert [(one["id"], one["status"]) for one in json.loads(retried.out)] == [(6, "pending")]
    assert kfadapter(*where, "--discard", "--all").err == "no notice is parked\n"


def test_where_notices_are_kept(kfadapter: Kfadapter, outbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outbox is at the path in the environment, or in the XDG state folder."""
    monkeypatch.setenv("KFADAPTER_NOTIFY_OUTBOX", str(outbox))
    assert kfadapter("notify", "--list", "-o", "name").out
    monkeypatch.delenv("KFADAPTER_NOTIFY_OUTBOX")
    monkeypatch.setenv("XDG_STATE_HOME", str(outbox.parent))
    assert str(outbox.parent / "kfadapter" / "notices.db") in kfadapter("notify", "--list").err
