"""The embedded engine: HOT template, graph, resources, SQLite. Reached only through the RPC contract (service.py)."""
