"""Samples and packaged files: current, complete, and the same on every machine."""

import configparser
import os
import pathlib
import re
import socket
import sys

import pytest
import yaml
from oslo_config import cfg

from heatperf.config import load, options, sample
from heatperf.config.paths import packaged_file
from heatperf.errors import ConfigurationError
from heatperf.policy import defaults
from heatperf.policy import sample as policy_sample

REGENERATE = (
    "python -c 'from heatperf.config import sample; print(sample.heat_conf(), end=\"\")' and likewise"
    " heatperf.policy.sample.policy_yaml() write the files anew"
)


def packaged(name: str) -> str:
    return pathlib.Path(packaged_file(name)).read_text()


def test_heat_conf_sample_is_current():
    assert sample.heat_conf() == packaged("heat.conf.sample"), REGENERATE


def test_policy_sample_is_current():
    assert policy_sample.policy_yaml() == packaged("policy.yaml.sample"), REGENERATE


def test_samples_hold_nothing_of_this_machine():
    text = packaged("heat.conf.sample") + packaged("policy.yaml.sample")
    for place in (sys.prefix, os.getcwd(), os.path.expanduser("~"), os.path.dirname(os.__file__)):
        assert place not in text
    assert not re.search(rf"^#\w+ = .*\b{re.escape(socket.gethostname())}\b", text, re.MULTILINE)


def test_heat_conf_sample_offers_every_option_of_ours(tmp_path):
    uncommented = re.sub(r"^#(\w+ =)", r"\1", packaged("heat.conf.sample"), flags=re.MULTILINE)
    (tmp_path / "heat.conf").write_text(uncommented)
    parser = configparser.RawConfigParser(strict=False, default_section="nothing")
    parser.read(tmp_path / "heat.conf")
    for group, opts in options.OPTIONS.items():
        assert {opt.dest for opt in opts} <= set(parser.options(group or "DEFAULT"))
    assert "username" in parser.options("keystone_authtoken")


def test_sample_as_it_stands_changes_nothing(tmp_path):
    (tmp_path / "heat.conf").write_text(packaged("heat.conf.sample"))
    conf = cfg.ConfigOpts()
    load.load(conf, ["--config-file", str(tmp_path / "heat.conf")])
    assert conf.heat_api.bind_port == 8004


def test_policy_sample_uncommented_is_the_defaults():
    uncommented = re.sub(r'^#("[^"]+": )', r"\1", packaged("policy.yaml.sample"), flags=re.MULTILINE)
    assert yaml.safe_load(uncommented) == {rule.name: rule.check_str for rule in defaults.list_rules()}


def test_every_option_says_what_it_costs():
    for group, opts in options.OPTIONS.items():
        for opt in opts:
            assert opt.help, f"[{group}] {opt.name}"
            assert opt.help.endswith("."), f"[{group}] {opt.name}"


def test_incomplete_installation_is_named():
    with pytest.raises(ConfigurationError, match="lacks its file no-such.ini"):
        packaged_file("no-such.ini")


def test_paste_file_has_the_pipelines_of_heat():
    parser = configparser.RawConfigParser()
    parser.read(packaged_file("api-paste.ini"))
    api = dict(parser.items("composite:api"))
    head = "cors request_id faultwrap http_proxy_to_wsgi versionnegotiation authurl"
    assert api["default"] == f"{head} authtoken context osprofiler apiv1app"
    assert api["standalone"] == f"{head} authpassword context apiv1app"
    assert api["custombackend"] == "cors request_id context faultwrap versionnegotiation custombackendauth apiv1app"
    assert api["noauth"] == "cors request_id faultwrap noauth context http_proxy_to_wsgi versionnegotiation apiv1app"
    assert dict(parser.items("composite:heat-api")) == {
        "use": "egg:Paste#urlmap",
        "/": "api",
        "/healthcheck": "healthcheck",
    }
    stations = {name for line in ("default", "standalone", "custombackend", "noauth") for name in api[line].split()}
    for station in stations - {"apiv1app"}:
        assert parser.has_option(f"filter:{station}", "paste.filter_factory")
