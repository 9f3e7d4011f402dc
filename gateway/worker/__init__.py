"""
The worker process: `worker.Worker` builds `versions`, `serving` and the data port, and keeps the link to control.

Nothing here decides about requests (`serving` does) or about versions (`versions` does).
"""
