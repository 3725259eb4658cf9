#!/usr/bin/env bash
# Gathers into .wheels/ what bench/gpu.sh needs besides torch and its company: bench/gpu_wheels.sh [PYTHON_VERSION]
#
# Versions are those of requirements.lock. PYTHON_VERSION is the GPU machine's, for instance 3.12; its processor is x86-64.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:-3.12}
packages=(
  open_clip_torch ftfy wcwidth simplejpeg
  pydantic pydantic-core pydantic-settings annotated-types typing-extensions typing-inspection python-dotenv
  protobuf grpcio grpcio-health-checking grpcio-reflection grpcio-status googleapis-common-protos
  opentelemetry-api opentelemetry-sdk opentelemetry-semantic-conventions opentelemetry-proto
  opentelemetry-exporter-otlp-proto-grpc opentelemetry-exporter-otlp-proto-common
  opentelemetry-instrumentation opentelemetry-instrumentation-grpc
  structlog rfc8785 httpx2 typer rich psutil prometheus-client
)
mkdir -p .wheels
platforms=()
for glibc in 39 36 35 34 31 28 27 24 17 5; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64 --platform manylinux1_x86_64)
wanted=()
for package in "${packages[@]}"; do
  pinned=$(grep -ioE "^${package//[-_]/[-_]}==[^ ;\\]+" requirements.lock | head -1 || true)
  [ -n "$pinned" ] || { echo "requirements.lock has no $package" >&2; exit 1; }
  wanted+=("$pinned")
done
.venv/bin/python -m pip download --quiet --no-deps --only-binary=:all: --python-version "$version" --implementation cp \
  "${platforms[@]}" --dest .wheels "${wanted[@]}"
du -sh .wheels
