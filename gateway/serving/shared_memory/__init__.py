"""
Tensors in POSIX shared memory instead of messages: the regions open here, inputs read, outputs written.

Control keeps which regions are registered, not a worker; `gateway.runtime.shared_object` opens them.
"""
