"""The choices that options offer."""

from __future__ import annotations

import enum


class Format(str, enum.Enum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class Report(str, enum.Enum):
    """How the findings of the doctor are printed."""

    TABLE = "table"
    JSON = "json"


class GraphFormat(str, enum.Enum):
    """How the graph of a pipeline is drawn."""

    TEXT = "text"
    SVG = "svg"
    MERMAID = "mermaid"
    DOT = "dot"


class DownloadFormat(str, enum.Enum):
    """How a pipeline that was downloaded is written."""

    YAML = "yaml"
    JSON = "json"


class IfExistsChoice(str, enum.Enum):
    """What to do if a pipeline of the name exists; the values are those of `contract.pipelines.IfExists`."""

    NEW_VERSION = "new-version"
    FAIL = "fail"
    SKIP_IF_SAME = "skip-if-same"


class KfpCredentialsChoice(str, enum.Enum):
    """As whom KFP is asked; the values are those of the settings."""

    NONE = "none"
    TOKEN_FILE = "token-file"  # noqa: S105 - a kind of credentials
    SERVICE_ACCOUNT = "service-account"
    FORWARD = "forward"


class PodLogsChoice(str, enum.Enum):
    """Whether logs are read from the Kubernetes API; the values are those of the settings."""

    OFF = "off"
    AUTO = "auto"


class LogFormat(str, enum.Enum):
    """How log lines look; the values are those of the settings."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(str, enum.Enum):
    """The least important lines to log; the values are those of the settings."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class RoleChoice(str, enum.Enum):
    """What the bearer of a token may do; the values are those of `contract.call.Role`."""

    READER = "reader"
    WRITER = "writer"


class StateChoice(str, enum.Enum):
    """The states of runs; in capitals, the values are those of `contract.runs.RunState`."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELING = "canceling"
    CANCELED = "canceled"
    PAUSED = "paused"
