"""Processes and sockets. Knows nothing of Heat: the command line names a factory, which makes an Application.

Reading order. What runs: settings, application, sizing (with hardware), sockets (with activation), tls. The supervisor:
supervisor, generation, slot, side, signals, backoff, relay. Its children: channel, child, zygote, worker (with
worker_protocol). Looking in: scoreboard, tally, status, control, control_client, notify, limits.
"""
