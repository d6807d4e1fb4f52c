"""OpenTelemetry: traces, metrics and logs over OTLP, set up from the standard variables `OTEL_*`.

Needs the extra `otel`, which is imported only if the variables switch it on. Otherwise a call pays for one `if`.
"""
