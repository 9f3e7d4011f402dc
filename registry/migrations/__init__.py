"""The database schema's history, run by `registry.stores.schema` whenever a registry is opened."""
