"""What heatperf tune tries, and what it makes of measurements."""

import re
import xml.etree.ElementTree as ElementTree
from fractions import Fraction

import pytest

from heatperf.loops import LOOPS, check
from heatperf.server.hardware import Found, Hardware
from heatperf.tuning import report
from heatperf.tuning.candidates import Candidate, around, choices_for, reuseport
from heatperf.tuning.decision import LEAST_NOISE, Measurement, Sample, leader, noise_of, recommend

DEFAULT = Candidate("gevent", 2)
GIB = 2**30


def machine(cpus, quota=None, memory=64 * GIB):
    return Hardware(
        affinity=Found(frozenset(range(cpus)), "x"),
        quota=Found(None if quota is None else Fraction(quota), "x"),
        memory_total=Found(memory, "x"),
    )


def measured(candidate, *rates, cpus=4.0, server=1.0, generator=0.5, busiest=0.5, others=0.0):
    samples = tuple(Sample(rate, server, generator, busiest, others, 900.0, 2000.0) for rate in rates)
    return Measurement(candidate, cpus, samples)


class TestCandidates:
    @pytest.mark.parametrize(
        ("facts", "counts"),
        [
            ({"cpus": 1}, (1, 2)),
            ({"cpus": 2}, (1, 2, 3)),
            ({"cpus": 8}, (7, 8, 9)),
            ({"cpus": 8, "quota": 3}, (2, 3, 4, 8)),
            ({"cpus": 8, "memory": 664 * 2**20}, (3, 4)),  # memory for four, and for no more
        ],
    )
    def test_counts_around_what_auto_gives(self, facts, counts):
        assert choices_for(machine(**facts), "gevent").workers == counts

    def test_memory_that_is_short_leaves_one(self):
        assert around(1, {"CPUs": 4, "memory": 0}) == (1,)

    def test_loops_are_those_that_are_there(self):
        choices = choices_for(machine(4), "gevent")
        assert "gevent" in choices.loops and set(choices.loops) <= set(LOOPS)
        for loop in choices.loops:
            check(loop)

    def test_one_thing_is_varied_at_a_time(self):
        choices = choices_for(machine(4), "gevent", loops=("gevent", "uvloop"), workers=(2, 4))
        assert choices.default == Candidate("gevent", 4)
        assert list(choices.stage("loop", choices.default)) == [Candidate("uvloop", 4)]
        assert list(choices.stage("workers", Candidate("uvloop", 4))) == [Candidate("uvloop", 2)]
        assert list(choices.stage("pinning", Candidate("uvloop", 2))) == [Candidate("uvloop", 2, True)]
        assert choices.most == 4

    def test_reuseport_is_said_to_be_unavailable_with_the_reason(self, tmp_path):
        assert "is not there" in reuseport(str(tmp_path))
        path = tmp_path / "proc/sys/net/ipv4/tcp_migrate_req"
        path.parent.mkdir(parents=True)
        for value, words in (("0\n", "tcp_migrate_req is 0"), ("1\n", "one listener for all")):
            path.write_text(value)
            assert words in reuseport(str(tmp_path))

    def test_the_kernel_is_asked(self):
        assert re.search(r"tcp_migrate_req is (0|1|not there)", reuseport())


class TestCapacity:
    def test_is_the_rate_where_everybody_has_cpus(self):
        assert measured(DEFAULT, 1000, generator=2.0).capacity == 1000

    def test_is_scaled_by_what_load_and_others_took_from_the_workers(self):
        assert measured(DEFAULT, 1000, cpus=2.0, server=1.5, generator=0.5).capacity == pytest.approx(1000 * 2 / 1.5)
        shared = measured(DEFAULT, 1000, cpus=2.0, server=1.0, generator=0.5, others=0.5)
        assert shared.capacity == pytest.approx(2000)

    def test_workers_that_idle_do_not_look_better(self):
        """Half of the CPU used, at the same cost: half of the answers."""
        assert measured(DEFAULT, 500, server=0.5).capacity == measured(DEFAULT, 1000, server=1.0).capacity / 2

    def test_more_is_never_believed_than_four_times_the_rate(self):
        assert measured(DEFAULT, 100, cpus=2.0, generator=1.0, others=1.5).capacity == 400

    def test_median_of_the_windows(self):
        found = measured(DEFAULT, 1000, 10, 1100)
        assert (found.rate, found.spread) == (1000, pytest.approx(1.09))

    def test_the_generator_was_the_limit(self):
        assert measured(DEFAULT, 1000, server=0.8, generator=1.0, busiest=0.98).starved
        assert not measured(DEFAULT, 1000, server=1.99, generator=1.0, busiest=0.98).starved
        assert not measured(DEFAULT, 1000, server=0.8, generator=0.5, busiest=0.5).starved


UVLOOP = Candidate("uvloop", 2)
PINNED = Candidate("uvloop", 2, True)
TWICE = (measured(DEFAULT, 1000), measured(DEFAULT, 1000))


