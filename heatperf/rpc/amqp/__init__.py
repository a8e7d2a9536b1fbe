"""AMQP 0-9-1 as far as RPC needs it, without any I/O.

Reading order: codec (values, tables and methods as bytes), connection (the state of one connection), confirms (what
became of published messages). rpc/rabbit.py puts sockets under it.
"""
