"""``heatperf tune``: measure which settings suit this machine, recommend them, and with --write make them defaults.

In: parsed flags. Out: table, plot and recommendation on standard output, progress on standard error, files where asked
for, an exit code: 0 measured (whatever came out), 1 the default could not be measured, or there was too much noise to
write anything. Raises ConfigurationError for a loop that is not there or a file that cannot be written. Touches nothing
that runs: the servers under test are its own.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import heatperf
from heatperf.config import tuned
from heatperf.errors import ConfigurationError
from heatperf.loops import check as check_loop
from heatperf.server import hardware
from heatperf.server.settings import ServerSettings
from heatperf.server.sizing import signature
from heatperf.tuning import report
from heatperf.tuning.candidates import STAGES, Candidate, Choices, choices_for, reuseport
from heatperf.tuning.decision import LEAST_NOISE, Measurement, leader, noise_of, recommend
from heatperf.tuning.trial import measure

EXIT_OK, EXIT_FAILED = 0, 1
#: Seconds: what a trial takes beside its load, before one was made; the shortest load that says something; and the
#: longest, since more of it makes no difference.
OVERHEAD, SHORTEST, LONGEST = 2.0, 0.6, 8.0
#: Seconds for the last server to end.
STOPPING = 1.0
WORKER = "heatperf-worker"


@dataclass
class Session:
    """The trials of one call and the time that is left for them."""

    machine: hardware.Hardware
    end: float
    planned: int
    overhead: float = OVERHEAD
    done: list[Measurement] = field(default_factory=list)
    skipped: list[Candidate] = field(default_factory=list)

    def run(self, candidate: Candidate, last: bool = False) -> Measurement | None:
        """Measure one of them, in its share of the time.

        :param last: of all, so that it need not leave time for another
        :returns: None where there is no time for it
        """
        began = time.monotonic()
        share = (self.end - began) / max(1, self.planned)
        load = min(share - self.overhead, LONGEST)
        self.planned -= 1
        needed = 1 if last or not self.done else 2
        if self.done and self.end - began < needed * (self.overhead + SHORTEST):
            self.skipped.append(candidate)
            return None
        until = began + self.overhead + max(load, SHORTEST)
        print(f"{max(0.0, self.end - began):4.0f} s left: {candidate}", file=sys.stderr, flush=True)
        found = measure(candidate, self.machine, until)
        if found.samples:
            # What starting took shows in how late the load ended, as it has a least length.
            self.overhead = max(self.overhead, time.monotonic() - began - max(load, SHORTEST))
        else:
            print(f"             {found.failure}", file=sys.stderr, flush=True)
        self.done.append(found)
        return found


def tune(options: argparse.Namespace) -> int:
    """
    :param options: of flags.tune_parser
    :returns: exit code
    :raises ConfigurationError: a loop is not there, or a file cannot be written
    """
    for loop in options.loop or ():
        check_loop(loop)
    place = _place(options.write)
    if place is not None and place.exists() and not tuned.is_ours(place):
        tuned.write(place, "")  # says why not, before a minute has passed
    machine = hardware.read()
    choices = choices_for(machine, ServerSettings.loop, options.loop or (), options.workers or (), options.pin)
    _warn_of_others()
    print(f"{signature(machine)}; at most {choices.most + 1} trials in {options.seconds} s", file=sys.stderr)
    session = Session(machine, time.monotonic() + options.seconds - STOPPING, choices.most + 1)
    _measure_all(session, choices)
    if not session.done[0].samples:
        print(f"ERROR: the default cannot be measured: {session.done[0].failure}", file=sys.stderr)
        return EXIT_FAILED
    return _tell(session, choices, options, place)


def _measure_all(session: Session, choices: Choices) -> None:
    """The default, each stage with the best so far, the default again."""
    first = session.run(choices.default)
    if first is None or not first.samples:
        return
    for stage in STAGES:
        best = leader(session.done, max(LEAST_NOISE, noise_of(session.done[:1])))
        for candidate in choices.stage(stage, best):
            session.run(candidate)
    session.run(choices.default, last=True)


def _tell(session: Session, choices: Choices, options: argparse.Namespace, place: Path | None) -> int:
    found = recommend(session.done, choices.default)
    here = signature(session.machine)
    print(report.table(session.done, found), report.EXPLANATION, "", report.plot(session.done, found), "", sep="\n")
    if session.skipped:
        print(f"No time was left for: {'; '.join(map(str, session.skipped))}. Give it more with --seconds.")
    print(reuseport() + ".")
    print(report.verdict(session.done, found))
    if options.svg:
        try:
            Path(options.svg).write_text(report.svg(session.done, found, here))
        except OSError as error:
            raise ConfigurationError(f"cannot be written: {error.strerror}", file=options.svg) from None
    if place is None:
        if found.values:
            print("With --write it becomes the default of heatperf serve on this machine.")
        return EXIT_OK
    if found.unsure:
        print(f"ERROR: nothing is written to {place}, since nothing is recommended", file=sys.stderr)
        return EXIT_FAILED
    when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    lines = report.comments(session.done, found, when, f"heatperf {heatperf.__version__}, {here}")
    tuned.write(place, tuned.render(here, found.values, lines))
    print(f"Written to {place}. heatperf config show tells what is in force; heat.conf and flags go before it.")
    _warn_unless_found(place)
    return EXIT_OK


def _place(write: str | None) -> Path | None:
    if write is None:
        return None
    return Path(write).absolute() if write else tuned.default_place(os.environ, os.geteuid())


def _warn_unless_found(place: Path) -> None:
    """A file in another place is read by a server that is told so."""
    if place not in tuned.places(os.environ):
        print(f"serve does not look there unless told to: heatperf serve --tuned {place}")
    elif (found := tuned.find(None, os.environ)) != place:
        print(f"serve finds {found} first, which goes before it; remove that, or name a file with --tuned")


def _warn_of_others() -> None:
    others = sorted(_others())
    if others:
        print(
            f"WARNING: heatperf serves on this machine already (workers {', '.join(map(str, others[:8]))}"
            f"{' and more' if len(others) > 8 else ''}); it will be slower meanwhile, and what is measured beside it is"
            " worth less",
            file=sys.stderr,
        )


def _others() -> Iterator[int]:
    """Pids of the workers of whatever servers run."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/comm") as file:
                    if file.read().strip() == WORKER:
                        yield int(name)
            except OSError:  # it has just ended
                continue
