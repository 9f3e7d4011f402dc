#!/bin/sh
# Generates gateway/protocol/pb from the .proto files: messages and type stubs only, services are read from the descriptors
# (gateway/protocol/services.py). Usage: protos/generate.sh [OUTPUT_FOLDER]; run by `make proto`, checked by `make check`.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
out=${1:-gateway/protocol/pb}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m grpc_tools.protoc -Iprotos --python_out="$work" --pyi_out="$work" \
    protos/interlock/v1/admin.proto protos/interlock/v1/feedback.proto protos/interlock/oip/v2/inference.proto
mkdir -p "$out"
mv "$work"/interlock/v1/* "$work"/interlock/oip/v2/* "$out"
echo '"""Generated from protos/ by `make proto`; not to be edited."""' > "$out/__init__.py"
