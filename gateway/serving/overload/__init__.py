"""
The queue of a slow version and the thread that runs it: order by priority, admission on arrival, overload, deadlines.

`version_thread` runs the loop, `queue` keeps the order, `admission` decides which request may join, `delay_control` and
`adaptive_limit` are its pure rules. Short models have no queue: they run in the lane's thread.
"""
