"""Our declarations of oslo.messaging's options, and our reading of its URLs, are its own."""

import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_config import cfg

from heatperf.config import messaging, transport_url

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import oslo_messaging
    from keystonemiddleware import audit
    from oslo_messaging import opts as stock_opts
    from oslo_messaging._metrics import client as stock_metrics
    from oslo_messaging._tracing import client as stock_tracing


def stock() -> dict[str | None, list[cfg.Opt]]:
    return {
        **dict(stock_opts.list_opts()),
        messaging.METRICS: stock_metrics.oslo_messaging_metrics,
        messaging.TRACING: stock_tracing.oslo_messaging_tracing,
        **dict(audit.list_opts()),
    }


def facts(opt: cfg.Opt) -> dict[str, Any]:
    """What decides which values an option has, and under which names."""
    choices = getattr(opt.type, "choices", None)
    return {
        "type": type(opt.type),
        "range": (getattr(opt.type, "min", None), getattr(opt.type, "max", None)),
        "choices": choices and list(choices),
        "default": opt.default,
        "multi": opt.multi,
        "old names": {(old.group, old.name) for old in opt.deprecated_opts},
        "goes": opt.deprecated_for_removal,
        "sample": opt.sample_default,
    }


def test_the_same_groups_and_names():
    assert {group: [opt.dest for opt in opts] for group, opts in messaging.OPTIONS.items()} == {
        group: [opt.dest for opt in opts] for group, opts in stock().items()
    }


@pytest.mark.parametrize("group", messaging.OPTIONS)
def test_the_same_facts(group):
    # Heat's own default of it, and a default that depends on who asks
    depends = ("control_exchange", "processname")
    for ours, theirs in zip(messaging.OPTIONS[group], stock()[group], strict=True):
        one, other = facts(ours), facts(theirs)
        if ours.dest in depends:
            del one["default"], other["default"]
        assert one == other, ours.dest
        assert ours.secret >= theirs.secret


def test_both_may_be_registered_in_any_order():
    theirs = stock()
    for first, second in ((messaging.OPTIONS, theirs), (theirs, messaging.OPTIONS)):
        conf = cfg.ConfigOpts()
        for declarations in (first, second):
            for group, opts in declarations.items():
                conf.register_opts(opts, group=group)


def parts(url: Any) -> Any:
    return (
        url.transport,
        [(host.hostname, host.port, host.username, host.password) for host in url.hosts],
        url.virtual_host,
        url.query,
    )


def outcome(parse: Any, text: str) -> Any:
    try:
        return parse(text)
    except (oslo_messaging.InvalidTransportURL, ValueError):
        return "refused"


def ours(text: str) -> Any:
    url = transport_url.parse(text)
    hosts = [(host.name, host.port, host.user, host.password) for host in url.hosts]
    return url.driver, hosts, url.vhost, url.query


PIECES = st.sampled_from(
    [
        "rabbit", "kombu+memory", "://", ":/", "/", "//", "@", ":", ",", "?", "&", "=", "#", "[", "]", "[::1]", "%40",
        "%2F", "heat", "a.b", "5672", "x", "u:p@h:1", "h2", "ssl=1", "", " ", "é", "1.2.3.4", "+",
    ]
)  # fmt: skip


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(
    st.lists(PIECES, max_size=12).map("".join) | st.lists(PIECES, max_size=12).map(lambda p: "rabbit://" + "".join(p))
)
def test_urls_are_taken_apart_as_oslo_messaging_does(text):
    conf = cfg.ConfigOpts()
    conf.register_opts(messaging.OPTIONS[None])
    if text:
        theirs = outcome(lambda text: parts(oslo_messaging.TransportURL.parse(conf, text)), text)
        assert outcome(ours, text) == theirs
