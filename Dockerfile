# Both images, each with one for development. What uv.lock pins is in /opt/pyairtable, our own wheels are in /opt/mesh: two
# layers, of which a change of ours replaces the small one. pip's settings are a secret, so that no layer holds them.
#
#   docker build --target services --tag ghcr.io/pyairtable/services:0.1.0 .
#   docker build --target operator --tag ghcr.io/pyairtable/operator:0.1.0 .
ARG BASE_IMAGE=python:3.13-slim

FROM $BASE_IMAGE AS builder
ARG UV_VERSION=0.13.9
ARG HATCHLING_VERSION=1.33.0
ENV PATH=/opt/tools/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN mkdir -p /var/log/apt \
    && apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends binutils >/dev/null \
    && rm -rf /var/lib/apt/lists/*
# Symbols for debuggers are a third of the libraries' size; some bring their tests, and cel-expr-python its build tree
# and extensions, which the modelling language does not have.
ENV SLIM="find /opt/pyairtable -name '*.so*' -type f -exec strip --strip-unneeded {} + \
    && find /opt/pyairtable -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.c' -o -name '*.h' \) -delete \
    && find /opt/pyairtable -type d -name tests -prune -exec rm -r {} + \
    && cd /opt/pyairtable/lib/python3*/site-packages && rm -rf bazel-project cel_expr_python/ext"
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/pyairtable \
    && python3 -m venv /opt/tools \
    && pip install --quiet uv==$UV_VERSION hatchling==$HATCHLING_VERSION

FROM builder AS locked
COPY pyproject.toml uv.lock ./
COPY protos/pyproject.toml protos/
COPY services/pyproject.toml services/
COPY operators/pyproject.toml operators/
COPY laptop/pyproject.toml laptop/

FROM locked AS services-libraries
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    uv export --quiet --frozen --no-dev --no-emit-workspace --output-file requirements.txt \
        --package pyairtable-mesh --extra postgresql --extra telemetry-official \
    && pip --python /opt/pyairtable/bin/python install --quiet --require-hashes -r requirements.txt \
    && sh -c "$SLIM"

FROM locked AS operator-libraries
# xds-protos ships older copies of files that belong to two other packages; theirs must be the ones that stay.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    uv export --quiet --frozen --no-dev --no-emit-workspace --output-file requirements.txt \
        --package pyairtable-operator --all-extras \
    && pip --python /opt/pyairtable/bin/python install --quiet --require-hashes -r requirements.txt \
    && pip --python /opt/pyairtable/bin/python install --quiet --no-deps --force-reinstall \
        $(grep -oE '^(googleapis-common-protos|opentelemetry-proto)==[^ ]+' requirements.txt) \
    && sh -c "$SLIM"

FROM builder AS wheels
COPY protos protos
COPY services services
RUN pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir /wheels ./protos ./services

FROM wheels AS services-wheels
RUN pip --python /opt/pyairtable/bin/python install --quiet --no-deps --no-index --target /opt/mesh /wheels/*.whl

FROM wheels AS operator-wheels
COPY operators operators
RUN pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir /wheels ./operators \
    && pip --python /opt/pyairtable/bin/python install --quiet --no-deps --no-index --target /opt/mesh /wheels/*.whl

FROM builder AS reloader
ARG WATCHFILES_VERSION=1.3.0
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip --python /opt/pyairtable/bin/python install --quiet --target /opt/reloader watchfiles==$WATCHFILES_VERSION

# Nothing to install with, and nobody who could write. USER, because the number below has no name in /etc/passwd.
FROM $BASE_IMAGE AS runtime
ENV PATH=/opt/pyairtable/bin:$PATH PYTHONPATH=/opt/mesh PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 \
    USER=pyairtable HOME=/tmp
WORKDIR /var/lib/pyairtable
RUN rm -rf "$(python3 -c 'import pathlib, pip; print(pathlib.Path(pip.__file__).parent)')" \
    && chown 65532:65532 .

FROM runtime AS services-files
COPY --from=services-libraries /opt/pyairtable /opt/pyairtable
COPY --from=services-wheels /opt/mesh /opt/mesh
# Every service is loaded once: it fails here rather than in a cluster, and leaves Python's own modules compiled.
RUN python -c 'import importlib; from pyairtable_mesh import __main__ as main; \
    [importlib.import_module(f"pyairtable_mesh.{name}.app") for name in main.names()]'

# The two `-dev` images are for `skaffold dev`: what is synchronised into /opt/mesh restarts the process.
FROM services-files AS services-dev
COPY --from=reloader /opt/reloader /opt/reloader
RUN chown -R 65532:65532 /opt/mesh
ENV PYTHONPATH=/opt/mesh:/opt/reloader PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["sh", "-c", "exec python -m watchfiles --filter python \"python -m pyairtable_mesh $*\" /opt/mesh", "services"]

FROM runtime AS operator-files
COPY --from=operator-libraries /opt/pyairtable /opt/pyairtable
COPY --from=operator-wheels /opt/mesh /opt/mesh
RUN python -c 'import pyairtable_operator.__main__'

FROM operator-files AS operator-dev
COPY --from=reloader /opt/reloader /opt/reloader
RUN chown -R 65532:65532 /opt/mesh
ENV PYTHONPATH=/opt/mesh:/opt/reloader PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["python", "-m", "watchfiles", "--filter", "python", "python -m pyairtable_operator", "/opt/mesh"]

FROM operator-files AS operator
USER 65532:65532
EXPOSE 18000
ENTRYPOINT ["python", "-m", "pyairtable_operator"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="PyAirtable Mesh: operator" \
    org.opencontainers.image.description="Discovers gRPC services and steers their traffic over xDS" \
    org.opencontainers.image.source="https://github.com/pyairtable/pyairtable-mesh" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"

FROM services-files AS services
USER 65532:65532
EXPOSE 50051 50053 9464
ENTRYPOINT ["python", "-m", "pyairtable_mesh"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="PyAirtable Mesh: services" \
    org.opencontainers.image.description="The platform's services, one process each: name it as the argument" \
    org.opencontainers.image.source="https://github.com/pyairtable/pyairtable-mesh" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"
