"""The wire format of the Open Inference Protocol v2: requests decoded, responses encoded. No call, no model, no I/O."""
