"""How a file that is no pipeline is refused: one wording, safe quotes, the place as metadata."""

from __future__ import annotations

from kfadapter_grpc.contract.errors import InvalidPipelineFileError

_LONGEST_QUOTE = 60


def refusal(message: str, *, line: int = 0, column: int = 0) -> InvalidPipelineFileError:
    """Makes the error; `line` and `column` count from 1, 0 means unknown."""
    metadata: dict[str, str] = {}
    if line:
        metadata = {"line": str(line), "column": str(column)}
        message = f"Line {line}, column {column}: {message}"
    return InvalidPipelineFileError(message, metadata=metadata)


def quoted(text: str) -> str:
    """Quotes something that a caller sent: printable, on one line, at most 60 characters."""
    quote = repr(text[:_LONGEST_QUOTE])
    if len(text) <= _LONGEST_QUOTE and len(quote) <= _LONGEST_QUOTE:
        return quote
    return f"{quote[: _LONGEST_QUOTE - 4]}...{quote[0]}"
