"""Shadow traffic: copies of answered requests, run at the lowest priority and compared."""
