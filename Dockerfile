# The gateway as a container. Build: make image. Run it with a read-only root; only /var/lib/interlock is written
# (and /tmp while a model is tried out at registration):
#
#   docker run --read-only --tmpfs /tmp -v interlock:/var/lib/interlock -p 8001:8001 -p 8002:8002 interlock
#   docker exec CONTAINER interlock status
#
# tests/tooling/test_image.py runs the build stage's steps in an empty environment, without an engine.

FROM python:3.11-slim AS build
WORKDIR /src
COPY requirements-build.lock requirements-runtime.lock ./
# The locked packages, wheels only: nothing is compiled, and a package without a wheel fails here.
RUN python -m venv /opt/interlock
RUN /opt/interlock/bin/python -m pip install -qq --only-binary :all: --require-hashes -r requirements-runtime.lock
# The project itself, built by the locked build tool in an environment that stays behind.
RUN python -m venv /opt/builder
RUN /opt/builder/bin/python -m pip install -qq --only-binary :all: --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway ./gateway
COPY registry ./registry
RUN /opt/builder/bin/python -m pip wheel -qq --no-deps --no-build-isolation -w /opt/wheel .
RUN /opt/interlock/bin/python -m pip install -qq --no-deps --no-index --find-links /opt/wheel interlock

FROM python:3.11-slim
# The home belongs to group 0, so that a platform may choose any user id (docker run --user 1234567:0, OpenShift).
RUN useradd --system --uid 10001 --gid 0 --home-dir /var/lib/interlock --create-home --shell /usr/sbin/nologin interlock \
    && chmod 0770 /var/lib/interlock
COPY --from=build /opt/interlock /opt/interlock
ENV PATH=/opt/interlock/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    INTERLOCK_HOME=/var/lib/interlock
USER 10001
VOLUME /var/lib/interlock
WORKDIR /var/lib/interlock
EXPOSE 8001 8002
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8002/health/live', timeout=2)"]
ENTRYPOINT ["interlock"]
CMD ["serve"]
