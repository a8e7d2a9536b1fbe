"""A few of ``make faults``, one turn each, and the rules themselves."""

from types import SimpleNamespace

import pytest
from _of_broker import consumer_cancelled, killed
from _requests import Record
from _verdict import CONNECT, RESPONSE, SLACK, Unmet, judge
from stack import RabbitMQ


@pytest.fixture(scope="module")
def node(launcher, stack_directory):
    """A broker that nobody else needs."""
    part = launcher.start(RabbitMQ(stack_directory / "faulty"))
    yield part
    launcher.stop(part)


@pytest.mark.parametrize("fault", [killed, consumer_cancelled])
def test_fault(fault, node, tmp_path):
    assert fault(tmp_path, node, 1)


BEGAN = 100.0
STRIKE, WELL = 110.0, 120.0


def record(marker="a", status=200, seconds=0.1, began=BEGAN, **more):
    return Record(marker, "show", began, began + seconds, status, **more)


def delivery(marker="a", unique="1", link=1):
    return {"marker": marker, "unique": unique, "link": link, "pid": 1}


def stage(records, deliveries, casts=(), keeps=True, log="", hung=0):
    return SimpleNamespace(
        records=records,
        casts=lambda: list(casts),
        deliveries=lambda: deliveries,
        load=SimpleNamespace(hung=hung),
        keeps=keeps,
        slack=0.0,
        strikes=[[STRIKE, WELL]],
        recoveries=[0.5],
        logs=lambda: {"a log": log},
    )


def failed(status=503, error="EngineUnavailable", retry_after="5", seconds=CONNECT, began=STRIKE + 1, **more):
    return record("b", status, seconds, began, error=error, retry_after=retry_after, **more)


def timed_out(**more):
    return failed(**{"status": 500, "error": "MessagingTimeout", "retry_after": None, "seconds": RESPONSE, **more})


def cast(error=""):
    return record("c", 0 if error else 200, began=STRIKE + 1, error=error)


def test_what_is_allowed():
    line = judge(
        stage(
            [record(), failed(), timed_out()],
            [delivery(), delivery("c", "2"), delivery("c", "2", link=2)],
            [cast(), cast("EngineLost")],
        )
    )
    assert line == (
        "3 requests; 1 503 EngineUnavailable, 1 500 MessagingTimeout; 2 casts (1 EngineLost); 1 delivered again by"
        " the broker; longest wait 6.0 s; recovered in 0.5 s"
    )


@pytest.mark.parametrize(
    "broken, reason",
    [
        (stage([record()], [delivery()], hung=1), "hang"),
        (stage([record(wrong="another's")], [delivery()]), "wrong answers"),
        (stage([record(seconds=RESPONSE + SLACK + 0.1)], [delivery()]), "outlived"),
        (stage([failed(retry_after=None)], []), "without Retry-After"),
        (stage([failed()], [delivery("b")]), "an engine has got"),
        (stage([failed(error="Overloaded")], []), "unknown 503"),
        (stage([timed_out(retry_after="1")], []), "500 with"),
        (stage([timed_out(seconds=RESPONSE - 1)], []), "before their time"),
        (stage([timed_out(error="RemoteError")], []), "unknown 500"),
        (stage([record()], [delivery()], [cast()]), "were lost"),
        (stage([record()], [delivery(), delivery("c")], [cast("EngineUnavailable")]), "refused casts"),
        (stage([record()], [delivery()], [cast("KeyError")]), "unknown error"),
        (stage([record()], [delivery(), delivery(unique="2", link=2)]), "sent twice"),
        (stage([record()], [delivery(), delivery()]), "delivered twice"),
        (stage([record()], []), "without an engine"),
        (stage([failed(began=BEGAN)], []), "nothing was wrong"),
        (stage([timed_out(began=WELL + 0.1)], []), "nothing was wrong"),
        (stage([record()], [delivery()], log="Traceback"), "traceback"),
    ],
)
def test_what_is_not(broken, reason):
    with pytest.raises(Unmet, match=reason):
        judge(broken)
