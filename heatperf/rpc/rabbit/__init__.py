"""RPC over RabbitMQ without oslo.messaging, wire-compatible with it.

Reading order: settings (what is configured), options (how heat.conf says it), hosts (which broker next), link (one open
connection), kept (a connection that comes back), sender (publishes, and knows what became of it), receiver (the reply
queue), calls (who waits for what), presence (is there an engine?), transport (calls and casts, see rpc/client.py).
"""
