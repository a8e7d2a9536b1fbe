"""Files that travel with the package: the default paste file, samples, the systemd unit.

In: a file name. Out: its absolute path. Raises ConfigurationError where an installation is incomplete.
"""

import os

import heatperf
from heatperf.errors import ConfigurationError


def packaged_file(name: str) -> str:
    """Absolute path of a file from etc/heatperf.

    A wheel carries that directory as heatperf/etc (see pyproject.toml); in a checkout it lies beside the package.

    :raises ConfigurationError: the installation lacks it
    """
    package = os.path.dirname(os.path.abspath(heatperf.__file__))
    for directory in (os.path.join(package, "etc"), os.path.join(os.path.dirname(package), "etc", "heatperf")):
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            return path
    raise ConfigurationError(f"the installation of heatperf lacks its file {name}", remedy="install heatperf again")
