"""Settings: what is accepted, what is refused, and which source wins."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.address import Address
from gateway.settings.environment import read_settings
from gateway.settings.values import SECTIONS, CannotStart, Settings


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8001", "127.0.0.1", 8001),
        ("[::1]:8001", "::1", 8001),
        (":8001", "0.0.0.0", 8001),
        ("localhost:0", "localhost", 0),
    ],
)
def test_addresses_are_read_in_every_form(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize("text", ["8001", "host", "host:", "::1:8001", "host:65536", "host:port", "http://host:80", ""])
def test_what_is_no_address_is_refused_with_the_text_that_came(text: str) -> None:
    with pytest.raises(ValueError, match="is no address") as caught:
        Address.parse(text)
    assert repr(text) in str(caught.value)


def test_an_address_prints_as_it_is_read() -> None:
    assert [str(Address.parse(text)) for text in ("[::1]:80", "host:80")] == ["[::1]:80", "host:80"]


def test_every_interface_is_reached_by_loopback() -> None:
    assert str(Address.parse(":80").reachable) == "127.0.0.1:80"
    assert str(Address.parse("[::]:80").reachable) == "127.0.0.1:80"  # also where IPv6 is disabled
    assert str(Address.parse("10.0.0.1:80").reachable) == "10.0.0.1:80"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "workers: -1 is out of range"),
        ({"trace_ratio": 1.5}, "trace_ratio: 1.5 is out of range, expected 0 to 1"),
        ({"trace_ratio": float("nan")}, "trace_ratio: nan"),
        ({"lane": "warp"}, "lane"),
        ({"log_level": "loud"}, "log_level: 'loud' is unknown, expected one of debug"),
        ({"data_address": "8001"}, "data_address: '8001' is no address"),
        ({"data_address": ":9001", "admin_address": ":9001"}, "data_address and admin_address are both on port 9001"),
        ({"unit_header": "X-Unit"}, "unit_header: 'X-Unit' is no name of text metadata"),
        ({"workers": "many"}, "--workers or INTERLOCK_WORKERS"),
        ({"max_message_bytes": 1}, "max_message_bytes: 1 is out of range"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(CannotStart) as caught:
        read_settings(**options)
    assert message in str(caught.value)


def test_free_ports_do_not_clash() -> None:
    settings = read_settings(data_address=":0", admin_address=":0", http_address=":0")
    assert settings.data_port.data_address == settings.http_address


def test_an_option_wins_over_its_variable_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_WORKERS", "3")
    monkeypatch.setenv("INTERLOCK_ADMIN_ADDRESS", "[::1]:7")
    monkeypatch.setenv("INTERLOCK_MODEL_CONTROL", "true")
    settings = read_settings(workers=5, home=None)
    assert (settings.workers, str(settings.admin_address), settings.requests.model_control) == (5, "[::1]:7", True)
    assert settings.data_port == Settings().data_port


def test_a_variable_of_other_programs_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_ADMIN", "10.0.0.1:9001")  # the command line's own
    assert read_settings(home=Path("x")).home == Path("x")


def test_a_variable_that_does_not_fit_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_GRACE_S", "soon")
    with pytest.raises(CannotStart, match=r"INTERLOCK_GRACE_S.*'soon'"):
        read_settings()


def test_every_option_has_one_place() -> None:
    """So that an option reaches the section that is named for it, and only that."""
    names = [item.name for section in (Settings, *SECTIONS.values()) for item in fields(section)]
    assert len(names) == len(set(names))


@given(st.sampled_from([(section, item.name) for section, kind in SECTIONS.items() for item in fields(kind)]))
def test_a_replaced_option_changes_its_section_only(option: tuple[str, str]) -> None:
    section, name = option
    values = {"data_address": Address("host", 1), "lane": "standard", "unit_header": "x"}
    value = values.get(name, {bool: True, int: 3_000_000, float: 1.0}.get(type(getattr(getattr(Settings(), section), name))))
    if name in ("on_demand", "max_concurrent_streams"):
        value = 7
    changed = Settings().replaced(**{name: value})
    assert getattr(getattr(changed, section), name) == value
    others = [one for one in SECTIONS if one != section]
    assert [getattr(changed, one) for one in others] == [getattr(Settings(), one) for one in others]


def test_an_unknown_name_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="warp"):
        Settings.of(warp=9)
