"""What ``heatperf status`` shows."""

import pytest

from heatperf.server.status import duration, exit_code, render


def worker(slot, state="serving", **changes):
    base = {
        "slot": slot, "pid": 100 + slot, "generation": 2, "state": state, "age": 3700.0, "requests": 12345,
        "in_flight": 0, "oldest": None, "oldest_request": "", "heartbeat": 0.2, "restarts": 0, "reason": "",
        "next_start": None,
    }  # fmt: skip
    return base | changes


def status(*workers, state="serving", **changes):
    base = {
        "version": "0.1.0", "pid": 99, "title": "Heat REST API", "state": state, "uptime": 97_200.0, "generation": 2,
        "listeners": ["0.0.0.0:8004", "unix:/run/h.sock"], "requests": 24690,
        "reloads": {"done": 1, "refused": 0, "last": None}, "workers": list(workers),
    }  # fmt: skip
    return base | changes


def test_what_people_see():
    text = render(
        status(
            worker(1, in_flight=3, oldest=1.26, oldest_request="GET /v1/p/stacks"),
            worker(
                0, "waiting", pid=0, requests=7, heartbeat=None, restarts=4, reason="killed by SIGKILL", next_start=16
            ),
            state="degraded",
            reloads={"done": 1, "refused": 1, "last": {"ago": 300, "ok": False, "reason": "no such file"}},
        )
    )
    assert text.splitlines() == [
        "Heat REST API (heatperf 0.1.0), pid 99: degraded",
        "up 1 d 3 h, generation 2, 24690 requests, 1 of 2 slots serving",
        "listening on 0.0.0.0:8004, unix:/run/h.sock",
        "reloads: 1 done, 1 refused; the last one 5 min ago: refused: no such file",
        "",
        "SLOT  PID  GEN  STATE          AGE  REQUESTS  IN FLIGHT  OLDEST  HEARTBEAT  RESTARTS  REQUEST",
        "   0    -    2  waiting          -         7          -       -          -         4",
        "   1  101    2  serving  1 h 1 min     12345          3   1.3 s      0.2 s         0  GET /v1/p/stacks",
        "",
        "slot 0: killed by SIGKILL; next start in 16 s",
    ]


@pytest.mark.parametrize(
    ("expected", "shown"),
    [
        (0, status(worker(0), worker(1))),
        (0, status(worker(0), worker(1), state="reloading")),
        (0, status(worker(0), worker(0, "draining", generation=1))),
        (1, status(worker(0), worker(1, "waiting"))),
        (1, status(worker(0), worker(1, "ready"))),
        (1, status(worker(0), state="degraded")),
        (1, status(worker(0), state="stopping")),
        (1, status()),
        (1, {}),
    ],
)
def test_the_exit_code_says_whether_all_slots_serve(expected, shown):
    assert exit_code(shown) == expected


def test_a_server_of_another_version_is_shown_as_far_as_possible():
    text = render({"state": "serving", "workers": [{"slot": 0}], "shoe_size": 43})
    assert text.startswith("heatperf (heatperf ?), pid ?: serving\n") and "0    ?    ?  unknown" in text
    assert "pid ?: unknown" in render({}) and render({}).endswith("no workers")


def test_nothing_from_outside_steers_the_terminal():
    request = "GET /\x1b[2J\x07\r\u202e" + "x" * 5000
    text = render(status(worker(0, oldest_request=request, reason="line\nSLOT  PID\ttab")))
    assert all(char.isprintable() or char == "\n" for char in text) and max(map(len, text.splitlines())) < 400
    assert "slot 0: line SLOT  PID?tab" in text.splitlines()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"), (-1, "0.0 s"), (0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min"),
        (61, "1 min 1 s"), (3600, "1 h"), (3605, "1 h"), (86_399, "23 h 59 min"), (273_600, "3 d 4 h"),
    ],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


def side(state, **changes):
    return {"name": "engine", "pid": 7, "state": state, "restarts": 0, "reason": "", "next_start": None} | changes


def test_side_processes_count_and_are_shown():
    away = status(worker(0), sides=[side("waiting", pid=0, restarts=3, reason="was killed by SIGKILL", next_start=2)])
    shown = render(away)
    assert "engine: waiting, pid -, 3 restarts; the last one was killed by SIGKILL; next start in 2" in shown
    assert exit_code(away) == 1
    assert exit_code(status(worker(0), sides=[side("serving")])) == 0
