"""The kinds of documents that are stored and listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Kind:
    """A kind of documents, each an object of KFP's v2beta1 API.

    Attributes:
        name: KFP's name of the kind, as shown in messages.
        plural: its plural in messages.
        table: KFP's name of the table, and of the table here.
        key: the field with the id.
        columns: maps the API's fields that support sorting and filtering to KFP's column names. Those that end in
            "InSec" contain seconds since 1970, the others text that is compared case-insensitively.
        aliases: other names of those fields.
        owner: the field with the id of the owner; empty if there is no owner.
        constants: the values of fields that are not in documents.
        more: further columns of the table.
        numbers: the values of fields that are stored as numbers, in order from 1.
        fields: the fields' names in documents, where they differ.
        tagged: whether it has tags, which filters can use.
        order: the default sort field of lists.
        order_by: the query parameter that sets the sort field.
        model: KFP's name of the table in tokens, if it differs.
        bad_listing: the context that KFP adds to errors of list requests.
    """

    name: str
    plural: str
    table: str
    key: str
    columns: Mapping[str, str]
    aliases: Mapping[str, str]
    owner: str = ""
    constants: Mapping[str, str] = field(default_factory=dict)
    more: str = ""
    numbers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    tagged: bool = False
    order: str = "created_at"
    order_by: str = "sort_by"
    model: str | None = None
    bad_listing: str = "Failed to create list options"

    @property
    def token_name(self) -> str:
        return self.table if self.model is None else self.model

    @property
    def token_prefix(self) -> str:
        return f"{self.token_name}." if self.token_name else ""

    def try_column(self, name: str) -> str | None:
        """KFP's column for a field of the API; None if unknown."""
        return self.columns.get(self.aliases.get(name, name))

    def schema(self) -> str:
        """The table: documents, and columns generated from them for searching, sorting and unique keys."""
        columns = [self._generated(name, column) for name, column in self.columns.items()]
        if self.owner:
            columns.append(f"owner TEXT AS (json_extract(document, '$.{self.owner}')) STORED")
        more = [self.more] if self.more else []
        # Documents come last, so that searched columns are read without them.
        parts = ["id TEXT PRIMARY KEY", *columns, *more, "document TEXT NOT NULL"]
        return f"CREATE TABLE {self.table} ({', '.join(parts)})"

    def _generated(self, name: str, column: str) -> str:
        value = f"json_extract(document, '$.{self.fields.get(name, name)}')"
        if name in self.numbers:
            cases = " ".join(f"WHEN '{one}' THEN {number}" for number, one in enumerate(self.numbers[name], 1))
            return f"{column} INTEGER AS (CASE {value} {cases} END) STORED"
        if column == "NumberValue":
            return f"{column} REAL AS ({value}) STORED"
        if column.endswith("InSec"):
            return f"{column} INTEGER AS (coalesce(CAST(strftime('%s', {value}) AS INTEGER), 0)) STORED"
        return f"{column} TEXT COLLATE folded AS (coalesce({value}, '{self.constants.get(name, '')}')) STORED"


_TEXTS = {"display_name": "DisplayName", "created_at": "CreatedAtInSec", "description": "Description"}

