"""
The life of operating-system processes: start, watch, restart, replace, stop, and what they hold (home, sockets, signals).

Nothing here knows models, requests or gRPC.
"""
