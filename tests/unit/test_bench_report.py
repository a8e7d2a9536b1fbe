"""The harness: what it takes for the same answer, its arithmetic, and that benchmarks.md says what was measured."""

import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BENCH = ROOT / "bench"
sys.path.insert(0, str(BENCH))

import _bars  # noqa: E402
import _load  # noqa: E402
import _report  # noqa: E402
import _results  # noqa: E402


def results(**phases):
    return _results.Results(
        {
            "schema": _results.SCHEMA,
            "servers": [{"key": "uwsgi", "name": "upstream"}, {"key": "heatperf", "name": "heatperf"}],
            "workloads": [{"key": "version", "name": "version document"}],
            **phases,
        }
    )


def loads(server, *costs, workload="version", phase="cpu_us"):
    return [{"workload": workload, "server": server, "round": n, phase: cost} for n, cost in enumerate(costs)]


def of(server, workload="version"):
    return {"server": server, "workload": workload}


@pytest.mark.parametrize(
    ("status", "kind", "body", "same"),
    [
        (404, "application/json", b'{"code":404,"title":"x"}', True),
        (404, "application/json", b'{"title": "x", "code": 404}', True),
        (404, "application/json", b'{"code":404,"title":"y"}', False),
        (404, "application/json", b'{"code":404,"title":"x"', False),
        (404, "text/plain", b'{"code": 404, "title": "x"}', False),
        (400, "application/json", b'{"code": 404, "title": "x"}', False),
    ],
)
def test_an_answer_is_upstreams_if_a_client_cannot_tell(status, kind, body, same):
    upstream = _load.Answer(404, "application/json", b'{"code": 404, "title": "x"}')
    assert _load.Answer(status, kind, body).same(upstream) is same


def test_a_ratio_pairs_what_was_measured_in_the_same_round():
    # the machine slowed down under both: each pair says 10, the medians of the columns would as well, but not the
    # smallest and the largest of them
    measured = results(compare=[*loads("uwsgi", 100, 300, 200), *loads("heatperf", 10, 30, 20)])
    assert measured.ratio("compare", "cpu_us", of("uwsgi"), of("heatperf")) == (10, 10, 10)


def test_a_ratio_says_how_far_the_rounds_were_apart():
    measured = results(compare=[*loads("uwsgi", 100, 100, 100), *loads("heatperf", 10, 20, 5)])
    assert measured.ratio("compare", "cpu_us", of("uwsgi"), of("heatperf")) == (10, 5, 20)


def test_rounds_without_a_partner_make_no_ratio():
    measured = results(compare=[*loads("uwsgi", 100, 100), *loads("heatperf", 10)])
    assert measured.ratio("compare", "cpu_us", of("uwsgi"), of("heatperf")) is None


def test_an_added_worker_costs_the_difference_between_servers_not_a_share_of_one():
    memory = [{"server": "heatperf", "workers": count, "pss_total": size} for count, size in ((1, 90), (3, 110))]
    assert results(workers=memory).added_worker("heatperf") == 10
    assert results(workers=memory[:1]).added_worker("heatperf") is None


@pytest.mark.parametrize(("ours", "said"), [(20, True), (40, False)])
def test_a_bar_is_met_or_not(ours, said):
    bar = next(bar for bar in _bars.BARS if bar.goal == 5)
    verdict = bar.measured(results(compare=[*loads("uwsgi", 150), *loads("heatperf", ours)]))
    assert verdict.value == 150 / ours
    assert bar.met(verdict) is said


def test_no_bar_is_met_where_nothing_was_measured():
    assert [bar.met(bar.measured(results())) for bar in _bars.BARS] == [None] * len(_bars.BARS)


def test_a_bar_of_several_workloads_needs_them_all():
    bar = next(bar for bar in _bars.BARS if bar.goal == 15 and bar.at_least)
    found = [*loads("uwsgi", 900, workload="notfound"), *loads("heatperf", 9, workload="notfound")]
    assert bar.measured(results(compare=found)).value is None


def test_results_survive_the_file(tmp_path):
    data = results(compare=loads("uwsgi", 1, 2)).data
    _results.write(tmp_path / "results.json", data)
    assert _results.Results.read(tmp_path / "results.json").data == data


def test_results_of_another_schema_are_refused():
    with pytest.raises(ValueError, match="schema 0"):
        _results.Results({"schema": 0})


def test_what_is_written_by_hand_stays():
    text = "before\n<!-- startup: made by bench/_report.py -->\nold\n<!-- end -->\nafter\n"
    startup = [{"server": "heatperf", "round": 0, "seconds": 1.25}]
    made = _report.render(text, results(startup=startup))
    assert made.startswith("before\n") and made.endswith("\nafter\n")
    assert "old" not in made and "1.25" in made
    assert _report.render(made, results(startup=startup)) == made


def test_benchmarks_say_what_the_kept_results_say():
    """Remedy: make bench-report."""
    text = _report.TEXT.read_text()
    assert _report.render(text, _results.Results.read(_report.RESULTS)) == text
    made = set(re.findall(r"<!-- (\w+): made by", text))
    assert made == set(_report.SECTIONS)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (ROOT / link).is_file(), f"benchmarks.md links to {link}"
