"""What every long-running process has: a log, signals, addresses to listen on, metrics over HTTP.

Needs structlog and nothing else beside the base install.
"""

from typing import Literal, TypeAlias

LogFormat: TypeAlias = Literal["console", "json"]
"""How log lines look: for people, or one JSON object each."""
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
"""The least important lines to log."""
