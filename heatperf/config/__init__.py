"""Configuration: what may be set, how it is read, and how it is shown, checked and sampled.

options  every option of this server, declared once
load     files, environment and command line -> a parsed and validated ConfigOpts
files    which configuration files are read, and which line sets what
validate every option read once; certificates and broker URLs tried
show     the effective configuration with its origins, secrets masked
sample   heat.conf and policy.yaml samples
check    what a start would refuse, and what operators often get wrong
paths    files that travel with the package

Ground floor: imports nothing of heatperf but errors. Everything here runs in the zygote, before any fork.
"""

import warnings

# oslo.messaging imports oslo.service, which loads its eventlet backend unless cotyledon is installed. Nothing here runs
# on eventlet or patches anything; an operator could do nothing about the warning it prints at every start.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
