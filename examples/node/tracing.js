// Traces: the context that each call passes on, and the export of spans.
import { context, propagation, SpanStatusCode, trace } from "@opentelemetry/api";
import { InterceptingCall } from "@grpc/grpc-js";

/** Sends the context of the current span as `traceparent`. Does nothing unless `traced` set a provider. */
export function passOn(options, next) {
  return new InterceptingCall(next(options), {
    start(metadata, listener, start) {
      propagation.inject(context.active(), metadata, { set: (to, key, value) => to.set(key, value) });
      start(metadata, listener);
    },
  });
}

/** Runs a command in a span, which is exported if OTEL_EXPORTER_OTLP_ENDPOINT is set. */
export async function traced(name, command, env = process.env) {
  if (!env.OTEL_EXPORTER_OTLP_ENDPOINT) return command();
  const { BatchSpanProcessor, NodeTracerProvider } = await import("@opentelemetry/sdk-trace-node");
  const { OTLPTraceExporter } = await import("@opentelemetry/exporter-trace-otlp-grpc");
  const { W3CTraceContextPropagator } = await import("@opentelemetry/core");
  const { detectResources, envDetector } = await import("@opentelemetry/resources");
  const provider = new NodeTracerProvider({
    resource: detectResources({ detectors: [envDetector] }), // OTEL_SERVICE_NAME
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter({ timeoutMillis: 5000 }))],
  });
  provider.register({ propagator: new W3CTraceContextPropagator() });
  try {
    return await trace.getTracer("kfadapter-node").startActiveSpan(name, async (span) => {
      try {
        return await command();
      } catch (error) {
        span.setStatus({ code: SpanStatusCode.ERROR });
        throw error;
      } finally {
        span.end();
      }
    });
  } finally {
    await provider.shutdown().catch(() => {}); // without a collector, the trace is lost
  }
}
