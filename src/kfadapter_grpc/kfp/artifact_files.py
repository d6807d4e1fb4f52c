"""What the bytes of artifacts come from: files by their path inside of the artifact, wherever they lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kfadapter_grpc.contract.errors import ArtifactNotReadableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

PIECE_BYTES = 1024 * 1024
"""How many bytes are read at once."""
MAX_FILES = 100_000
"""How many files a folder may have that is read as a whole: all of their names are in memory at once."""


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """A file of an artifact.

    Attributes:
        path: Its path inside of the artifact; empty if it is the artifact.
        size: In bytes.
        stamp: What changes with its content; empty if the store has nothing of the kind.
        media_type: As the store has it; empty if unknown.
        stored_at: In UTC.
    """

    path: str
    size: int
    stamp: str = ""
    media_type: str = ""
    stored_at: datetime | None = None


class ArtifactPlace(Protocol):
    """Where an artifact lies; as text it follows "nothing is stored"."""

    @property
    def name(self) -> str:
        """The last part of where it lies."""
        ...

    def file(self, path: str) -> ArtifactFile | None:
        """Finds a file by its path inside, or the artifact itself if it is one; None if there is no such file."""
        ...

    def files(self) -> list[ArtifactFile]:
        """Lists the files of a folder, sorted by path; none if it is no folder."""
        ...

    def pieces(self, file: ArtifactFile, start: int, end: int) -> Iterator[bytes]:
        """Yields the bytes of a file from `start` to before `end`; fails if it is not the same any more."""
        ...


def ensure_few(count: int) -> None:
    """Fails if a folder has more files than can be read as a whole."""
    if count > MAX_FILES:
        raise ArtifactNotReadableError(
            f"it is a folder of more than {MAX_FILES:,} files; read them one by one, by path"
        )
