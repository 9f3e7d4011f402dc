"""The queue of a slow version: who may join it, in which order it runs, and when it is overloaded."""
