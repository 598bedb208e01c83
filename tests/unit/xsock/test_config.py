"""Settings: precedence, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from xsock import _config
from xsock._config import ConfigError, load
from xsock.usernet import Forward, check_options


def test_defaults() -> None:
    config = load({})
    assert (config.nic.kind, config.resolver, config.linger) == ("usernet", "stack", 5.0)
    assert config.loopback is None


def test_arguments_before_environment_before_file(tmp_path: Path) -> None:
    file = tmp_path / "xsock.toml"
    file.write_text(
        'nic = "lo"\nlinger = 1\nname = "file"\ndns = ["192.0.2.1", "192.0.2.2"]\n'
        "[sysctl]\nnet.inet.tcp.mssdflt = 1000\n"
    )
    environ = {"XSOCK_CONFIG": str(file), "XSOCK_LINGER": "2", "XSOCK_NAME": "environment"}
    config = load(environ, name="argument")
    assert (config.nic.kind, config.linger, config.name) == ("lo", 2.0, "argument")
    assert config.dns == ("192.0.2.1", "192.0.2.2")
    assert config.sysctl == {"net.inet.tcp.mssdflt": 1000}


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"XSOCK_NIC": "token-ring"}, "XSOCK_NIC: 'token-ring': unknown interface kind"),
        ({"XSOCK_ADRR": "1.2.3.4/8"}, "XSOCK_ADRR: unknown variable; allowed: XSOCK_NIC"),
        ({"XSOCK_ADDR": "1.2.3.4"}, "a prefix length is needed"),
        ({"XSOCK_MTU": "20"}, "allowed: 68 to 65535"),
        ({"XSOCK_LINGER": "for ever"}, "XSOCK_LINGER: 'for ever'"),
        ({"XSOCK_LOOPBACK": "none"}, "allowed: stack, host, both"),
        ({"XSOCK_FAULT": "loss=200%"}, "XSOCK_FAULT"),
        ({"XSOCK_SYSCTL": "x"}, "NAME=NUMBER is wanted"),
        ({"XSOCK_FORWARD": "0"}, "ports are 1 to 65535"),
        ({"XSOCK_CONFIG": "/nonexistent"}, "cannot read '/nonexistent'"),
        ({"XSOCK_NIC": "tap:t0"}, "nic tap:t0 needs an address"),
        ({"XSOCK_NIC": "lo", "XSOCK_FORWARD": "80"}, "only nic usernet forwards ports"),
    ],
)
def test_mistakes_are_one_line_that_says_where(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as error:
        load(environ)
    assert message in str(error.value)


def test_an_unknown_setting_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "xsock.toml"
    file.write_text("nick = 'lo'\n")
    with pytest.raises(ConfigError, match="unknown setting 'nick'; allowed: nic,"):
        load({"XSOCK_CONFIG": str(file)})


def test_every_setting_has_an_option_of_the_command() -> None:
    from xsock.cli._settings import ROWS

    assert {row[0] for row in ROWS} == set(_config._READERS) - {"name", "control"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8080", Forward("tcp", "127.0.0.1", 8080, 8080)),
        ("8080:80", Forward("tcp", "127.0.0.1", 8080, 80)),
        ("udp:0.0.0.0:53:5353", Forward("udp", "0.0.0.0", 53, 5353)),
    ],
)
def test_forwards(text: str, value: Forward) -> None:
    assert Forward.parse(text) == value


@pytest.mark.parametrize("text", ["usernet:loopback=maybe", "usernet:flows=0", "usernet:what=1"])
def test_options_of_usernet(text: str) -> None:
    with pytest.raises(ValueError, match="usernet: "):
        check_options(load({"XSOCK_NIC": text}).nic)
