"""The live view in a terminal, which is restored however it ends."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
from typing import TYPE_CHECKING

import pytest
from tests.cli.fake_runs import FakeRuns, serving_all
from tests.cli.test_process import PROGRAM, environment
from typing_extensions import override

from kfadapter.v1 import run_pb2
from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_grpc.contract.errors import AdapterError, PermissionDeniedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc
    from tests.client.fake_adapter import FakeAdapter

ENTERED, LEFT, CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


class HeldRuns(FakeRuns):
    """Sends the state of each run as it is, and its end once it is allowed to end."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = threading.Event()

    @override
    def Watch(self, request: run_pb2.WatchRunsRequest, context: grpc.ServicerContext) -> Iterator[run_pb2.RunEvent]:
        """Sends the run, waits, and sends its end."""
        for run_id in request.runs.run_ids:
            yield run_pb2.RunEvent(changed=run_pb2.RunChanged(run=self.runs[run_id]))
        assert self.may_end.wait(60)
        yield from super().Watch(request, context)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGINT, ExitCode.INTERRUPTED),
        (PermissionDeniedError("not yours"), ExitCode.NOT_ALLOWED),
        (None, ExitCode.OK),
    ],
    ids=["SIGTERM", "Ctrl-C", "an error", "its end"],
)
def test_the_terminal_is_restored(end: signal.Signals | AdapterError | None, code: int, fake: FakeAdapter) -> None:
    """The whole window is used while runs are watched; afterwards the terminal is as it was, however that ended."""
    runs = HeldRuns()
    tasks = [
        run_pb2.RunTask(name=f"작업{index}", task_id=str(index), state=run_pb2.RUN_STATE_RUNNING) for index in range(9)
    ]
    run = runs.add("훈련", state=run_pb2.RUN_STATE_RUNNING, tasks=tasks)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 60, 0, 0))
    with serving_all(fake, runs) as target:
        command = [*PROGRAM, "watch", run.run_id]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(target)) as process:
            seen = b""
            while "작업2".encode() not in seen:
                seen += os.read(ours, 65536)
            live = seen
            if isinstance(end, signal.Signals):
                process.send_signal(end)
            else:
                runs.failures += [end] if end else []
                runs.may_end.set()
            while LEFT not in seen or "작업8".encode() not in seen:
                seen += os.read(ours, 65536)
            runs.may_end.set()
            assert process.wait(60) == code
    os.close(theirs)
    assert live.count(ENTERED) == seen.count(LEFT) == 1
    assert "작업3".encode() not in live
    assert "… 6 running not shown".encode() in live
    assert CURSOR in seen[seen.rindex(b"\x1b[?25l") :]
    assert b"Traceback" not in seen
    os.close(ours)
