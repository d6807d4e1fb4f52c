"""How log lines look, and where they go."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Literal, Protocol, TextIO, cast

import structlog

if TYPE_CHECKING:
    from structlog.typing import Processor


class LineStream(Protocol):
    """What log lines are written to."""

    def write(self, text: str, /) -> int:
        """Takes a text."""
        ...

    def flush(self) -> None:
        """Sends it on."""
        ...


def configure_logging(log_format: Literal["console", "json"], level: str, stream: LineStream) -> None:
    """Sends all log lines of this process to one stream, structlog's own and those of libraries, in one format.

    Args:
        log_format: `console` for people, `json` for machines: one object per line.
        level: The least important level to show (`info`).
        stream: Takes the lines.
    """
    number = _LEVELS[level]
    renderer = _json() if log_format == "json" else _console()
    structlog.configure(
        processors=[*_SHARED, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", stream)),
        cache_logger_on_first_use=True,
    )
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_SHARED, processors=[strip, *renderer]))
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)


_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_SHARED: tuple[Processor, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def _json() -> tuple[Processor, ...]:
    return structlog.processors.format_exc_info, structlog.processors.JSONRenderer()


def _console() -> tuple[Processor, ...]:
    colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    # The default formatter would print the local variables of every frame, secrets among them.
    return (structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback),)
