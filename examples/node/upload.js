// Uploads a file as a stream.
import { createHash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as pause } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { within } from "./connect.js";

const CHUNK_BYTES = 256 * 1024; // up to 4 MiB are accepted

/**
 * Stores a file as a new pipeline or a new version of it. After an unknown outcome it is sent again with the same
 * request id, so that it is never stored twice.
 */
export async function upload(pipelines, path, name) {
  const { size } = await stat(path);
  const digest = createHash("sha256");
  await pipeline(createReadStream(path), digest);
  const metadata = { name, totalBytes: size, sha256: digest.digest("hex"), requestId: randomUUID() };
  for (let attempt = 1; ; attempt++) {
    try {
      return await send(pipelines, path, metadata);
    } catch (error) {
      if (error.code !== status.UNAVAILABLE || attempt === 3) throw error;
      await pause(attempt * 1000);
    }
  }
}

async function send(pipelines, path, metadata) {
  const failed = new AbortController(); // the adapter may refuse a file before it has read everything
  let stream;
  const response = new Promise((resolve, reject) => {
    const deadline = within(60 + (2 * metadata.totalBytes) / 1_000_000);
    stream = pipelines.upload(deadline, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
  response.catch(() => failed.abort());
  try {
    // Reads no faster than gRPC sends, and half-closes the stream at the end.
    await pipeline(Readable.from(messages(path, metadata)), stream, { signal: failed.signal });
  } catch (error) {
    if (!failed.signal.aborted) {
      stream.cancel();
      throw error; // the file could not be read
    }
  }
  return response;
}

async function* messages(path, metadata) {
  yield { metadata };
  let sent = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES })) {
    sent += chunk.length;
    const percent = Math.floor((100 * sent) / metadata.totalBytes);
    console.error(`sending ${sent} of ${metadata.totalBytes} bytes (${percent} %)`);
    yield { chunk };
  }
}
