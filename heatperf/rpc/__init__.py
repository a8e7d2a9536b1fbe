"""Calls to heat-engine: one table of methods (methods.py), one client (client.py), transports under it."""