class TestRecommendation:
    def test_within_the_noise_the_default_stays(self):
        found = recommend([measured(DEFAULT, 1000), measured(UVLOOP, 1080), measured(DEFAULT, 1100)], DEFAULT)
        assert (found.candidate, found.values, found.gain) == (DEFAULT, {}, 0.0)
        assert found.moved == pytest.approx(100 / 1050) and found.noise == found.moved

    def test_a_quiet_machine_is_not_believed_below_the_least(self):
        narrow = [measured(DEFAULT, 1000), measured(UVLOOP, 1000 * (1 + LEAST_NOISE) - 1), measured(DEFAULT, 1000)]
        assert recommend(narrow, DEFAULT).candidate == DEFAULT
        wide = [measured(DEFAULT, 1000), measured(UVLOOP, 1000 * (1 + LEAST_NOISE) + 1), measured(DEFAULT, 1000)]
        assert recommend(wide, DEFAULT).candidate == UVLOOP

    def test_of_equals_the_one_that_changes_least(self):
        found = recommend(
            [measured(DEFAULT, 1000), measured(UVLOOP, 1500), measured(PINNED, 1520), measured(DEFAULT, 1000)], DEFAULT
        )
        assert found.candidate == UVLOOP and found.values == {("heatperf", "loop"): "uvloop"}
        assert found.gain == pytest.approx(0.5)

    def test_everything_that_differs_is_named(self):
        best = Candidate("uvloop", 3, True)
        found = recommend([*TWICE, measured(UVLOOP, 1100), measured(best, 1500)], DEFAULT)
        assert found.values == {
            ("heatperf", "loop"): "uvloop",
            ("heatperf", "pin_workers"): "true",
            ("heat_api", "workers"): "3",
        }
        lines = ["[heatperf]", "loop = uvloop", "pin_workers = true", "[heat_api]", "workers = 3"]
        assert report.settings(found) == lines

    def test_fewer_workers_where_both_are_as_good(self):
        one, three = Candidate("gevent", 1), Candidate("gevent", 3)
        found = recommend([*TWICE, measured(three, 1210), measured(one, 1200)], DEFAULT)
        assert found.candidate == one

    def test_windows_that_differ_are_noise_too(self):
        restless = measured(DEFAULT, 900, 1000, 1200)
        assert noise_of([restless]) == pytest.approx(0.15)
        assert recommend([restless, restless, measured(UVLOOP, 1140)], DEFAULT).candidate == DEFAULT

    def test_too_noisy_for_anything(self):
        found = recommend([measured(DEFAULT, 1000), measured(UVLOOP, 9000), measured(DEFAULT, 2000)], DEFAULT)
        assert found.unsure and found.candidate == DEFAULT and found.values == {}
        assert "try again when nothing else runs" in report.verdict([], found)

    def test_too_much_else_runs(self):
        busy = measured(UVLOOP, 9000, others=1.1)
        assert recommend([*TWICE, busy], DEFAULT).unsure
        assert not recommend([*TWICE, measured(UVLOOP, 9000, others=0.9)], DEFAULT).unsure

    def test_noise_that_is_not_known(self):
        found = recommend([measured(DEFAULT, 1000), measured(UVLOOP, 9000)], DEFAULT)
        assert found.unsure and found.candidate == DEFAULT
        assert "measured once only" in report.verdict([], found)

    def test_what_failed_is_not_recommended(self):
        failed = Measurement(UVLOOP, 4.0, failure="no such loop")
        assert recommend([*TWICE, failed], DEFAULT).candidate == DEFAULT

    def test_the_leader_is_dethroned_by_more_than_the_noise_only(self):
        trials = [measured(DEFAULT, 1000), measured(UVLOOP, 1020), measured(PINNED, 1200)]
        assert leader(trials[:2], 0.03) == DEFAULT
        assert leader(trials, 0.03) == PINNED


class TestReport:
    trials = [
        measured(DEFAULT, 1000, others=0.4),
        measured(UVLOOP, 1500, server=0.8, generator=1.0, busiest=0.99),
        Measurement(PINNED, 4.0, failure="its server ended with code 3"),
        measured(DEFAULT, 1010),
    ]

    def test_table_names_every_trial_and_marks_the_choice(self):
        lines = report.table(self.trials, recommend(self.trials, DEFAULT)).splitlines()
        assert len(lines) == 5
        assert [line for line in lines if line.startswith(">")] == [lines[2]]
        assert "uvloop, 2 workers" in lines[2] and "1500" in lines[2] and "1.00*" in lines[2]
        assert "1000 us" in lines[1] and "0.90 ms" in lines[1] and "2.00 ms" in lines[1]
        assert lines[-1].endswith("uvloop, 2 workers, pinned: its server ended with code 3")

    def test_verdict_says_noise_disturbance_and_gain(self):
        text = report.verdict(self.trials, recommend(self.trials, DEFAULT))
        assert "differed from itself by 1.0 %" in text and "below 3 % count as none" in text
        assert "took up to 0.4 CPUs" in text and "the load was the limit" in text
        assert "uvloop, 2 workers: 49 % more than the default (gevent, 2 workers)" in text
        assert "    loop = uvloop" in text

    def test_plot_has_a_bar_as_long_as_the_capacity(self):
        first, second, third = report.plot(self.trials, recommend(self.trials, DEFAULT)).splitlines()
        lengths = [sum(line.count(sign) for sign in "#~") for line in (first, second, third)]
        assert lengths[0] == pytest.approx(lengths[1] * 2 / 3, abs=2) and lengths[2] >= lengths[0]

    def test_svg_is_well_formed_and_escapes(self):
        root = ElementTree.fromstring(report.svg(self.trials, recommend(self.trials, DEFAULT), "2 CPUs & <more>"))
        text = " ".join(each.text or "" for each in root.iter())
        assert "2 CPUs & <more>" in text and "uvloop, 2 workers" in text and "1500" in text
