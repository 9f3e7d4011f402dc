"""
Adapters behind the registry's protocols, one technology per file: SQL databases, files on disk.

No rule of the registry lives here.
"""
