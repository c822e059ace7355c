"""The configuration: defaults of the contract, ranges, overrides, and errors in the user's own terms."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nire.errors import ConfigError
from stream.config import DEFAULTS_VARIABLE, Config, is_loopback, load_config, parse_assignment, updated
from stream.config_sections import PlanConfig

DEFAULTS = {
    "source.driver": "auto",
    "source.row_delay_us": 0.0,
    "source.exposure_us": "recorded",
    "source.time_offset_us": "auto",
    "source.settings": {},
    "ring.seconds": 0.5,
    "ring.packet_us": 2000,
    "ring.peak_rate_meps": 12.0,
    "planes.bin_us": 500,
    "window.policy": "auto",
    "window.margin_us": 5000,
    "window.span_us": 33_000,
    "plan.name": "upsample",
    "plan.rate_hz": 400,
    "plan.exposure_us": 0,
    "plan.row_delay_us": 0.0,
    "plan.offset_us": 0,
    "plan.time_budget_ms": 0,
    "reconstructor.backend": "auto",
    "reconstructor.size": "nano",
    "reconstructor.engine": "auto",
    "reconstructor.device": "auto",
    "reconstructor.precision": "auto",
    "reconstructor.contrast_threshold": "auto",
    "publish.bind": "tcp://127.0.0.1:5556",
    "control.bind": "tcp://127.0.0.1:5557",
    "preview.bind": "127.0.0.1:8765",
    "security.server_key": "",
    "security.authorized_keys": "",
}


def value_of(config: Config, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("key", DEFAULTS)
def test_defaults_are_those_of_the_documentation(key: str) -> None:
    assert value_of(Config(), key) == DEFAULTS[key]


def test_every_key_says_what_it_is() -> None:
    for section in Config.model_fields:
        for name, field in type(getattr(Config(), section)).model_fields.items():
            assert field.description, f"{section}.{name}"


def test_file_and_overrides_are_merged_and_the_override_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[plan]\nrate_hz = 100\nexposure_us = 7\n[source.settings]\nserial = 'a'\n")
    config = load_config(path, ["plan.rate_hz=800", "source.settings.gain=2", "source.name=left"])
    assert (config.plan.rate_hz, config.plan.exposure_us) == (800, 7)
    assert config.source.settings == {"serial": "a", "gain": 2}
    assert config.stream_name == "left"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=3", ("a.b", 3)),
        ("a = 3.5 ", ("a", 3.5)),
        ("a=true", ("a", True)),
        ("a=word", ("a", "word")),
        ("a='quoted'", ("a", "quoted")),
        ("a=[1, 2]", ("a", [1, 2])),
        ("a={b = 1}", ("a", {"b": 1})),
        ("a=b=c", ("a", "b=c")),
        ("a=tcp://127.0.0.1:5", ("a", "tcp://127.0.0.1:5")),
        ("a=", ("a", "")),
    ],
)
def test_assignment_takes_toml_and_bare_words(text: str, expected: tuple[str, Any]) -> None:
    assert parse_assignment(text) == expected


@given(st.text(max_size=40))
def test_no_override_ends_in_anything_but_a_config_or_its_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        load_config(None, [text])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("plan.ratehz=1", "unknown key 'plan.ratehz'; did you mean 'plan.rate_hz'"),
        ("plan.exposure=1", "did you mean 'plan.exposure_us'"),
        ("rate_hz=1", "did you mean 'plan.rate_hz'"),
        ("plan.backend=edi", "did you mean 'reconstructor.backend'"),
        ("reconstruct.backend=edi", "did you mean 'reconstructor'"),
        ("offsets.time_offset_us=1", "unknown key 'offsets.time_offset_us'; did you mean 'source.time_offset_us'"),
        ("publish.hwm=1", "there are bind, high_water_mark"),
        ("camera.serial=1", "unknown key 'camera.serial'; there are source, ring"),
        ("zzz=1", "there are source, ring"),
    ],
)
def test_unknown_key_names_the_nearest_or_all_there_are(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_config(None, [setting])
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("plan.rate_hz=0", "greater than 0"),
        ("plan.rate_hz=nan", "plan.rate_hz = nan"),
        ("plan.rate_hz=true", "plan.rate_hz = True: a number is expected, not true or false"),
        ("window.margin_us=false", "window.margin_us = False: a number is expected, not true or false"),
        ("source.time_offset_us=true", "source.time_offset_us = True: a number is expected, not true or false"),
        ("reconstructor.contrast_threshold=[true, 1]", "a number is expected, not true or false"),
        ("source.driver=true", "source.driver = True: input should be a valid string"),
        ("plan.rate_hz=inf", "less than or equal to 100000"),
        ("plan.rate_hz=fast", "valid number"),
        ("plan.exposure_us=-1", "greater than or equal to 0"),
        ("plan.offset_us=nan", "plan.offset_us = nan"),
        ("plan.name=debur", "deblur, unroll, upsample or reshutter"),
        ("planes.bin_us=0.5", "valid integer"),
        ("window.policy=pairs", "'pairs'"),
        ("ring.seconds=1000", "less than or equal to 30"),
        ("source.name=a b", "letters, digits"),
        ("source.exposure_us=short", "recorded, or a number"),
        ("source.exposure_us=-5", "between 0 and"),
        ("source.time_offset_us=1e9", "between -1000000 and"),
        ("reconstructor.device=gpu", "auto, cpu or cuda:N"),
        ("reconstructor.contrast_threshold=0.2", "[positive, negative]"),
        ("reconstructor.contrast_threshold=[0.2]", "[positive, negative]"),
        ("reconstructor.contrast_threshold=[0.2, 9]", "between 0.01 and 2"),
        ("plan=3", "a section [plan] is expected"),
        ("publish.bind=5556", "publish.bind = 5556"),
        ("publish.bind=tcp://127.0.0.1", "tcp://127.0.0.1:5556"),
        ("publish.bind=tcp://127.0.0.1:65536", "tcp://127.0.0.1:5556"),
        ("control.bind=http://127.0.0.1:80", "tcp://127.0.0.1:5556"),
    ],
)
def test_value_out_of_range_is_named_with_what_is_expected(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_config(None, [setting])
    text = str(refusal.value)
    assert message in text
    assert setting.partition("=")[0] in text
    assert not any(word in text for word in ("literal[", "tuple[", "dictionary", "Value error"))


def test_all_faults_are_told_at_once_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("[plan]\nratehz = 100\nexposure_us = -7\n")
    with pytest.raises(ConfigError) as refusal:
        load_config(path)
    lines = str(refusal.value).splitlines()
    assert len(lines) == 2
    assert all("bad.toml" in line for line in lines)


def test_file_that_is_no_toml_is_refused_with_the_place(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("[plan]\nrate_hz = = 3\n")
    with pytest.raises(ConfigError, match="line 2"):
        load_config(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="no TOML"):
        load_config(path)
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("address", "is_near"),
    [
        ("tcp://127.0.0.1:5556", True),
        ("tcp://127.0.0.2:5556", True),
        ("tcp://localhost:5556", True),
        ("tcp://[::1]:5556", True),
        ("ipc:///tmp/x", True),
        ("127.0.0.1:8765", True),
        ("tcp://0.0.0.0:5556", False),
        ("tcp://*:5556", False),
        ("tcp://[::]:5556", False),
        ("tcp://192.168.1.5:5556", False),
        ("tcp://eth0:5556", False),
        ("tcp://localhost.example.org:5556", False),
    ],
)
def test_loopback_is_told_from_the_rest(address: str, is_near: bool) -> None:
    assert is_loopback(address) == is_near


@pytest.mark.parametrize("key", ["publish.bind", "control.bind"])
def test_bind_beyond_loopback_needs_both_keys(key: str) -> None:
    setting = f"{key}=tcp://0.0.0.0:7000"
    for more in ([], ["security.server_key=a"], ["security.authorized_keys=b"]):
        with pytest.raises(ConfigError, match="server_key"):
            load_config(None, [setting, *more])
    load_config(None, [setting, "security.server_key=a", "security.authorized_keys=b"])


@pytest.mark.parametrize(
    ("publish", "control", "preview", "clash"),
    [
        ("tcp://127.0.0.1:6000", "tcp://127.0.0.1:6000", "127.0.0.1:0", ("publish", "control")),
        ("tcp://127.0.0.1:6000", "tcp://127.0.0.1:6001", "127.0.0.1:6000", ("publish", "preview")),
        ("tcp://127.0.0.1:6000", "tcp://127.0.0.1:6001", "localhost:6001", ("control", "preview")),
        ("tcp://127.0.0.1:6000", "tcp://127.0.0.1:6001", "0.0.0.0:6001", ("control", "preview")),
        ("ipc:///a", "ipc:///a", "127.0.0.1:0", ("publish", "control")),
        ("ipc:///a", "ipc:///b", "127.0.0.1:0", ()),
        ("tcp://127.0.0.1:6000", "tcp://127.0.0.2:6000", "[::1]:6000", ()),
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*", "127.0.0.1:0", ()),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", "here", ()),
    ],
)
def test_two_sockets_on_one_address_are_refused_by_both_names(
    publish: str, control: str, preview: str, clash: tuple[str, ...]
) -> None:
    assignments = [f"publish.bind={publish}", f"control.bind={control}", f"preview.bind={preview}"]
    if not clash:
        load_config(None, assignments)
        return
    with pytest.raises(ConfigError, match="are one address") as refusal:
        load_config(None, assignments)
    assert [name for name in ("publish", "control", "preview") if f"{name}.bind" in str(refusal.value)] == list(clash)


def test_update_checks_like_a_file_and_leaves_the_old_alone() -> None:
    plan = PlanConfig()
    assert updated(plan, {"rate_hz": 800}).rate_hz == 800
    assert plan.rate_hz == 400
    for changes in ({"rate_hz": math.nan}, {"ratehz": 3}, {"name": "x"}, {"rate_hz": None}, {"rate_hz": b"\xff"}):
        with pytest.raises(ConfigError):
            updated(plan, changes)


def test_digest_tells_configs_apart() -> None:
    assert Config().digest() == Config().digest()
    assert load_config(None, ["plan.rate_hz=401"]).digest() != Config().digest()


def test_streams_on_other_ports_have_other_names() -> None:
    other = load_config(None, ["publish.bind=tcp://127.0.0.1:6000"])
    assert other.stream_name != Config().stream_name


# Defaults of a machine


def test_environment_gives_defaults_that_file_and_overrides_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(DEFAULTS_VARIABLE, "plan.rate_hz=111 reconstructor.threads=3 'source.name=my_camera-1'")
    path = tmp_path / "a.toml"
    path.write_text("[plan]\nrate_hz = 222\n")
    assert load_config(None).plan.rate_hz == 111
    config = load_config(path, ["reconstructor.threads=1"])
    assert (config.plan.rate_hz, config.reconstructor.threads, config.source.name) == (222, 1, "my_camera-1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plan.rate=3", "NIRE_LIVE_DEFAULTS or --set"),
        ("plan.rate_hz", "no KEY=VALUE"),
        ("a='b", "No closing quotation"),
    ],
)
def test_wrong_environment_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    monkeypatch.setenv(DEFAULTS_VARIABLE, text)
    with pytest.raises(ConfigError, match=said):
        load_config(None)


@pytest.mark.usefixtures("shipped_defaults")
def test_backend_is_chosen_by_what_keeps_up_unless_one_is_named() -> None:
    assert load_config(None).reconstructor.backend == "auto"
