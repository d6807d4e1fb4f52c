# The adapter as a container: docs/deploy.md explains how to run it. scripts/check-container builds and runs it without a
# container engine.
#
# The tag names one release of Python on one Debian. A tag can be moved; to hold the image itself, pin its digest:
#   docker buildx imagetools inspect python:3.11.14-slim-bookworm
#   docker build --build-arg PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:... .
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1
# embedded adds the embedded KFP and kfp, for try-outs.
ARG PACKAGES=server
WORKDIR /opt/source
COPY requirements/build.txt requirements/server.txt requirements/embedded.txt requirements/
# What builds stays in /opt/build. Every package is the one of the lock, by its hash, and comes as a wheel; only KFP's
# client is published as source, which is plain Python. So nothing is compiled.
RUN python -m venv /opt/build && \
    /opt/build/bin/python -m pip install --require-hashes --only-binary :all: -r requirements/build.txt
RUN /opt/build/bin/python -m pip wheel --require-hashes --only-binary :all: --no-binary kfp-server-api \
      --no-build-isolation --use-pep517 --wheel-dir /opt/dist -r "requirements/$PACKAGES.txt"
# The source comes last: it changes more often than the packages. Git is not copied, so the version is an argument:
#   docker build --build-arg VERSION="$(.venv/bin/hatchling version)" .
ARG VERSION=
COPY pyproject.toml README.md LICENSE ./
COPY src src
# What runs has no pip, as nothing is to be installed there.
RUN SETUPTOOLS_SCM_PRETEND_VERSION="${VERSION}" \
      /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /opt/dist . && \
    python -m venv --without-pip /opt/kfadapter && \
    /opt/build/bin/python -m pip --python /opt/kfadapter/bin/python install --no-deps --no-index /opt/dist/*.whl && \
    mkdir /opt/uploads

# Nothing runs in this stage, so nothing is in it but Python's image and what is copied here.
FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="kfadapter-grpc" \
      org.opencontainers.image.description="A small, typed, dependable gRPC service in front of Kubeflow Pipelines"
COPY --from=builder /opt/kfadapter /opt/kfadapter
# The only place that is written to: uploads on their way, which are gone when they have arrived.
COPY --from=builder --chown=10001:10001 /opt/uploads /var/lib/kfadapter/uploads
VOLUME ["/var/lib/kfadapter/uploads"]
# A container is reached from outside, hence all interfaces. The adapter refuses to start there without a certificate
# (KFADAPTER_TLS_CERTIFICATE, KFADAPTER_TLS_KEY), unless KFADAPTER_INSECURE_LISTEN=true declares the network
# trusted, which the operator decides, not this file. HEALTHCHECK uses health without TLS, inside the container.
ENV PATH=/opt/kfadapter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    KFADAPTER_LISTEN=0.0.0.0:50051 \
    KFADAPTER_HEALTH_LISTEN=127.0.0.1:50052 \
    KFADAPTER_METRICS_LISTEN=0.0.0.0:9090 \
    KFADAPTER_LOG_FORMAT=json \
    KFADAPTER_UPLOAD_DIR=/var/lib/kfadapter/uploads
# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 10001:10001
EXPOSE 50051 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 \
  CMD ["kfadapter", "--target", "127.0.0.1:50052", "health"]
ENTRYPOINT ["kfadapter"]
CMD ["serve"]
