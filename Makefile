# heatperf. `make help` lists what there is; docs and README say why.
#
# Environments are kept by stamp files that depend on the pinned requirements: a second run does nothing.
# PYTHON=... chooses the interpreter (>= 3.11; default: the newest found), ARGS=... goes to the program of the target.
# BROKER=... names a release of Debian or Ubuntu whose RabbitMQ is tested against, as root (default: this machine's).

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory --no-builtin-rules
export PYTHON

BROKER ?=
ifneq ($(BROKER),)
export HEATPERF_TEST_BROKER := $(CURDIR)/.peers/broker-$(BROKER)
OTHER_BROKER := .peers/broker-$(BROKER)/.installed
endif
ARGS ?=
PEER ?= heatperf
MATRIX ?= default
N ?= 2000
VENV := .venv/.installed
MEINHELD := .venv/.meinheld
PEERS := .peers/heat-27/.installed .peers/keystone/.installed .peers/client/.installed
# Older engines, which only the client matrix starts.
OLDER := .peers/heat-25/.installed .peers/heat-24/.installed

.PHONY: help venv meinheld peers system serve test lint process kills faults conformance compare contract e2e older bench \
	bench-report clean distclean
.DEFAULT_GOAL := help

help:
	@echo "make serve         development server on loopback; no root, compiler or broker (ARGS=\"--bind 127.0.0.1:9000\")"
	@echo "make test          lint and all layers of tests, with a real broker, Keystone and engine (ARGS=tests/unit)"
	@echo "make lint          ruff and mypy"
	@echo "make process       the real server under load: kills, reloads, TERM, crash loop, restarts (ARGS=\"--quick term\")"
	@echo "make kills         kills the embedded engine under load: every stack stays consistent (ARGS=\"--kills 10\")"
	@echo "make faults        a private RabbitMQ killed, cut off, out of memory, and so on, under load: one line for each of 19"
	@echo "                   faults, eight minutes (ARGS=\"--quick cut busy-loop\"; ARGS=\"--loop meinheld\")"
	@echo "                   BROKER=trixie: on the RabbitMQ of that release of Debian or Ubuntu; also test, conformance, e2e"
	@echo "make conformance   score against upstream's recorded answers (ARGS=\"--variants base,debug\", PEER=upstream);"
	@echo "                   MATRIX=all: on every loop, transport and set of stations; MATRIX=loop=NAME: on one"
	@echo "make compare       generated requests to upstream and heatperf side by side (N=20000, ARGS=\"--save --seed 7\")"
	@echo "make contract      docs/api-contract.md anew, from the recorded cases and the known differences"
	@echo "make e2e           real clients, Keystone and engines: every call of three clients, engines 24 to 27, a table"
	@echo "                   (ARGS=--api=upstream: the same on upstream's API)"
	@echo "make bench         upstream's API and heatperf under the same load, in turns; benchmarks.md anew"
	@echo "                   (ARGS=--quick: eight minutes, keeps nothing); make bench-report: texts and plots only"
	@echo "make venv          .venv, the project and its test tools"
	@echo "make meinheld      builds the optional loop meinheld into .venv; needs a C compiler"
	@echo "make peers         .peers/*, the software it is tested against"
	@echo "make clean         caches and build products; make distclean also removes .venv and .peers"

venv: $(VENV)
	@:

meinheld: $(MEINHELD)
	@:

peers: $(PEERS)
	@:

older: $(OLDER)
	@:

system: $(OTHER_BROKER)
	@tools/system-packages

serve: $(VENV)
	@.venv/bin/heatperf serve --dev --workers auto $(ARGS)

# System packages first (venv and headers come from there), then all environments, two at a time.
test: system
	@$(MAKE) -j2 venv meinheld peers
	@$(MAKE) lint
	@tools/run-tests $(ARGS)

lint: $(VENV)
	@.venv/bin/ruff check --extend-exclude .peers .
	@.venv/bin/mypy

process: $(VENV)
	@.venv/bin/python tests/process/scenarios.py $(ARGS)

kills: $(VENV)
	@.venv/bin/python tests/process/engine_kills.py $(ARGS)

# The engine of .peers/heat-27 is one of those that are killed.
faults: system $(VENV) .peers/heat-27/.installed
	@.venv/bin/python tests/faults/faults.py $(ARGS)

conformance: system
	@$(MAKE) -j2 venv meinheld peers
	@.venv/bin/python tests/conformance/run.py --peer $(PEER) --matrix $(MATRIX) $(ARGS)

compare: system
	@$(MAKE) -j2 venv peers
	@.venv/bin/python tests/conformance/compare.py -n $(N) $(ARGS)

contract: $(VENV)
	@.venv/bin/python tests/conformance/contract.py $(ARGS)

e2e: system
	@$(MAKE) -j2 venv peers older
	@.venv/bin/python -m pytest tests/e2e tests/e2e/matrix $(ARGS)

bench:
	@tools/system-packages bench
	@$(MAKE) -j2 venv meinheld peers .peers/bench/.installed
	@.venv/bin/python bench/_compare.py $(ARGS)

bench-report: .peers/bench/.installed $(VENV)
	@.venv/bin/python bench/_report.py

clean:
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	@find . -name __pycache__ -not -path './.venv/*' -not -path './.peers/*' -prune -exec rm -rf {} +

distclean: clean
	@rm -rf .venv .peers

# Editable, so that a change to the code needs no installation; without isolation, so that it needs no network.
$(VENV): requirements/heatperf.txt requirements/test.txt pyproject.toml tools/make-venv
	@tools/make-venv .venv requirements/heatperf.txt requirements/test.txt
	@.venv/bin/python -m pip install --quiet --no-input --no-deps --no-build-isolation --editable .
	@touch $@

# It looks itself whether what is installed was built for the greenlet, the Python and the sources that are here.
$(MEINHELD): $(VENV) heatperf/loops/meinheld_build.py heatperf/loops/meinheld_compat.h
	@.venv/bin/python -m heatperf.loops.meinheld_build
	@touch $@

.peers/broker-%/.installed: tools/make-broker
	@tools/make-broker $* .peers/broker-$*
	@touch $@

.peers/%/.installed: requirements/%.txt tools/make-venv
	@mkdir -p .peers
	@tools/make-venv .peers/$* requirements/$*.txt
	@touch $@
