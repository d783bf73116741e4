ARG BASE=python:3.11-slim
# The image of a dispatcher. BASE may be any image with Python 3.11, which the lock is made for; what
# runs is copied whole, so the second stage uses no pip, compiler or shell.

FROM ${BASE} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN ["python", "-m", "venv", "/opt/thorn-stream"]
# dependencies first: they change less often than the code
COPY requirements/image.lock requirements/
RUN ["/opt/thorn-stream/bin/pip", "install", "--require-hashes", "--only-binary", ":all:", "-r", "requirements/image.lock"]
COPY pyproject.toml README.md LICENSE ./
COPY thorn_stream thorn_stream
RUN python -m pip wheel --no-deps --wheel-dir dist . \
    && /opt/thorn-stream/bin/pip install --no-deps --no-index --find-links dist thorn-stream \
    && /opt/thorn-stream/bin/python -m compileall -q /opt/thorn-stream/lib

FROM ${BASE}
LABEL org.opencontainers.image.title="thorn-stream" \
      org.opencontainers.image.description="Kafka to webhooks: a dispatcher" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="docs/operations.md"
COPY --from=build /opt/thorn-stream /opt/thorn-stream
ENV PATH=/opt/thorn-stream/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# settings: config/thorn.yaml and config/subscribers/ are read from here, or THORN_ variables
WORKDIR /etc/thorn-stream
EXPOSE 9464
# no HEALTHCHECK: whoever runs it asks /livez and /readyz
ENTRYPOINT ["thorn-stream"]
CMD ["run"]
# a number, so that Kubernetes can see that it is not root
USER 65532:65532
