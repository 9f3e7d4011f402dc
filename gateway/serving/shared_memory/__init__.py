"""Tensors in POSIX shared memory instead of messages: regions that are open here, inputs read, outputs written."""
