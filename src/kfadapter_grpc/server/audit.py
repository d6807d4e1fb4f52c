"""The audit log of a server, by its settings."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from kfadapter_grpc.addresses import OFF
from kfadapter_grpc.daemon.appended_file import AppendedFile
from kfadapter_grpc.daemon.log import LogWriter
from kfadapter_grpc.interceptors import AuditLog
from kfadapter_grpc.setting_sources import SettingsError

if TYPE_CHECKING:
    from typing_extensions import Self

    from kfadapter_grpc.settings import Settings


class Audit:
    """Writes the audit log on a thread of its own. A context manager: what is queued is written at the end.

    Attributes:
        layers: The layer that writes it, if it is on.
    """

    def __init__(self, settings: Settings) -> None:
        """Opens the file.

        Raises:
            SettingsError: It cannot be opened.
        """
        self._stages = ExitStack()
        self._file: AppendedFile | None = None
        self.layers: tuple[AuditLog, ...] = ()
        if settings.audit_log in ("", OFF):
            return
        try:
            self._file = self._stages.enter_context(closing(AppendedFile(settings.audit_log)))
        except OSError as error:
            raise SettingsError(f"audit_log: {settings.audit_log} cannot be written: {error.strerror}") from error
        self._writer = LogWriter(self._file, name="audit")
        self.layers = (AuditLog(self._writer.write, reads=settings.audit_reads),)

    def __enter__(self) -> Self:
        if self._file is not None:
            self._stages.enter_context(self._writer)
        return self

    def __exit__(self, *_: object) -> None:
        self._stages.close()

    def lost(self) -> int:
        return 0 if self._file is None else self._file.lost + self._writer.dropped
