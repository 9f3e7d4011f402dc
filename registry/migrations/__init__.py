"""
The history of the database schema, run by `registry.stores.schema` whenever a registry is opened.

Nothing here reads or writes models: tables are used in `registry.stores`.
"""
