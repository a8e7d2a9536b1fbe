"""The command line: what it refuses, with which words, and always with exit code 2."""

import os
import pathlib
import subprocess
import sys

import pytest
from oslo_config import cfg

import heatperf
from heatperf import cli
from heatperf.config.paths import packaged_file
from heatperf.pipeline import application

BIN = pathlib.Path(sys.executable).parent
PASSWORD = "s3cret-of-broker"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """No configuration but that of the test."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("OS_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def heat_conf(tmp_path):
    def write(text=""):
        path = tmp_path / "heat.conf"
        path.write_text("[DEFAULT]\ntransport_url = fake://\n[paste_deploy]\nflavor = noauth\n" + text)
        (tmp_path / "api-paste.ini").write_text(pathlib.Path(packaged_file("api-paste.ini")).read_text())
        return str(path)

    return write


def refused(capsys, *arguments, program=cli.heat_api):
    """Run in this process what is refused before anything is set up, and return what it said."""
    try:
        code = program(list(arguments))
    except SystemExit as leaving:
        code = leaving.code
    captured = capsys.readouterr()
    assert code == 2, captured
    assert captured.out == ""
    return captured.err


class TestBeforeAnythingStarts:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--bind", "nonsense"], ["ERROR: --bind nonsense is not an address", "HOST:PORT"]),
            (["--bind", "::1:8004"], ["--bind ::1:8004", "[IPV6]:PORT"]),
            (["--bind", "127.0.0.1:http"], ["'http' is not a port number"]),
            (["--bind", "127.0.0.1:70000"], ["'70000' is not a port number"]),
            (["--bind", "unix:"], ["the path is missing"]),
            (["--bind", "unix:/x,mode=rw"], ["'rw' is not an octal mode"]),
            (["--bind", "unix:/x,colour=red"], ["'colour=red' is not understood"]),
            (["--loop", "asyncio"], ["invalid choice: 'asyncio'"]),
            (["--engine", "mine"], ["invalid choice: 'mine'"]),
            (["--workers", "many"], ["--workers many is not a number"]),
            (["--workers", "-2"], ["--workers -2"]),
            (["--workers", "4097"], ["--workers 4097", "4096"]),
            (["--workers", "9" * 5000], ["4096"]),
            (["--nonsense"], ["unrecognized arguments: --nonsense"]),
            (["--work", "3"], ["--work"]),  # no abbreviations: another flag may come
            (["surplus"], ["unrecognized arguments: surplus"]),
            (["--dev", "--bind", "0.0.0.0:0"], ["development mode has no authentication", "0.0.0.0:0"]),
            (["--dev", "--bind", "[::]:0"], ["development mode has no authentication"]),
            (["--dev", "--bind", "127.0.0.1:0", "--bind", "heat.example:80"], ["heat.example:80"]),
        ],
    )
    def test_flags(self, heat_conf, capsys, arguments, words):
        said = refused(capsys, "--config-file", heat_conf(), *arguments)
        assert all(word in said for word in words), said

    def test_a_loop_without_its_library(self, heat_conf, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "uvloop", None)  # what keeps it from being found
        said = refused(capsys, "--config-file", heat_conf(), "--loop", "uvloop")
        assert "--loop uvloop needs uvloop, which is not installed" in said and "use --loop gevent" in said

    @pytest.mark.parametrize("name", ["heat-api-cfn", "heat-api-cloudwatch"])
    def test_other_programs(self, capsys, name):
        said = refused(capsys, name)
        assert f"{name} is not served" in said and "upstream" in said

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("[heat_api]\ncert_file = {cert}\n", ["[heat_api] key_file", "but key_file is not set"]),
            ("[heat_api]\nkey_file = {cert}\n", ["[heat_api] cert_file", "but cert_file is not set"]),
            ("[heat_api]\ncert_file = /nowhere.pem\nkey_file = {cert}\n", ["/nowhere.pem"]),
            ("[heat_api]\nbind_port = eight\n", ["heat.conf:6, [heat_api] bind_port", "eight"]),
            ("[heat_api]\nworkers = -1\n", ["heat.conf:6, [heat_api] workers"]),
            ("[heatperf]\nrpc_concurrency = 0\n", ["heat.conf:6, [heatperf] rpc_concurrency"]),
            ("[heatperf]\nwatchdog_timeout = 1\n", ["heat.conf:6, [heatperf] watchdog_timeout", "at least 5, or 0"]),
        ],
    )
    def test_files(self, heat_conf, tmp_path, capsys, text, words):
        (tmp_path / "cert.pem").write_text("x")
        said = refused(capsys, "--config-file", heat_conf(text.format(cert=tmp_path / "cert.pem")))
        assert said.startswith("ERROR: ") and all(word in said for word in words), said

    def test_configuration_that_is_not_there(self, capsys, tmp_path):
        said = refused(capsys, "--config-file", str(tmp_path / "absent.conf"))
        assert f"{tmp_path}/absent.conf" in said

    @pytest.mark.parametrize(
        "arguments", [[], ["frobnicate"], ["config"], ["config", "frob"], ["config", "sample", "x"]]
    )
    def test_commands(self, capsys, arguments):
        assert "usage: heatperf" in refused(capsys, *arguments, program=cli.main)

    @pytest.mark.parametrize(
        ("program", "arguments", "name"),
        [
            (cli.heat_api, [], "heat-api"),
            (cli.main, ["serve"], "heatperf serve"),
            (cli.main, ["config", "check"], "heatperf config"),
            (cli.main, ["config", "show"], "heatperf config"),
        ],
    )
    @pytest.mark.parametrize(
        ("flag", "words"), [("--frob", "unrecognized arguments: --frob"), ("--config-file", "expected one argument")]
    )
    def test_unknown_flag_shows_one_usage_under_the_own_name(self, capsys, program, arguments, name, flag, words):
        said = refused(capsys, *arguments, flag, program=program)
        assert said.startswith(f"usage: {name} [-h]") and said.count("usage:") == 1
        assert "--bind" in said and words in said and f"{name} --help lists the flags of oslo.config" in said

    @pytest.mark.parametrize(
        "arguments", [["sample", "--flavor", "noauth"], ["sample", "x"], ["show", "--policy"], ["check", "--policy"]]
    )
    def test_flags_of_other_commands(self, capsys, arguments):
        assert arguments[1] in refused(capsys, "config", *arguments, program=cli.main)


class TestHelp:
    @pytest.mark.parametrize(
        ("program", "arguments", "example"),
        [
            (cli.main, ["--help"], "heatperf serve --config-file"),
            (cli.main, ["serve", "--help"], "heatperf serve --config-file"),
            (cli.heat_api, ["--help"], "heat-api --config-file"),
        ],
    )
    def test_example_and_the_way_to_the_check(self, capsys, program, arguments, example):
        with pytest.raises(SystemExit) as leaving:
            program(arguments)
        said = capsys.readouterr().out
        assert leaving.value.code == 0
        assert f"  {example} /etc/heat/heat.conf\n" in said and "  heatperf config check --config-file" in said


class TestCheck:
    """``config check`` takes the flags of serve and tries what they make of the configuration."""

    @staticmethod
    def checked(capsys, *arguments):
        code = cli.main(["config", "check", *arguments])
        lines = capsys.readouterr().out.splitlines()
        return code, [line for line in lines if line.startswith("ERROR")], lines

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--bind", "nonsense"], "--bind nonsense is not an address"),
            (["--workers", "many"], "--workers many is not a number"),
            (["--flavor", "nonsense"], "nonsense"),
            (["--paste", "/nowhere.ini"], "/nowhere.ini"),
            (["--dev", "--bind", "0.0.0.0:0"], "development mode has no authentication"),
            (["--log-file", "/nowhere/x.log"], "no directory /nowhere"),
            (["--log-config-append", "/nowhere.ini"], "/nowhere.ini: No such file"),
        ],
    )
    def test_refused_like_a_start(self, heat_conf, capsys, arguments, words):
        code, errors, _ = self.checked(capsys, "--config-file", heat_conf(), *arguments)
        assert code == 2 and len(errors) == 1 and words in errors[0], errors

    @pytest.mark.parametrize("arguments", [["--workers", "3"], ["--bind", "unix:/x"], ["--flavor", "noauth"], []])
    def test_accepted(self, heat_conf, capsys, arguments):
        code, errors, lines = self.checked(capsys, "--config-file", heat_conf(), *arguments)
        assert (code, errors) == (0, []), lines

    def test_development_mode_needs_no_file(self, capsys):
        code, _, lines = self.checked(capsys, "--dev")
        assert (code, lines[-1].startswith("no file: 0 error(s)")) == (0, True)

    def test_broker_that_is_not_set_is_an_error(self, heat_conf, capsys):
        path = pathlib.Path(heat_conf())
        path.write_text(path.read_text().replace("transport_url = fake://\n", ""))
        code, errors, lines = self.checked(capsys, "--config-file", str(path))
        assert code == 2 and len(errors) == 1 and "[DEFAULT] transport_url: it is not set" in errors[0]
        assert not any("guest" in line for line in lines)

    def test_everything_at_once(self, heat_conf, capsys, tmp_path):
        path = pathlib.Path(heat_conf("[heat_api]\nworkers = many\n"))
        path.write_text(path.read_text().replace("transport_url = fake://\n", ""))
        (tmp_path / "policy.yaml").write_text('"a: b\n')
        code, errors, _ = self.checked(capsys, "--config-file", str(path), "--paste", "/nowhere.ini", "--bind", "x")
        for words in ("--bind x", "'many'", "transport_url", "policy.yaml", "/nowhere.ini"):
            assert len([line for line in errors if words in line]) == 1, (words, errors)
        assert (code, len(errors)) == (2, 5)

    def test_rules_that_nothing_asks_for(self, heat_conf, capsys, tmp_path):
        path = heat_conf()
        (tmp_path / "policy.yaml").write_text('"stacks:indx": "!"\n')
        _, _, lines = self.checked(capsys, "--config-file", path)
        assert any("policy.yaml: " in line and "'stacks:index'?" in line for line in lines), lines

    @pytest.mark.parametrize(
        ("url", "text", "reason"),
        [
            ("fake://", "", "[DEFAULT] transport_url: the driver is fake, not rabbit"),
            (
                "rabbit://u:p@h/",
                "[oslo_messaging_rabbit]\nkombu_compression = lzma\n",
                "[oslo_messaging_rabbit] kombu_compression: a compression by lzma",
            ),
            (
                "rabbit://u:p@h/?rabbit_login_method=RABBIT-CR-DEMO",
                "",
                "[oslo_messaging_rabbit] rabbit_login_method: a login by RABBIT-CR-DEMO",
            ),
            (
                "rabbit://u:p@h/",
                "[oslo_messaging_metrics]\nmetrics_enabled = true\n",
                "[oslo_messaging_metrics] metrics_enabled: oslo.messaging itself counts its messages",
            ),
        ],
    )
    def test_stock_messaging_instead_of_the_lean_transport(self, heat_conf, capsys, caplog, url, text, reason):
        path = pathlib.Path(heat_conf(text))
        path.write_text(path.read_text().replace("fake://", url))
        code, errors, lines = self.checked(capsys, "--config-file", str(path))
        said = f"RPC goes over stock oslo.messaging, not the lean transport, because of {reason}"
        assert (code, errors) == (0, []) and lines.count(f"WARNING: {said}") == 1, lines
        caplog.clear()
        application.build(cfg.CONF, "rpc")  # as a start does, and its log says the same
        assert said in caplog.messages
        path.write_text(path.read_text() + "[heatperf]\nrpc_transport = lean\n")
        code, errors, lines = self.checked(capsys, "--config-file", str(path))
        option, _, what = reason.partition(": ")
        assert (code, len(errors)) == (2, 1) and errors[0].startswith(
            f"ERROR: {option}: the lean RPC transport cannot do what is configured: {what} ("
        )
        path.write_text(path.read_text().replace("rpc_transport = lean", "rpc_transport = oslo"))
        code, errors, lines = self.checked(capsys, "--config-file", str(path))
        assert (code, errors) == (0, []) and "oslo.messaging, not" not in "".join(lines)

    def test_advice_is_not_lost_beside_errors(self, heat_conf, capsys):
        """Nobody is asked for advice on what would be refused; what building it has said is told all the same."""
        code = cli.main(["config", "check", "--config-file", heat_conf(), "--paste", "/nowhere.ini"])
        said = capsys.readouterr()
        assert code == 2 and "ERROR: " in said.out and "RPC goes over stock" not in said.out
        assert said.err.count("RPC goes over stock oslo.messaging, not the lean transport, because of") == 1, said.err

    def test_a_broker_that_nobody_verifies(self, heat_conf, capsys):
        path = pathlib.Path(heat_conf("[oslo_messaging_rabbit]\nssl = true\n"))
        path.write_text(path.read_text().replace("fake://", "rabbit://u:p@h/"))
        _, _, lines = self.checked(capsys, "--config-file", str(path))
        assert any("WARNING: [oslo_messaging_rabbit] ssl_ca_file is not set" in line for line in lines), lines

    def test_show_takes_them_too(self, heat_conf, capsys):
        assert cli.main(["config", "show", "--config-file", heat_conf(), "--flavor", "standalone"]) == 0
        assert "# command line of heatperf\nflavor = standalone\n" in capsys.readouterr().out


def run(*arguments, program="heat-api", **more):
    """Run a program to its end; it may not be one that serves."""
    return subprocess.run([BIN / program, *arguments], capture_output=True, text=True, timeout=60, **more)


class TestWhileStarting:
    """Refusals that need everything loaded, so in a process of their own."""

    @pytest.mark.parametrize(
        ("text", "arguments", "words"),
        [
            (
                "",
                ["--flavor", "nonsense"],
                ["there is no pipeline for flavor 'nonsense'", "api-paste.ini"],
            ),
            ("", ["--paste", "/nowhere.ini"], ["Unable to locate config file [/nowhere.ini]"]),
            (
                f"[DEFAULT]\ntransport_url = rabbit://heat:{PASSWORD}@broker:port/\n",
                [],
                ["heat.conf:6, [DEFAULT] transport_url", "its port is no number"],
            ),
            (f"[DEFAULT]\ntransport_url = rabit://heat:{PASSWORD}@broker/\n", [], ["[DEFAULT] transport_url"]),
            ("[DEFAULT]\nlog_file = /nowhere/heat.log\n", [], ["/nowhere/heat.log"]),
        ],
    )
    def test_refusal(self, heat_conf, text, arguments, words):
        done = run("--config-file", heat_conf(text), *arguments)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr and PASSWORD not in done.stderr + done.stdout
        last = done.stderr[done.stderr.index("ERROR: ") :]
        assert all(word in last for word in words), done.stderr

    def test_no_broker_is_guessed(self, heat_conf, tmp_path):
        path = pathlib.Path(heat_conf())
        path.write_text(path.read_text().replace("transport_url = fake://\n", ""))
        done = run("--config-file", str(path))
        assert (done.returncode, "ERROR: [DEFAULT] transport_url: it is not set" in done.stderr) == (2, True)

    def test_no_broker_is_guessed_nor_said_to_be(self, heat_conf):
        path = pathlib.Path(heat_conf())
        path.write_text(path.read_text().replace("transport_url = fake://\n", ""))
        assert "RPC goes to guest" not in run("--config-file", str(path)).stdout

    @pytest.mark.parametrize(
        "command",
        [[BIN / "heat-api"], [BIN / "heatperf", "serve"], [sys.executable, "-m", "heatperf", "serve"]],
        ids=str,
    )
    def test_log_file_has_one_name(self, heat_conf, tmp_path, command):
        (tmp_path / "logs").mkdir()
        path = heat_conf(f"[DEFAULT]\nlog_dir = {tmp_path}/logs\n")
        done = subprocess.run(
            [*command, "--config-file", path, "--paste", "/nowhere.ini"], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2
        assert [file.name for file in (tmp_path / "logs").iterdir()] == ["heat-api.log"]

    def test_address_of_the_file_and_its_old_name(self, heat_conf):
        """192.0.2.1 is for documentation (RFC 5737): no host has it."""
        done = run("--config-file", heat_conf("[DEFAULT]\nbind_host = 192.0.2.1\n"))
        assert done.returncode == 2
        last = done.stderr[done.stderr.index("ERROR: ") :]
        assert "heat.conf:6, [DEFAULT] bind_host: cannot listen on 192.0.2.1:8004" in last
        assert done.stdout.count("an old name of [heat_api] bind_host") == 1
        assert "eprecat" not in done.stderr

    def test_default_paste_file_is_missing(self, heat_conf, tmp_path):
        path = heat_conf()
        (tmp_path / "api-paste.ini").unlink()
        done = run("--config-file", path)
        assert done.returncode == 2
        assert "ERROR: Unable to locate config file [api-paste.ini]" in done.stderr

    @pytest.mark.parametrize("program", ["heat-api", "heatperf"])
    def test_version(self, program):
        done = run("--version", program=program)
        assert (done.returncode, done.stdout) == (0, f"{heatperf.__version__}\n")

    def test_help_names_the_flags_of_both_parsers(self):
        done = run("--help")
        assert done.returncode == 0
        assert all(flag in done.stdout for flag in ("--config-file", "--bind", "--workers", "--log-config-append"))

    def test_usage_of_an_unknown_flag_shows_ours(self, heat_conf):
        done = run("--config-file", heat_conf(), "--nonsense")
        assert "--bind" in done.stderr
