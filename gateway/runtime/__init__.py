"""What runs a model: the session port, ONNX Runtime behind it, tensors between wire and numpy, the trial run."""
