"""What a list request asks for: page size, order, filter and the place to go on from.

Tokens and messages are KFP's own (`backend/src/apiserver/list` in its sources), so that a client sees the same
either way. A token names the first item of the next page, which makes paging stable while items come and go.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .errors import context, invalid_input, invalid_input_because
from .filters import Filter, is_scalar, read_filter, understand

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULT_PAGE_SIZE = 20
_MAX_PAGE_SIZE = 200
_MAX_WORDS = 2
_OTHER_CRITERIA = (
    "page token does not match the supplied sort by and/or filtering criteria. Either specify the same criteria or "
    "leave the latter empty if page token is specified"
)


@dataclass(frozen=True)
class Model:
    """What can be listed.

    Attributes:
        name: KFP's name of the kind, as messages show it.
        plural: the words for many of them in messages.
        table: KFP's name of the table, as tokens show it.
        fields: from the API's field names to KFP's column names.
        columns: from KFP's column names to expressions over this server's own tables. Text is folded to one
            letter case, as MySQL's collation does.
    """

    name: str
    plural: str
    table: str
    fields: Mapping[str, str]
    columns: Mapping[str, str]


_COMMON_FIELDS = {
    "id": "UUID",
    "name": "Name",
    "display_name": "DisplayName",
    "created_at": "CreatedAtInSec",
    "description": "Description",
}
_COMMON_COLUMNS = {
    "UUID": "id",
    "Name": "name_key",
    "DisplayName": "fold(display_name)",
    "CreatedAtInSec": "created_at",
    "Description": "fold(description)",
}
PIPELINES = Model(
    "Pipeline",
    "pipelines",
    "pipelines",
    {**_COMMON_FIELDS, "pipeline_id": "UUID", "namespace": "Namespace"},
    {**_COMMON_COLUMNS, "Namespace": "''"},
)
VERSIONS = Model(
    "PipelineVersion",
    "pipeline versions",
    "pipeline_versions",
    {**_COMMON_FIELDS, "pipeline_version_id": "UUID", "status": "Status"},
    {**_COMMON_COLUMNS, "Status": "'ready'"},
)
EXPERIMENTS = Model(
    "Experiment",
    "experiments",
    "experiments",
    {
        "id": "UUID",
        "experiment_id": "UUID",
        "name": "Name",
        "display_name": "Name",
        "created_at": "CreatedAtInSec",
        "last_run_created_at": "LastRunCreatedAtInSec",
        "description": "Description",
        "namespace": "Namespace",
        "storage_state": "StorageState",
    },
    {
        "UUID": "id",
        "Name": "name_key",
        "CreatedAtInSec": "created_at",
        "LastRunCreatedAtInSec": "last_run_created_at",
        "Description": "fold(description)",
        "Namespace": "''",
        "StorageState": "fold(storage_state)",
    },
)
RUNS = Model(
    "Run",
    "runs",
    "run_details",
    {
        "id": "UUID",
        "run_id": "UUID",
        "name": "DisplayName",
        "display_name": "DisplayName",
        "created_at": "CreatedAtInSec",
        "scheduled_at": "ScheduledAtInSec",
        "finished_at": "FinishedAtInSec",
        "description": "Description",
        "storage_state": "StorageState",
        "experiment_id": "ExperimentUUID",
        "recurring_run_id": "JobUUID",
        "namespace": "Namespace",
        "state": "State",
    },
    {
        # A run's id may be anything.
        "UUID": "id_key",
        "DisplayName": "fold(display_name)",
        "CreatedAtInSec": "created_at",
        "ScheduledAtInSec": "scheduled_at",
        "FinishedAtInSec": "finished_at",
        "Description": "fold(description)",
        "StorageState": "fold(storage_state)",
        "ExperimentUUID": "experiment_id",
        "JobUUID": "''",  # recurring runs start none
        "Namespace": "''",
        "State": "fold(state)",
    },
)
RECURRING_RUNS = Model(
    "Job",
    "recurring runs",
    "jobs",
    {
        "id": "UUID",
        "recurring_run_id": "UUID",
        "name": "DisplayName",
        "display_name": "DisplayName",
        "created_at": "CreatedAtInSec",
        "updated_at": "UpdatedAtInSec",
        "description": "Description",
    },
    {
        "UUID": "id",
        "DisplayName": "fold(display_name)",
        "CreatedAtInSec": "created_at",
        "UpdatedAtInSec": "updated_at",
        "Description": "fold(description)",
    },
)


@dataclass(frozen=True)
class Position:
    """Where a page starts: the first item's value of the sort column, and its id."""

    value: str | int
    id: str


