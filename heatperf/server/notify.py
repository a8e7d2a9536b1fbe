"""systemd's notification protocol (sd_notify(3)), without a library.

Supervisor only. Never raises: a notification that cannot be delivered must not stop the service.
"""

from __future__ import annotations

import logging
import os
import socket

LOG = logging.getLogger("heatperf.server")


def notify(state: str, environ: dict[str, str] | None = None) -> bool:
    """
    :param state: "READY=1", "STOPPING=1", "STATUS=..."; several separated by newlines
    :param environ: where NOTIFY_SOCKET is looked for; os.environ unless given
    :returns: whether it was sent; False outside systemd
    """
    address = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    if address[0] == "@":
        address = "\0" + address[1:]  # the abstract namespace, unix(7)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            # The queue of a stuck receiver may be full; never wait for it.
            sock.setblocking(False)
            sock.sendto(state.encode(), address)
    except OSError as exc:
        LOG.warning("Cannot notify systemd: %s", exc)
        return False
    return True
