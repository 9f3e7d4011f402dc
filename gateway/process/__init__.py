"""
The life of operating-system processes: start, watch, restart, replace, stop, and what they hold (home, sockets, signals).

`launch` takes the home and the ports, then runs `supervisor`, which starts control and the workers, restarts those that die
(`backoff` decides when), and stops them. `handle` is one child as the supervisor sees it; `child_main` is the child's own
main function; `orders` and `rolling_messages` are what the two tell each other. `rolling` replaces the workers one by one.

Nothing here knows models, requests or gRPC.
"""
