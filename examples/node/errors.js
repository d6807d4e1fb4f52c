// What an error carries besides code and message.
import { status } from "@grpc/grpc-js";
import { definitions } from "./connect.js";

const read = (name, bytes) => definitions[name].deserialize(bytes);

/** The details of a failed call by their type: ErrorInfo, BadRequest, RetryInfo, RequestInfo. */
export function details(error) {
  const [trailer] = error.metadata?.get("grpc-status-details-bin") ?? [];
  const found = {};
  for (const { type_url: url, value } of trailer ? read("google.rpc.Status", trailer).details : []) {
    const name = url.split("/").pop();
    if (name in definitions) found[name.split(".").pop()] = read(name, value);
  }
  return found;
}

/**
 * Why a call failed: a name of kfadapter.v1.ErrorReason without its prefix, which never changes. Undefined if the
 * error is not the adapter's own, for example if the adapter is unreachable.
 */
export function reason(error) {
  const { ErrorInfo } = details(error);
  return ErrorInfo?.domain === "kfadapter" ? ErrorInfo.reason : undefined;
}

/** All that an error carries, line by line. */
export function explain(error) {
  if (!(error.code in status)) return error.message;
  const { ErrorInfo, BadRequest, RetryInfo, RequestInfo } = details(error);
  const lines = [`${status[error.code]}: ${error.details}`];
  if (ErrorInfo) lines.push(`reason: ${ErrorInfo.reason}`);
  for (const one of BadRequest?.fieldViolations ?? []) lines.push(`field ${one.field}: ${one.description}`);
  if (RetryInfo) lines.push(`retry after: ${RetryInfo.retryDelay.seconds} s`);
  if (RequestInfo) lines.push(`request id: ${RequestInfo.requestId}`);
  return lines.join("\n  ");
}
