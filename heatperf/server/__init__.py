"""Processes and sockets. Knows nothing of Heat: the command line hands it an Application and ServerSettings.

Reading order: settings, application, sizing, sockets, notify, backoff, signals, supervisor, worker.
"""
