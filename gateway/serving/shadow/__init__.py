"""
Shadow traffic: copies of answered requests, run at the lowest priority, compared with the primary's answers and counted.

Nothing here can delay or fail a caller's request: a copy is made after the answer, and dropped first.
"""
