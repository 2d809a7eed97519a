# Images without shell or package manager: libraries, the server, the CLI and the bundled model; run as uid 10001, read-only.
#   cpu    docker build --target cpu -t image-variations --build-arg TORCH_INDEX_URL=(PyTorch's index of CPU wheels) .
#   cuda   docker build --target cuda -t image-variations-cuda .
#   fetch  docker build --target fetch -t image-variations-fetch ... : downloads a published model and converts it
# Every flag is also a variable IMAGE_VARIATIONS_*; `docker run image-variations --help` lists them. Without TLS the server
# serves only when it is told to, because a container's port is no loopback: -e IMAGE_VARIATIONS_PLAINTEXT=anywhere
# Labels say what it was made of: --build-arg VERSION=..., REVISION=... (of git), SOURCE=... (the sources' address).
# tools/build_image.sh builds them without a registry.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS sources
# The index that LibTorch's CPU wheel comes from, as for tools/setup.sh; empty: pip's own, whose wheel has CUDA.
ARG TORCH_INDEX_URL=
ARG JOBS=2
WORKDIR /src
COPY tools/setup.sh tools/setup.sh
COPY tools/requirements tools/requirements

FROM sources AS build-cpu
RUN tools/setup.sh release
COPY . .
RUN deploy/build_runtime.sh release .venv /runtime

FROM sources AS build-cuda
RUN tools/setup.sh cuda
COPY . .
RUN deploy/build_runtime.sh cuda .venv-cuda /runtime

FROM scratch AS runtime
ENV PATH=/usr/bin \
    IMAGE_VARIATIONS_MODEL=/usr/share/image-variations/model \
    IMAGE_VARIATIONS_LISTEN=0.0.0.0:50051 \
    IMAGE_VARIATIONS_METRICS_LISTEN=0.0.0.0:9464 \
    IMAGE_VARIATIONS_HEALTH_LISTEN=0.0.0.0:50052 \
    OMP_WAIT_POLICY=passive \
    GOMP_SPINCOUNT=1000
USER 10001:10001
EXPOSE 50051 50052 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s CMD ["image-variations", "health", "--server", "127.0.0.1:50052"]
ENTRYPOINT ["image-variations-server"]
ARG VERSION=
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="image-variations" \
      org.opencontainers.image.description="Variations of a picture with Stable Diffusion, as a gRPC service" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

FROM runtime AS cuda
# What NVIDIA's container runtime mounts of the driver.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /runtime/system /
COPY --from=build-cuda /runtime/libtorch /
COPY --from=build-cuda /runtime/programs /

FROM sources AS fetch
RUN tools/setup.sh fetch && rm -rf /var/lib/apt/lists/*
COPY tools/fetch_model.sh tools/convert_checkpoint.py tools/ldm_names.py tools/published_configs.py tools/
ENV HOME=/tmp
USER 10001:10001
ENTRYPOINT ["/src/tools/fetch_model.sh"]
ARG VERSION=
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="image-variations-fetch" \
      org.opencontainers.image.description="Downloads a published model and converts it for image-variations" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

# Last, so that it is what is built when no target is named.
FROM runtime AS cpu
COPY --from=build-cpu /runtime/system /
COPY --from=build-cpu /runtime/libtorch /
COPY --from=build-cpu /runtime/programs /
