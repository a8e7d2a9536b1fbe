"""``heatperf serve``, in the supervisor: look at the flags, then supervise generations of service.load.

In: command line arguments. Out: an exit code. Raises ConfigurationError for flags that are wrong whatever the
configuration says. Imports no OpenStack library, since this process must not depend on what can be reloaded.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from heatperf.cli import development, flags
from heatperf.server.control import default_path
from heatperf.server.supervisor import serve


def launch(prog: str, argv: Sequence[str]) -> int:
    """
    :param prog: the name it was called by
    :returns: exit code of the supervisor
    :raises ConfigurationError: a flag, a socket that came with the process, or the control socket cannot be used
    """
    options, rest = flags.serve_parser(prog).parse_known_args(list(argv))
    options.dev = development.is_meant(options, rest, os.environ)
    flags.check_flags(options, rest)
    control = None
    if options.control is None:
        control = default_path(os.environ, os.geteuid())
    elif options.control != flags.NO_CONTROL:
        control = Path(options.control)
    folder = development.helper_folder(os.environ, os.geteuid())
    arguments = {"prog": prog, "argv": list(argv), "development": options.dev, "helpers": folder and str(folder)}
    sides = []
    if flags.engine_of(options) == "embedded":
        state = development.state_folder(options, os.environ)
        socket = development.engine_socket(state, os.environ, os.geteuid())
        arguments |= {"state": str(state), "socket": str(socket)}
        sides = [development.engine(state, socket)]
    return serve(
        "heatperf.cli.service:load", arguments, control=control, insist=options.control is not None, sides=sides
    )
