"""What all long-running processes share: log, signals, listen addresses, metrics over HTTP.

Needs only structlog besides the base install.
"""

from typing import Literal, TypeAlias

LogFormat: TypeAlias = Literal["console", "json"]
"""The format of log lines: for people, or one JSON object each."""
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
"""The least important lines to log."""
