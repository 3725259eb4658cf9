# One image for each service and one for the command: docker build --target router|encoder|caption|search|http|cli .
# docs/images.md tells sizes, arguments and how they are run; `make images` builds them all.

# Anything with Python 3.11 or newer as `python3`, with its venv module and the certificates of public authorities.
ARG BASE=docker.io/library/python:3.11.14-slim-bookworm

# --- What builds: the wheel, once for all images.
FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_PROGRESS_BAR=off
WORKDIR /src
COPY deploy/images deploy/images
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/build \
    && /opt/build/bin/pip install --quiet --no-compile --require-hashes --requirement deploy/images/build.lock
# .dockerignore lists what that is.
COPY . .
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /dist .

# --- One environment for each image, with its bill of materials. The command's packages are in all of them.
FROM build AS cli-environment
RUN --mount=type=cache,target=/root/.cache/pip deploy/images/install cli

FROM cli-environment AS router-environment
RUN --mount=type=cache,target=/root/.cache/pip deploy/images/install router

FROM cli-environment AS search-environment
RUN --mount=type=cache,target=/root/.cache/pip deploy/images/install search

FROM cli-environment AS http-environment
RUN --mount=type=cache,target=/root/.cache/pip deploy/images/install http

FROM cli-environment AS encoder-environment
# cpu: torch as TORCH_INDEX has it, or as locked where none is given. gpu: as locked, which has to know CUDA.
ARG ACCELERATOR=cpu
# Address of a package index with builds of torch for this machine alone, as PyTorch's installation page names them.
ARG TORCH_INDEX=
# Repository of the Hugging Face hub whose weights the image is to carry; empty: none.
ARG WEIGHTS=
RUN --mount=type=cache,target=/root/.cache/pip \
    ACCELERATOR="${ACCELERATOR}" TORCH_INDEX="${TORCH_INDEX}" WEIGHTS="${WEIGHTS}" deploy/images/install encoder

FROM cli-environment AS caption-environment
ARG ACCELERATOR=cpu
ARG TORCH_INDEX=
ARG WEIGHTS=
RUN --mount=type=cache,target=/root/.cache/pip \
    ACCELERATOR="${ACCELERATOR}" TORCH_INDEX="${TORCH_INDEX}" WEIGHTS="${WEIGHTS}" deploy/images/install caption

# --- What runs: the base, one environment, nobody's user.
FROM ${BASE} AS runtime
ARG VERSION=0.1.0
# PYTHONDONTWRITEBYTECODE: the root is read-only, and everything is compiled already. HOME: the one folder to write to.
ENV PATH=/opt/lensmesh/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.description="Images as vectors, captions and search, behind typed gRPC contracts."
WORKDIR /tmp
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
# The services drain on it as process 1: no init is needed.
STOPSIGNAL SIGTERM

FROM runtime AS models
# PASSIVE: two model services on the same cores would otherwise spin against each other while they wait.
# HF_HOME: where weights are looked for, and fetched to if it is a volume that can be written.
ENV OMP_WAIT_POLICY=PASSIVE HF_HOME=/weights NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM runtime AS router
LABEL org.opencontainers.image.title="lensmesh-router"
ENV LENSMESH_ROUTER_LISTEN=0.0.0.0:50050 LENSMESH_ROUTER_HEALTH_LISTEN=0.0.0.0:50059 \
    LENSMESH_ROUTER_METRICS_LISTEN=0.0.0.0:9464
COPY --from=router-environment /opt/lensmesh /opt/lensmesh
EXPOSE 50050 50059 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-m", "lensmesh_chassis.process.probe", "127.0.0.1:50059"]
ENTRYPOINT ["python", "-m", "router_svc"]

FROM runtime AS search
LABEL org.opencontainers.image.title="lensmesh-search"
ENV LENSMESH_SEARCH_LISTEN=0.0.0.0:50053 LENSMESH_SEARCH_HEALTH_LISTEN=0.0.0.0:50059 \
    LENSMESH_SEARCH_METRICS_LISTEN=0.0.0.0:9464
COPY --from=search-environment /opt/lensmesh /opt/lensmesh
EXPOSE 50053 50059 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-m", "lensmesh_chassis.process.probe", "127.0.0.1:50059"]
ENTRYPOINT ["python", "-m", "search_svc"]

FROM runtime AS http
LABEL org.opencontainers.image.title="lensmesh-http"
ENV LENSMESH_HTTP_LISTEN=0.0.0.0:50054 LENSMESH_HTTP_HEALTH_LISTEN=0.0.0.0:50059 \
    LENSMESH_HTTP_METRICS_LISTEN=0.0.0.0:9464
COPY --from=http-environment /opt/lensmesh /opt/lensmesh
EXPOSE 50054 50059 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-m", "lensmesh_chassis.process.probe", "127.0.0.1:50059"]
ENTRYPOINT ["python", "-m", "http_svc"]

FROM models AS encoder
LABEL org.opencontainers.image.title="lensmesh-encoder"
ENV LENSMESH_ENCODER_LISTEN=0.0.0.0:50051 LENSMESH_ENCODER_HEALTH_LISTEN=0.0.0.0:50059 \
    LENSMESH_ENCODER_METRICS_LISTEN=0.0.0.0:9464
COPY --from=encoder-environment /opt/lensmesh /opt/lensmesh
COPY --from=encoder-environment --chown=10001:10001 /weights /weights
# For a volume of LENSMESH_ENCODER_STATE_DIR, which takes its owner from here.
COPY --from=encoder-environment --chown=10001:10001 /state /state
VOLUME /weights
EXPOSE 50051 50059 9464
# Ten minutes to read, and perhaps to fetch, weights.
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s CMD ["python", "-m", "lensmesh_chassis.process.probe", "127.0.0.1:50059"]
ENTRYPOINT ["python", "-m", "encoder_svc"]

FROM models AS caption
LABEL org.opencontainers.image.title="lensmesh-caption"
ENV LENSMESH_CAPTION_LISTEN=0.0.0.0:50052 LENSMESH_CAPTION_HEALTH_LISTEN=0.0.0.0:50059 \
    LENSMESH_CAPTION_METRICS_LISTEN=0.0.0.0:9464
COPY --from=caption-environment /opt/lensmesh /opt/lensmesh
COPY --from=caption-environment --chown=10001:10001 /weights /weights
# For a volume of LENSMESH_CAPTION_STATE_DIR, which takes its owner from here.
COPY --from=caption-environment --chown=10001:10001 /state /state
VOLUME /weights
EXPOSE 50052 50059 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s CMD ["python", "-m", "lensmesh_chassis.process.probe", "127.0.0.1:50059"]
ENTRYPOINT ["python", "-m", "caption_svc"]

FROM runtime AS cli
LABEL org.opencontainers.image.title="lensmesh-cli"
COPY --from=cli-environment /opt/lensmesh /opt/lensmesh
HEALTHCHECK NONE
ENTRYPOINT ["lensmesh"]