@dataclass(frozen=True)
class Listing:
    """A page of a list, ready to be asked of the store."""

    model: Model
    page_size: int
    sort_column: str
    descending: bool
    filter: Filter
    start: Position | None = None

    @property
    def sort_expression(self) -> str:
        """The SQL expression to sort by, before the id."""
        return self.model.columns[self.sort_column]

    @property
    def sort_value(self) -> str:
        """The SQL expression for what a token says of the sort column: as `sort_expression`, in its own letter case."""
        return {"name_key": "name"}.get(self.sort_expression, self.sort_expression)

    def token(self, start: Position) -> str:
        """KFP's page token for a page that starts there."""
        prefix = f"{self.model.table}."
        fields = {
            "SortByFieldName": self.sort_column,
            "SortBySQLColumn": self.sort_column,
            "SortByFieldValue": start.value,
            "SortByFieldPrefix": prefix,
            "KeyFieldName": "UUID",
            "KeyFieldValue": start.id,
            "KeyFieldPrefix": prefix,
            "IsDesc": self.descending,
            "ModelName": self.model.table,
            "Filter": self.filter.to_token(prefix),
        }
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        return base64.b64encode(text.encode()).decode()


def parse_listing(model: Model, query: Mapping[str, str]) -> Listing:
    """Reads `page_size`, `page_token`, `sort_by` and `filter`.

    Raises:
        KfpError: with the words that KFP has for what is wrong.
    """
    page_size = integer_parameter("page_size", query.get("page_size", ""))
    sort_by, filter_text, token = (query.get(key, "") for key in ("sort_by", "filter", "page_token"))
    with context(f"Failed to list {model.plural} due to invalid tag filter in filter spec"):
        asked = read_filter(filter_text)
    options = f"pageToken: {token}, pageSize: {page_size}, sortBy: {sort_by}, filter: {filter_text}"
    with context(f"Failed to list {model.plural} due invalid list options: {options}"):
        first = _first_page(model, _page_size(page_size), sort_by, understand(asked, model.fields))
        return first if not token else _next_page(first, token, compare=bool(sort_by or asked.predicates))


def integer_parameter(name: str, text: str) -> int:
    """A 32-bit number from the query; empty is 0.

    Raises:
        KfpError: it is no such number; the words are those of KFP's gateway.
    """
    if not re.fullmatch(r"[+-]?[0-9]{1,10}", text or "0") or not -(2**31) <= int(text or "0") < 2**31:
        raise invalid_input(
            f'type mismatch, parameter: {name}, error: strconv.ParseInt: parsing "{text}": invalid syntax'
        )
    return int(text or "0")


def _page_size(size: int) -> int:
    if size < 0:
        raise invalid_input(f"The page size should be greater than 0. Got {size}")
    return min(size or _DEFAULT_PAGE_SIZE, _MAX_PAGE_SIZE)


def _first_page(model: Model, page_size: int, sort_by: str, asked: Filter) -> Listing:
    words = sort_by.lower().split()
    if len(words) > _MAX_WORDS or (len(words) == _MAX_WORDS and words[1] not in {"asc", "desc"}):
        formats = '"field_name", "field_name desc", or "field_name asc"'
        raise invalid_input(f'Received invalid sort by format "{sort_by}". Supported format: {formats}')
    field = words[0] if words else "created_at"
    if field not in model.fields:
        raise invalid_input(f'Invalid sorting field: "{field}" on listable type {model.name}')
    return Listing(model, page_size, model.fields[field], words[1:] == ["desc"], asked)


def _next_page(first: Listing, token: str, *, compare: bool) -> Listing:
    """The page a token leads to; its criteria are those of the token, and `first` must not differ."""
    fields, model = _token_fields(token), first.model
    column, value, key = (fields.get(name) for name in ("SortByFieldName", "SortByFieldValue", "KeyFieldValue"))
    if not (isinstance(column, str) and is_scalar(value) and isinstance(value, str | int) and isinstance(key, str)):
        raise invalid_input_because("Invalid page token", "it is not whole")
    if fields.get("ModelName") != model.table or column not in model.columns:
        raise invalid_input_because("Invalid page token", "it is of another listing")
    known = Filter.from_token(fields.get("Filter"), f"{model.table}.", model.columns)
    filters = replace(known, tags=first.filter.tags)
    listing = replace(first, sort_column=column, descending=fields.get("IsDesc") is True, filter=filters)
    if compare and listing != first:
        raise invalid_input(_OTHER_CRITERIA)
    return replace(listing, start=Position(value, key))


def _token_fields(token: str) -> dict[str, object]:
    try:
        fields = json.loads(base64.b64decode(token, validate=True))
    except binascii.Error:
        cause = f"illegal base64 data at input byte {_first_bad_byte(token)}"
        raise invalid_input_because("Invalid page token", cause) from None
    except (ValueError, RecursionError):
        raise invalid_input_because("Invalid page token", "it holds no JSON") from None
    if not isinstance(fields, dict):
        raise invalid_input_because("Invalid page token", "it holds no JSON object")
    return fields


def _first_bad_byte(token: str) -> int:
    """Where Go's decoder gives up: at a foreign character, or at the start of a quartet that is not whole."""
    foreign = re.search(r"[^A-Za-z0-9+/]", token.rstrip("="))
    return foreign.start() if foreign else len(token.rstrip("=")) // 4 * 4
