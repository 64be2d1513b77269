# docker build -t REGISTRY/aim-engine-operator:0.1.0 .      Air-gapped: --build-arg BASE=MIRROR/python:3.12-slim-bookworm
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
# Dependencies first: they change less often than the code. Only the locked versions, checked by hash, are installed.
COPY requirements-runtime.lock ./
RUN python -m venv /opt/aim-engine \
 && /opt/aim-engine/bin/pip install --no-cache-dir --no-compile --disable-pip-version-check --require-hashes -r requirements-runtime.lock \
 && /opt/aim-engine/bin/python -m compileall -q /opt/aim-engine/lib
COPY pyproject.toml README.md LICENSE ./
COPY operator ./operator
COPY recipes ./recipes
COPY crds ./crds
RUN pip wheel --no-cache-dir --disable-pip-version-check --no-deps --wheel-dir /dist . \
 && /opt/aim-engine/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-index /dist/*.whl \
 && /opt/aim-engine/bin/python -m compileall -q /opt/aim-engine/lib \
 && /opt/aim-engine/bin/pip uninstall --yes --quiet pip

FROM ${BASE}
LABEL org.opencontainers.image.title="aim-engine-operator" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/aim-engine /opt/aim-engine
ENV PATH=/opt/aim-engine/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /tmp
EXPOSE 8080
ENTRYPOINT ["aim-engine"]
CMD ["operator"]
