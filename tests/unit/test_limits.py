"""The soft limit of open files."""

import resource

import pytest

from heatperf.server.limits import raise_nofile


@pytest.fixture
def limits():
    """Sets a soft limit; the one before comes back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda soft: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def current():
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def test_the_soft_limit_becomes_the_hard_one(limits):
    limits(512)
    before, now = raise_nofile()
    with open("/proc/sys/fs/nr_open") as file:
        most = int(file.read())
    hard = current()[1]
    assert before == 512 and now == current()[0] == (most if hard == resource.RLIM_INFINITY else min(hard, most))
    assert raise_nofile() == (now, now)


def test_not_beyond_what_the_kernel_grants_and_never_lower(limits, tmp_path):
    nr_open = tmp_path / "nr_open"
    nr_open.write_text("600\n")
    limits(512)
    assert raise_nofile(str(nr_open)) == (512, 600)
    nr_open.write_text("400\n")
    assert raise_nofile(str(nr_open)) == (600, 600) == (600, current()[0])


@pytest.mark.parametrize("text", [None, "", "many"])
def test_a_proc_that_tells_nothing_does_no_harm(limits, tmp_path, text):
    if text is not None:
        (tmp_path / "nr_open").write_text(text)
    limits(512)
    before, now = raise_nofile(str(tmp_path / "nr_open"))
    assert before == 512 and now == current()[0] > 512
