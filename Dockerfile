# The server and the CLI with the bundled model; another model is mounted and named:
#   docker run -p 127.0.0.1:50051:50051 -e IMAGE_VARIATIONS_PLAINTEXT=anywhere image-variations
#   docker run -p 50051:50051 -v /keys:/keys:ro -e IMAGE_VARIATIONS_TLS_CERT=/keys/server.pem -e IMAGE_VARIATIONS_TLS_KEY=/keys/server.key \
#     -v /models/sd-variations:/model:ro -e IMAGE_VARIATIONS_MODEL=/model image-variations
# Without TLS it serves only when it is told to, because a container's port is no loopback.
# Every flag is also a variable IMAGE_VARIATIONS_*; `docker run image-variations --help` lists them.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS builder
# The wheel index that LibTorch comes from, as for tools/setup.sh; empty: pip's own.
ARG TORCH_INDEX_URL=
WORKDIR /src
COPY tools/setup.sh tools/setup.sh
COPY tools/requirements tools/requirements
RUN tools/setup.sh release
COPY . .
RUN cmake --preset release \
    && cmake --build --preset release --target image-variations-server image-variations \
    && deploy/collect_runtime.sh /runtime build/release/bin/image-variations-server build/release/bin/image-variations

FROM ${BASE}
# ldconfig runs after the packages, and finds LibTorch's libraries through the file that came with them.
COPY --from=builder /runtime /
RUN apt-get update -qq \
    && xargs apt-get install -y -qq --no-install-recommends </packages \
    && rm -rf /var/lib/apt/lists/* /packages \
    && ldconfig
COPY demo/model /usr/share/image-variations/model
ENV IMAGE_VARIATIONS_MODEL=/usr/share/image-variations/model \
    IMAGE_VARIATIONS_LISTEN=0.0.0.0:50051 \
    IMAGE_VARIATIONS_METRICS_LISTEN=0.0.0.0:9464 \
    IMAGE_VARIATIONS_HEALTH_LISTEN=0.0.0.0:50052 \
    OMP_WAIT_POLICY=passive
USER 10001:10001
EXPOSE 50051 50052 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s CMD ["image-variations", "health", "--server", "127.0.0.1:50052"]
ENTRYPOINT ["image-variations-server"]
