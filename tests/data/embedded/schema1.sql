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
INSERT INTO pipelines VALUES ('p', 'Old', 'old', 'Old', '', 1700000000, '{}');
INSERT INTO versions VALUES ('v', 'p', '1', '1', '1', '', '', 1700000000, '{}');
INSERT INTO specs VALUES ('v', '{"pipelineInfo":{"name":"old"},"root":{"dag":{}},"schemaVersion":"2.1.0"}');
PRAGMA user_version = 1;
