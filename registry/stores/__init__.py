"""Adapters behind the registry's ports, one technology a file: SQL databases, files on disk."""
