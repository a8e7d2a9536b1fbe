"""``heatperf reload``, ``stop`` and ``status``: ask a running server through its control socket.

In: parsed flags. Out: what the server says, and an exit code: 0 done (status: all serve), 1 refused (status: not all
serve), 2 no server could be asked.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from heatperf.server import status
from heatperf.server.control import candidates
from heatperf.server.control_client import ControlError, call, call_first

EXIT_UNREACHABLE = 2


def remote(command: str, options: argparse.Namespace) -> int:
    """
    :param command: one of flags.CONTROL_COMMANDS
    :returns: exit code
    """
    wait = command == "stop"
    try:
        if options.control:
            answer = call(Path(options.control), command, timeout=options.timeout, until_end=wait)
        else:
            paths = candidates(os.environ, os.geteuid())
            answer = call_first(paths, command, timeout=options.timeout, until_end=wait)
    except ControlError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return EXIT_UNREACHABLE
    if not answer["ok"]:
        print(answer["text"], file=sys.stderr)
        return int(answer["exit_code"])
    if command == "status":
        state = answer["status"]
        print(json.dumps(state, indent=2) if options.json else status.render(state))
        return status.exit_code(state)
    print("stopped" if wait else answer["text"])
    return 0
