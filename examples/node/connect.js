// The connection: the contract's services, TLS, token, retries and keepalive.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { passOn } from "./tracing.js";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const files = ["kfadapter/v1/pipeline.proto", "kfadapter/v1/run.proto", "kfadapter/v1/artifact.proto", "google/rpc/details.proto"];

// Read when the program starts: nothing is generated. int64 arrive as decimal strings, enums by their names.
export const definitions = loadSync(files, {
  includeDirs: [here("../../protos"), here(".")],
  longs: String,
  enums: String,
  oneofs: true,
  defaults: true,
});
const { PipelineService, RunService, ArtifactService } = grpc.loadPackageDefinition(definitions).kfadapter.v1;

// Spreads calls over all adapters behind a name, and repeats reads while none is reachable. Writes are repeated
// with a request id (upload.js, main.js). A watch continues by itself (watch.js).
const serviceConfig = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [
    {
      name: [
        { service: "kfadapter.v1.PipelineService", method: "Get" },
        { service: "kfadapter.v1.RunService", method: "Get" },
        { service: "kfadapter.v1.ArtifactService" },
      ],
      retryPolicy: {
        maxAttempts: 5,
        initialBackoff: "0.1s",
        maxBackoff: "1s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
};

const options = {
  "grpc.service_config": JSON.stringify(serviceConfig),
  // A watch has no deadline: pings detect a dead connection. The adapter allows one every 10 s.
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 20_000,
};

/** Connects by the environment variables that the kfadapter command reads, too. */
export function connect(env = process.env) {
  const target = env.KFADAPTER_TARGET || "localhost:50051";
  const share = { ...options, interceptors: [passOn] };
  if (env.KFADAPTER_SERVER_NAME) share["grpc.ssl_target_name_override"] = env.KFADAPTER_SERVER_NAME;
  const pipelines = new PipelineService(target, credentials(env), share);
  const same = { channelOverride: pipelines.getChannel(), interceptors: [passOn] };
  return {
    pipelines,
    runs: new RunService(target, null, same),
    artifacts: new ArtifactService(target, null, same),
    close: () => pipelines.close(),
  };
}

/** TLS if a CA or KFADAPTER_TLS is set, with the client's certificate and token if there are any. */
function credentials(env) {
  const file = (name) => (env[name] ? readFileSync(env[name]) : null);
  const tokenFile = env.KFADAPTER_CLIENT_TOKEN_FILE;
  if (!env.KFADAPTER_CA && !env.KFADAPTER_TLS) {
    if (tokenFile) throw new Error("a token is sent with TLS only: set KFADAPTER_CA");
    return grpc.credentials.createInsecure();
  }
  const tls = grpc.credentials.createSsl(
    file("KFADAPTER_CA"), // otherwise the authorities that Node brings
    file("KFADAPTER_CLIENT_KEY"),
    file("KFADAPTER_CLIENT_CERTIFICATE"),
  );
  if (!tokenFile) return tls;
  const token = grpc.credentials.createFromMetadataGenerator((_, done) => {
    const metadata = new grpc.Metadata(); // read for each call, because tokens are renewed
    metadata.set("authorization", `Bearer ${readFileSync(tokenFile, "utf8").trim()}`);
    done(null, metadata);
  });
  return grpc.credentials.combineChannelCredentials(tls, token);
}

/** The deadline of a call, this many seconds from now. */
export const within = (seconds) => ({ deadline: Date.now() + seconds * 1000 });

/** A unary call as a promise. */
export function call(client, method, request, seconds = 30) {
  return new Promise((resolve, reject) => {
    client[method](request, within(seconds), (error, response) => (error ? reject(error) : resolve(response)));
  });
}
