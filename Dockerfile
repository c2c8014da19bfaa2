# The server in a container: docs/serve.md says how to build and run it.
FROM python:3.13-slim AS builder
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
RUN --mount=type=bind,from=builder,source=/wheels,target=/wheels \
    pip install --no-cache-dir --only-binary=:all: "$(echo /wheels/*.whl)[serve,video,mqtt]" \
 && useradd --create-home --uid 10001 crowd
USER 10001
WORKDIR /home/crowd
EXPOSE 8000
# It asks the port that CMD serves on, without TLS; with another one, give docker run a --health-cmd of its own.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["crowd"]
CMD ["serve", "--host", "0.0.0.0"]
