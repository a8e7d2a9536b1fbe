"""A network between servers and a broker on loopback that swallows packets: the kernel drops them, by nftables.

Comes in: a port. Goes out: nothing to either end, as from a cable that was pulled. Raised: FirewallError. Needs root
and the program nft; ``obstacle`` says what is missing.

The rules are in a table of their own, which a process in a session of its own deletes as soon as the pipe to it is
closed: on ``heal``, and also when the test is killed. Should both be killed, the next test deletes the table.
"""

import os
import re
import shutil
import subprocess

_TABLE = "heatperf_faults_"
#: The rules come first, on the one line that this reads; it holds them until its standard input ends.
_HOLDER = 'read -r rules; nft "$rules" && echo dropping; read -r _; nft delete table inet "$0"'
_RULES = (
    "table inet {table} {{ chain input {{ type filter hook input priority -300; policy accept; {exempt}"
    " iif lo tcp dport {port} drop; iif lo tcp sport {port} drop; }} ; }}"
)


class FirewallError(Exception):
    """The kernel does not take the rules."""


def obstacle():
    """Why no packets can be dropped here; "" where they can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "this user is not root"
    if shutil.which("nft") is None:
        return "nft is not installed"
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True)
    return "" if listed.returncode == 0 else f"nft fails ({listed.stderr.strip()})"


def tables():
    """Pids of the tests whose packets are dropped now."""
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout
    return [int(pid) for pid in re.findall(rf"table inet {_TABLE}(\d+)$", listed, re.MULTILINE)]


class Firewall:
    """One test's. ``with`` it.

    :param port: of the broker
    """

    def __init__(self, port):
        self._port = port
        self._table = f"{_TABLE}{os.getpid()}"
        self._holder = None

    def __enter__(self):
        for pid in tables():
            if not os.path.exists(f"/proc/{pid}"):
                subprocess.run(["nft", "delete", "table", "inet", f"{_TABLE}{pid}"], check=False)
        return self

    def __exit__(self, *_):
        self.heal()

    def cut(self, exempt=()):
        """Drop every packet to and from the port.

        :param exempt: the other ends' ports of connections that go on
        :raises FirewallError: it cannot be done
        """
        ports = ", ".join(map(str, exempt))
        passing = f"tcp sport {{ {ports} }} accept; tcp dport {{ {ports} }} accept;" if ports else ""
        rules = _RULES.format(table=self._table, port=self._port, exempt=passing)
        self._holder = subprocess.Popen(
            ["sh", "-c", _HOLDER, self._table],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._holder.stdin.write(f"{rules}\n")
        self._holder.stdin.flush()
        said = self._holder.stdout.readline()
        if said != "dropping\n":
            self.heal()
            raise FirewallError(said)

    def heal(self):
        """Let packets through again; those that were sent meanwhile are sent again by whoever still wants to."""
        if self._holder is not None:
            self._holder.communicate()
            self._holder = None
