// Downloads the artifacts of a run.
import { mkdir, open, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { call } from "./connect.js";
import { reason } from "./errors.js";

/** Writes the files of a run's artifacts into a folder, each named by its artifact; folders arrive as tar archives. */
export async function download(artifacts, runId, folder) {
  await mkdir(folder, { recursive: true });
  let page = { nextPageToken: "" };
  do {
    page = await call(artifacts, "list", { runId, pageToken: page.nextPageToken });
    for (const artifact of page.artifacts) {
      // An id may hold a slash; ids and names come from pods, so they name files only by their last part.
      const path = join(folder, `${basename(artifact.artifactId)}-${basename(artifact.name)}`);
      try {
        console.log(`${artifact.name} ${await read(artifacts, artifact, path)} bytes ${path}`);
      } catch (error) {
        if (reason(error) !== "ARTIFACT_NOT_READABLE") throw error;
        console.error(`${artifact.name}: ${error.details}`); // metrics, for example, have no file
      }
    }
  } while (page.nextPageToken);
}

/** Writes an artifact to a file. A broken stream is continued at the byte where it broke; an archive starts again. */
async function read(artifacts, { runId, artifactId }, path) {
  const part = `${path}.part`;
  const file = await open(part, "w");
  let offset = 0;
  try {
    for (let attempt = 1; ; attempt++) {
      const stream = artifacts.read({ runId, artifactId, offset });
      let archive = false;
      try {
        for await (const { content, chunk } of stream) {
          if (content) {
            archive = content.isDirectory;
          } else {
            await file.write(chunk, 0, chunk.length, offset);
            offset += chunk.length;
          }
        }
        await rename(part, path);
        return offset;
      } catch (error) {
        if (error.code !== status.UNAVAILABLE || attempt === 5) throw error;
        if (archive) offset = 0;
        await pause(attempt * 200);
      } finally {
        stream.cancel();
      }
    }
  } finally {
    await file.close();
    await rm(part, { force: true }); // if it was not renamed
  }
}
