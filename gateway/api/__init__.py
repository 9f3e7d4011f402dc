"""
The gRPC services and the mapping of their messages.

`data_service` and `forwarded` serve the data port beside ModelInfer, `admin_service` and `admin_server` the admin port;
`health` and `reflection` serve both. Modules that end in ``_messages`` map values to messages. `status_codes` is the one
table that chooses an RPC's error code.

Only composition imports this package. Nothing here decides: it translates and calls `control` or a worker.
"""
