"""``heatperf tune``: which settings suit this machine, found by measuring.

Reading order: candidates (what to try, and in which order), generator (the load, in processes of its own), trial (one
candidate: a private server under that load), decision (what to recommend, pure), report (table, plot, SVG).

Runs in the process of the command. Imports server, loops and config; nothing of Heat: the server under test is another
process.
"""
