// Watches a run.
import { setTimeout as pause } from "node:timers/promises";
import { status } from "@grpc/grpc-js";

const PASSING = new Set([status.UNAVAILABLE, status.RESOURCE_EXHAUSTED]); // restarts, broken connections, overload

/**
 * Yields each state of a run until it has finished. When the stream breaks it reconnects with the etag that it holds,
 * so that no state is reported twice or lost.
 */
export async function* watch(runs, runId) {
  const knownEtags = {};
  for (let failures = 0; ; failures++) {
    const stream = runs.watch({ runs: { runIds: [runId] }, knownEtags });
    try {
      for await (const event of stream) {
        failures = 0;
        if (event.changed) {
          knownEtags[runId] = event.changed.run.etag;
          yield event.changed.run;
        } else if (event.gone) {
          throw new Error(`run ${runId} does not exist`);
        } else if (event.heartbeat && !event.heartbeat.kfpReachable) {
          console.error("KFP is unreachable");
        }
      }
      return; // finished
    } catch (error) {
      if (!PASSING.has(error.code) || failures === 10) throw error;
      console.error(`watching again: ${error.details}`);
      await pause(Math.min(5000, 200 * 2 ** failures) * (0.5 + Math.random() / 2));
    } finally {
      stream.cancel();
    }
  }
}
