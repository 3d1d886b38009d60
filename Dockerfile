# The image contains a static program, the licences of everything that it links,
# public CA certificates and an empty directory for --storage.path. Build it with
# `docker build .`.

FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm@sha256:a688600ca24f8a4d3ca77f95b0dd40704a9fc787c826660eb7ba0b641b8b175d AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION REVISION BRANCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -tags netgo,osusergo -ldflags "-s -w \
      -X github.com/prometheus/common/version.Version=${VERSION:-$(cat VERSION)} \
      -X github.com/prometheus/common/version.Revision=$REVISION \
      -X github.com/prometheus/common/version.Branch=$BRANCH" \
      -o /out/mde_exporter . \
    && tools/notices $TARGETOS >/out/THIRD_PARTY_NOTICES \
    && mkdir /out/storage

FROM scratch
ARG VERSION REVISION
LABEL org.opencontainers.image.title="mde_exporter" \
      org.opencontainers.image.description="Prometheus exporter for Microsoft Defender for Endpoint" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/mde-exporter/mde_exporter" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/mde_exporter /bin/mde_exporter
COPY --from=build /src/LICENSE /out/THIRD_PARTY_NOTICES /usr/share/doc/mde_exporter/
# A volume mounted here for --storage.path inherits the owner.
COPY --from=build --chown=65534:65534 /out/storage /var/lib/mde_exporter
# The user nobody, as a number, so that Kubernetes can check that it is not root.
USER 65534:65534
EXPOSE 10058
ENTRYPOINT ["/bin/mde_exporter"]
