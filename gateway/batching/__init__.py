"""Requests of several callers in one run: how rows are merged, split and told apart. Pure."""
