"""The file inside an archive that KFP takes as the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.upload.refusal import quoted, refusal

if TYPE_CHECKING:
    from kfadapter_grpc.contract.errors import InvalidPipelineFileError
    from kfadapter_grpc.upload.text import Readable

PIPELINE_NAME = "pipeline.yaml"
"""The name that KFP looks for first; without it, it takes the first file."""
YAML_ENDINGS = (".yaml", ".yml")
"""How the name of the file must end that KFP takes out of an archive."""
MOST_MEMBERS = 1_000
"""Members of an archive."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive.

    Attributes:
        name: Its name, for messages only: never a path.
        size: Its unpacked size as the archive tells it; no more than that can be read.
        stream: Its bytes.
    """

    name: str
    size: int
    stream: Readable


def check_name(kind: str, name: str) -> None:
    """Refuses the file that KFP would take if KFP would not like its name; it would only say that it failed.

    Raises:
        InvalidPipelineFileError: The name does not end as it must.
    """
    if not name.endswith(YAML_ENDINGS):
        raise refusal(
            f"The first file of the {kind} archive is {quoted(name)}, but KFP takes only names that end with .yaml or "
            f".yml out of an archive. Pack the compiled pipeline as `{PIPELINE_NAME}`."
        )


def damaged(kind: str, what: str) -> InvalidPipelineFileError:
    """Makes the error for an archive that cannot be read."""
    return refusal(f"The {kind} archive is damaged: {what}. Pack it anew and upload it again.")


def no_file(kind: str) -> InvalidPipelineFileError:
    """Makes the error for an archive without a file."""
    return refusal(f"The {kind} archive holds no file. Pack the compiled pipeline as `{PIPELINE_NAME}`.")


def too_many_members(kind: str) -> InvalidPipelineFileError:
    """Makes the error for an archive with too many members."""
    return refusal(f"The {kind} archive has more than {MOST_MEMBERS} members. Pack only the pipeline file.")
