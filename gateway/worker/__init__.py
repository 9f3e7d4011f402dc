"""
The worker process: `worker.Worker` builds `versions`, `serving` and the data port, and keeps the link to control.

Decisions about requests live in `serving`, about versions in `versions`.
"""