PIPELINES: Final = Kind(
    name="Pipeline",
    plural="pipelines",
    table="pipelines",
    key="pipeline_id",
    columns={"pipeline_id": "UUID", "name": "Name", **_TEXTS, "namespace": "Namespace"},
    aliases={"id": "pipeline_id"},
    tagged=True,
)
VERSIONS: Final = Kind(
    name="PipelineVersion",
    plural="pipeline versions",
    table="pipeline_versions",
    key="pipeline_version_id",
    columns={"pipeline_version_id": "UUID", "name": "Name", **_TEXTS, "status": "Status"},
    aliases={"id": "pipeline_version_id"},
    tagged=True,
    owner="pipeline_id",
    constants={"status": "ready"},
    more="spec TEXT NOT NULL",
)
EXPERIMENTS: Final = Kind(
    name="Experiment",
    plural="experiments",
    table="experiments",
    key="experiment_id",
    columns={
        "experiment_id": "UUID",
        "display_name": "Name",
        "created_at": "CreatedAtInSec",
        "last_run_created_at": "LastRunCreatedAtInSec",
        "description": "Description",
        "namespace": "Namespace",
        "storage_state": "StorageState",
    },
    aliases={"id": "experiment_id", "name": "display_name"},
)
RUNS: Final = Kind(
    name="Run",
    plural="runs",
    table="run_details",
    key="run_id",
    columns={
        "run_id": "UUID",
        **_TEXTS,
        "scheduled_at": "ScheduledAtInSec",
        "finished_at": "FinishedAtInSec",
        "storage_state": "StorageState",
        "experiment_id": "ExperimentUUID",
        "recurring_run_id": "JobUUID",
        "namespace": "Namespace",
        "state": "State",
    },
    aliases={"id": "run_id", "name": "display_name"},
    owner="experiment_id",
    more="spec TEXT NOT NULL, workflow TEXT NOT NULL, submission INTEGER NOT NULL, file_bytes INTEGER NOT NULL",
    model="",
)
RECURRING_RUNS: Final = Kind(
    name="Job",
    plural="recurring runs",
    table="jobs",
    key="recurring_run_id",
    columns={"recurring_run_id": "UUID", **_TEXTS, "updated_at": "UpdatedAtInSec"},
    aliases={"id": "recurring_run_id", "name": "display_name"},
    owner="experiment_id",
    bad_listing="Failed to list recurring runs due to error parsing the listing options",
    more="name TEXT NOT NULL, spec TEXT NOT NULL, last_index INTEGER NOT NULL, last_start INTEGER, next_start INTEGER",
)
"""Recurring runs.

Apart from the document: the name of KFP's ScheduledWorkflow; what a pinned version or a spec executes, empty where each
start takes the latest version; how many starts there were, when the last one was due, and when the next one is.
"""
TASKS: Final = Kind(
    name="Task",
    plural="tasks",
    table="tasks",
    key="task_id",
    columns={
        "task_id": "UUID",
        "name": "Name",
        "display_name": "DisplayName",
        "scope_path": "ScopePath",
        "parent_task_id": "ParentTaskUUID",
        "create_time": "CreatedAtInSec",
        "end_time": "FinishedInSec",
        "status": "State",
        "type": "Type",
    },
    aliases={"id": "task_id", "created_at": "create_time"},
    owner="run_id",
    more="path TEXT NOT NULL, position INTEGER NOT NULL, error TEXT NOT NULL, began INTEGER NOT NULL",
    numbers={
        "status": ("RUNNING", "SUCCEEDED", "SKIPPED", "FAILED", "CACHED"),
        "type": ("ROOT", "RUNTIME", "CONDITION_BRANCH", "CONDITION", "LOOP", "EXIT_HANDLER", "IMPORTER", "DAG"),
    },
    fields={"status": "state"},
    order="create_time",
    order_by="order_by",
)
"""Tasks of runs, as KFP's drivers and launchers write them.

Apart from the document: the path in the pipeline, the position among the run's tasks, the text of its error, and
whether a driver came to it; the others are shown in `run_details` only.
"""
ARTIFACTS: Final = Kind(
    name="Artifact",
    plural="artifacts",
    table="artifacts",
    key="artifact_id",
    columns={
        "artifact_id": "UUID",
        "name": "Name",
        "uri": "URI",
        "created_at": "CreatedAtInSec",
        "namespace": "Namespace",
        "number_value": "NumberValue",
        "type": "Type",
    },
    aliases={"id": "artifact_id"},
    numbers={
        "type": (
            *("Artifact", "Model", "Dataset", "HTML", "Markdown"),
            *("Metric", "ClassificationMetric", "SlicedClassificationMetric"),
        )
    },
)
ARTIFACT_TASKS: Final = Kind(
    name="ArtifactTask",
    plural="artifact tasks",
    table="artifact_tasks",
    key="id",
    columns={
        "id": "UUID",
        "artifact_id": "ArtifactID",
        "task_id": "TaskID",
        "run_id": "RunUUID",
        "type": "Type",
        "key": "ArtifactKey",
    },
    aliases={},
    owner="run_id",
    order="id",
)
KINDS: Final = (PIPELINES, VERSIONS, EXPERIMENTS, RUNS, RECURRING_RUNS, TASKS, ARTIFACTS, ARTIFACT_TASKS)
