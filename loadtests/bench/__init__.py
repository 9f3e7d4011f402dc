"""The request-path benchmark: Interlock beside bare gRPC servers and plain ONNX Runtime, in one run, on one core each."""
