"""Helper processes: heavy CPU work beside the workers' loops, since a native thread would hold the GIL.

What the work is, is handed in (see api/tasks.py). Here are the bytes between a worker and a helper (frames), the
process (server), and the worker's end (client).
"""
