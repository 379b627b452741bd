# One file, two images: `sidecar` and `operator`.
#   docker build --target sidecar -t wsgi-sidecar .      (or `make images`, which needs no engine)
# Each gets a virtualenv of exactly what uv.lock says for its member, and nothing that built it: no compiler, no cache.

FROM python:3.12-slim AS build
ENV UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1 UV_PROJECT_ENVIRONMENT=/opt/wsgi
RUN pip install --no-cache-dir --root-user-action=ignore uv==0.13.8
WORKDIR /src
COPY pyproject.toml uv.lock LICENSE ./
COPY contract/pyproject.toml contract/
COPY tuning/pyproject.toml tuning/
COPY sidecar/pyproject.toml sidecar/
COPY operator/pyproject.toml operator/

# What others wrote comes first and stays in the builder's cache; what we wrote comes on top.
FROM build AS build-sidecar
RUN uv sync --frozen --no-dev --python "$(command -v python3)" --package wsgi-sidecar --no-install-workspace
COPY contract contract
COPY tuning tuning
COPY sidecar sidecar
RUN uv sync --frozen --no-dev --no-editable --python "$(command -v python3)" --package wsgi-sidecar

FROM build AS build-operator
RUN uv sync --frozen --no-dev --python "$(command -v python3)" --package wsgi-operator --no-install-workspace
COPY contract contract
COPY tuning tuning
COPY operator operator
RUN uv sync --frozen --no-dev --no-editable --python "$(command -v python3)" --package wsgi-operator

# PYTHONSAFEPATH: a folder called `operator` beside the working directory must never hide the standard library's module.
# LOGNAME: 65532 has no entry in /etc/passwd, and kopf asks who it is.
FROM python:3.12-slim AS runtime
ENV PATH=/opt/wsgi/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 LOGNAME=wsgi HOME=/tmp
WORKDIR /
USER 65532:65532
LABEL org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="wsgi-operator"

FROM runtime AS sidecar
LABEL org.opencontainers.image.title="wsgi-sidecar" \
      org.opencontainers.image.description="Watches one WSGI server from outside, explains and heals it"
COPY --from=build-sidecar /opt/wsgi /opt/wsgi
ENTRYPOINT ["wsgi-sidecar"]

FROM runtime AS operator
LABEL org.opencontainers.image.title="wsgi-operator" \
      org.opencontainers.image.description="Sizes and heals WSGI servers in Kubernetes from WSGIServer resources"
COPY --from=build-operator /opt/wsgi /opt/wsgi
ENTRYPOINT ["wsgi-operator"]
