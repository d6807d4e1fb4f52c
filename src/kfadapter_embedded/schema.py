"""The tables of the embedded KFP, one script per step of their history."""

from __future__ import annotations

from typing import Final

_PIPELINES: Final = """
    CREATE TABLE pipelines (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        name_key TEXT NOT NULL UNIQUE,
        display_name TEXT NOT NULL,
        description TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        tags TEXT NOT NULL
    );
    CREATE INDEX pipelines_by_time ON pipelines (created_at, id);
    CREATE TABLE versions (
        id TEXT PRIMARY KEY,
        pipeline_id TEXT NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        name_key TEXT NOT NULL,
        display_name TEXT NOT NULL,
        description TEXT NOT NULL,
        code_source_url TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        tags TEXT NOT NULL,
        UNIQUE (pipeline_id, name_key)
    );
    CREATE INDEX versions_by_time ON versions (pipeline_id, created_at, id);
    -- Apart, so that listing versions never touches the pages of their specs.
    CREATE TABLE specs (
        version_id TEXT PRIMARY KEY REFERENCES versions (id) ON DELETE CASCADE,
        spec TEXT NOT NULL
    );
    """

# Runs outlive their pipeline, version and experiment, so nothing here refers to those tables.
_RUNS: Final = """
    CREATE TABLE experiments (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        name_key TEXT NOT NULL UNIQUE,
        description TEXT NOT NULL,
        storage_state TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        last_run_created_at INTEGER NOT NULL
    );
    -- What is executed, once for all runs of the same.
    CREATE TABLE run_specs (
        digest TEXT PRIMARY KEY,
        spec TEXT NOT NULL
    );
    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        id_key TEXT NOT NULL UNIQUE,
        experiment_id TEXT NOT NULL,
        display_name TEXT NOT NULL,
        description TEXT NOT NULL,
        pipeline_id TEXT NOT NULL,
        version_id TEXT NOT NULL,
        parameters TEXT NOT NULL,
        pipeline_root TEXT NOT NULL,
        service_account TEXT NOT NULL,
        workflow TEXT NOT NULL,
        storage_state TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        scheduled_at INTEGER NOT NULL,
        finished_at INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL,
        history TEXT NOT NULL,
        error TEXT NOT NULL DEFAULT '',
        spec_digest TEXT NOT NULL REFERENCES run_specs (digest),
        submission INTEGER NOT NULL,
        file_bytes INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX runs_by_time ON runs (created_at, id);
    CREATE INDEX runs_of_experiments ON runs (experiment_id, created_at, id);
    CREATE INDEX runs_by_state ON runs (state, submission);
    CREATE INDEX runs_by_submission ON runs (submission);
    CREATE INDEX runs_by_size ON runs (file_bytes);
    CREATE INDEX runs_by_spec ON runs (spec_digest);
    CREATE TABLE tasks (
        run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        state TEXT NOT NULL,
        history TEXT NOT NULL,
        error TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        ended_at INTEGER NOT NULL,
        PRIMARY KEY (run_id, name)
    );
    -- Apart, so that listing runs never touches what their tasks have put out.
    CREATE TABLE outputs (
        run_id TEXT NOT NULL,
        name TEXT NOT NULL,
        parameters TEXT NOT NULL,
        artifacts TEXT NOT NULL,
        PRIMARY KEY (run_id, name),
        FOREIGN KEY (run_id, name) REFERENCES tasks (run_id, name) ON DELETE CASCADE
    );
    CREATE TABLE recurring_runs (
        id TEXT PRIMARY KEY,
        experiment_id TEXT NOT NULL,
        display_name TEXT NOT NULL,
        description TEXT NOT NULL,
        pipeline_id TEXT NOT NULL,
        version_id TEXT NOT NULL,
        spec TEXT NOT NULL,
        parameters TEXT NOT NULL,
        pipeline_root TEXT NOT NULL,
        service_account TEXT NOT NULL,
        max_concurrency INTEGER NOT NULL,
        schedule TEXT NOT NULL,
        enabled INTEGER NOT NULL,
        no_catchup INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    );
    CREATE INDEX recurring_runs_by_time ON recurring_runs (created_at, id)
    """

MIGRATIONS: Final = (_PIPELINES, _RUNS)
"""One script per step; the database's `user_version` says how many have been applied."""
