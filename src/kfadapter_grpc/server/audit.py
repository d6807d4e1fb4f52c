"""The audit log of a server, by its settings."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from kfadapter_grpc.addresses import OFF
from kfadapter_grpc.daemon.appended_file import AppendedFile
from kfadapter_grpc.daemon.log import LogWriter
from kfadapter_grpc.interceptors import AuditLog
from kfadapter_grpc.setting_sources import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kfadapter_grpc.settings import Settings


class Audit(NamedTuple):
    """The layer that writes the log, if it is on, and what returns how many lines were lost."""

    layers: tuple[AuditLog, ...]
    lost: Callable[[], int]


@contextmanager
def audit_log(settings: Settings) -> Iterator[Audit]:
    """Writes the audit log on a thread of its own during the block; what is queued is written at the end.

    Raises SettingsError if the file cannot be opened.
    """
    if settings.audit_log in ("", OFF):
        yield Audit((), lambda: 0)
        return
    try:
        file = AppendedFile(settings.audit_log)
    except OSError as error:
        raise SettingsError(f"audit_log: {settings.audit_log} cannot be written: {error.strerror}") from error
    with closing(file), LogWriter(file, name="audit") as lines:
        yield Audit((AuditLog(lines.write, reads=settings.audit_reads),), lambda: file.lost + lines.dropped)
