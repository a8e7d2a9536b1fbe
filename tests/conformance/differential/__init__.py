"""``make compare``: upstream's API and heatperf beside each other, given the same generated requests.

peers.py starts both; requests.py, bodies.py and policies.py generate; lane.py sends and compares; shrink.py makes what
differs small; causes.py groups it and says what is accepted. The comparison itself is the recorded cases' own
(upstream/replay.py).
"""
