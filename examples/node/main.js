// A client of kfadapter in Node.js: get, upload, run, watch, download.
import { randomUUID } from "node:crypto";
import { download } from "./artifacts.js";
import { call, connect } from "./connect.js";
import { explain } from "./errors.js";
import { traced } from "./tracing.js";
import { upload } from "./upload.js";
import { watch } from "./watch.js";

const USAGE = `usage:
  node main.js get PIPELINE
  node main.js upload FILE PIPELINE
  node main.js run PIPELINE [PARAMETERS]     parameters as JSON: '{"count": 7}'
  node main.js watch RUN_ID
  node main.js download RUN_ID FOLDER`;

const commands = {
  async get({ pipelines }, name) {
    const pipeline = await call(pipelines, "get", { name, view: "VIEW_FULL" });
    console.log(`${pipeline.name} ${pipeline.pipelineId}, versions: ${pipeline.versionCount}`);
    for (const { name, type, defaultValue } of pipeline.latestVersion?.spec?.parameters ?? []) {
      console.log(`  ${name} ${type} = ${JSON.stringify(fromValue(defaultValue))}`);
    }
  },

  async upload({ pipelines }, file, name) {
    const { sha256, version, pipeline } = await upload(pipelines, file, name);
    console.log(`uploaded ${sha256} as ${version.name} of ${pipeline.name}`);
  },

  async run(clients, pipelineName, parameters = "{}") {
    const { structValue } = toValue(JSON.parse(parameters));
    const requestId = randomUUID(); // a repeated call starts no second run
    const { runId } = await call(clients.runs, "create", { pipelineName, parameters: structValue, requestId });
    await commands.watch(clients, runId);
  },

  async watch({ runs }, id) {
    for await (const { runId, state, error } of watch(runs, id)) console.log(`${runId} ${state} ${error}`);
  },

  async download({ artifacts }, runId, folder) {
    await download(artifacts, runId, folder);
  },
};

/** A JSON value as a google.protobuf.Value, which proto-loader does not convert. */
function toValue(value) {
  if (value === null) return { nullValue: "NULL_VALUE" };
  if (Array.isArray(value)) return { listValue: { values: value.map(toValue) } };
  if (typeof value !== "object") return { [`${typeof value === "boolean" ? "bool" : typeof value}Value`]: value };
  return { structValue: { fields: Object.fromEntries(Object.entries(value).map(([key, one]) => [key, toValue(one)])) } };
}

function fromValue(value) {
  const { kind } = value ?? {};
  if (kind === "listValue") return value.listValue.values.map(fromValue);
  if (kind !== "structValue") return kind === "nullValue" ? null : value?.[kind];
  return Object.fromEntries(Object.entries(value.structValue.fields).map(([key, one]) => [key, fromValue(one)]));
}

const [name, ...words] = process.argv.slice(2);
const wanted = { get: [1], upload: [2], run: [1, 2], watch: [1], download: [2] };
if (!wanted[name]?.includes(words.length)) {
  console.error(USAGE);
  process.exit(2);
}
const clients = connect();
try {
  await traced(name, () => commands[name](clients, ...words));
} catch (error) {
  console.error(explain(error));
  process.exitCode = 1;
} finally {
  clients.close();
}
