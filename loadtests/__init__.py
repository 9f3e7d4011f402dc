"""Load tests with locust (`python -m loadtests.run`) and the request-path benchmark (`python -m loadtests.bench`)."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before ONNX Runtime is loaded: see gateway/runtime/onnx.py
