"""Keys: made with the right permissions, and only clients on the list get frames and control."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zmq

from nire.errors import ConfigError, NireError
from nire.types import Frame
from stream.config import Config, check_security
from stream.config_sections import ControlConfig, PublishConfig, SecurityConfig
from stream.sockets import keys
from stream.sockets.connection import Connection
from stream.sockets.control import ControlClient, ControlServer
from stream.sockets.keys import ClientKeys
from stream.sockets.publisher import Publisher
from stream.sockets.subscriber import Subscriber
from tests.waiting import PATIENCE_MS, until

# Tries of 20 ms each. Whoever is let in needs a few; for whoever is not, more would show nothing new.
MANY = PATIENCE_MS // 20

FRAME = Frame(0, np.zeros((2, 2, 1), np.uint8), 0, 1)


@pytest.fixture
def security(tmp_path: Path) -> SecurityConfig:
    _, secret = keys.new("server", tmp_path)
    (tmp_path / "allowed").mkdir()
    return SecurityConfig(server_key=str(secret), authorized_keys=str(tmp_path / "allowed"))


@pytest.fixture
def publisher(security: SecurityConfig) -> Iterator[Publisher]:
    with Publisher(PublishConfig(bind="tcp://127.0.0.1:*"), security) as publisher:
        yield publisher


@pytest.fixture
def control(security: SecurityConfig) -> Iterator[str]:
    stop = threading.Event()
    with ControlServer(ControlConfig(bind="tcp://127.0.0.1:*"), security) as server:

        def serve() -> None:
            while not stop.is_set():
                server.poll(lambda request: {}, timeout_ms=20)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.address
        stop.set()
        thread.join()


def client(tmp_path: Path, name: str, *, listed: bool) -> ClientKeys:
    _, secret = keys.new(name, tmp_path / ("allowed" if listed else "elsewhere"))
    return ClientKeys.load(secret, tmp_path / "server.key")


def gets_frames(publisher: Publisher, client_keys: ClientKeys | None, tries: int) -> bool:
    with Subscriber(publisher.address, ["captured"], keys=client_keys) as subscriber:
        for _ in range(tries):
            publisher.send_captured(FRAME)
            if subscriber.recv(20) is not None:
                return True
    return False


def gets_control(address: str, client_keys: ClientKeys | None, timeout_ms: int) -> bool:
    with ControlClient(address, client_keys, timeout_ms=timeout_ms) as asking:
        try:
            return bool(asking.ask("status")["ok"])
        except NireError:
            return False


def test_client_on_the_list_gets_frames_and_control(publisher: Publisher, control: str, tmp_path: Path) -> None:
    listed = client(tmp_path, "robot", listed=True)
    assert gets_frames(publisher, listed, MANY)
    assert gets_control(control, listed, PATIENCE_MS)


def test_client_that_is_not_on_the_list_gets_neither(publisher: Publisher, control: str, tmp_path: Path) -> None:
    stranger = client(tmp_path, "stranger", listed=False)
    assert not gets_frames(publisher, stranger, 25)
    assert not publisher.wants("captured")
    assert not gets_control(control, stranger, 500)


def test_stream_with_keys_is_met_by_whoever_has_one(publisher: Publisher, control: str, tmp_path: Path) -> None:
    listed = client(tmp_path, "robot", listed=True)
    Connection(publisher.address, control, keys=listed, wait_s=PATIENCE_MS / 1000).close()
    with pytest.raises(NireError, match=r"no stream answers at .* is this client's key on its list"):
        Connection(publisher.address, control, wait_s=0.5)


def test_client_without_keys_gets_neither(publisher: Publisher, control: str) -> None:
    assert not gets_frames(publisher, None, 25)
    assert not gets_control(control, None, 500)


def test_client_with_the_public_key_of_another_gets_neither(publisher: Publisher, tmp_path: Path) -> None:
    listed, stranger = client(tmp_path, "robot", listed=True), client(tmp_path, "stranger", listed=False)
    assert not gets_frames(publisher, replace(stranger, public=listed.public), 25)


def test_key_that_is_added_lets_its_owner_in_without_a_restart(publisher: Publisher, tmp_path: Path) -> None:
    late = client(tmp_path, "late", listed=False)
    assert not gets_frames(publisher, late, 10)
    (tmp_path / "elsewhere" / "late.key").rename(tmp_path / "allowed" / "late.key")
    assert gets_frames(publisher, late, MANY)


def test_owner_of_the_server_key_always_gets_in(publisher: Publisher, security: SecurityConfig) -> None:
    own = ClientKeys.of_server(security)
    assert own is not None
    assert gets_frames(publisher, own, MANY)
    assert ClientKeys.of_server(SecurityConfig()) is None


def test_broken_file_in_the_folder_locks_out_nobody_else(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "allowed" / "broken.key").write_text("no key\n")
    assert gets_frames(publisher, client(tmp_path, "robot", listed=True), MANY)


def test_nobody_gets_in_when_nobody_can_answer_for_them(security: SecurityConfig, tmp_path: Path) -> None:
    with Publisher(PublishConfig(bind="tcp://127.0.0.1:*"), security) as publisher:
        assert publisher._gate is not None
        publisher._gate.close()
        assert not gets_frames(publisher, client(tmp_path, "robot", listed=True), 25)


def test_secret_is_readable_by_its_owner_only_and_a_key_is_never_overwritten(tmp_path: Path) -> None:
    public, secret = keys.new("robot", tmp_path / "keys")
    assert secret.stat().st_mode & 0o777 == 0o600
    assert public.stat().st_mode & 0o777 & ~0o644 == 0
    assert "secret-key" not in public.read_text()
    before = secret.read_text()
    with pytest.raises(ConfigError, match="exists"):
        keys.new("robot", tmp_path / "keys")
    assert secret.read_text() == before


def test_key_files_have_the_form_that_zmq_tools_read(tmp_path: Path) -> None:
    public, secret = keys.new("robot", tmp_path)
    assert zmq.auth.load_certificate(public)[0] == zmq.auth.load_certificate(secret)[0]


@pytest.mark.parametrize("name", ["", "../robot", "a b", ".hidden", "x" * 65])
def test_name_that_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no name for a key"):
        keys.new(name, tmp_path)


def test_secret_that_others_can_read_is_refused_with_the_remedy(security: SecurityConfig) -> None:
    Path(security.server_key).chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        Publisher(PublishConfig(bind="tcp://127.0.0.1:*"), security)


def test_wrong_key_files_are_config_errors(security: SecurityConfig, tmp_path: Path) -> None:
    bind = PublishConfig(bind="tcp://127.0.0.1:*")
    (tmp_path / "text").write_text("hello")
    (tmp_path / "text").chmod(0o600)
    for server_key, words in [
        ("missing", "cannot read"),
        ("text", "no key file"),
        ("server.key", "only a public key"),
    ]:
        with pytest.raises(ConfigError, match=words):
            Publisher(bind, security.model_copy(update={"server_key": str(tmp_path / server_key)}))
    with pytest.raises(ConfigError, match="no folder"):
        Publisher(bind, security.model_copy(update={"authorized_keys": str(tmp_path / "nowhere")}))


@pytest.mark.parametrize("section", ["publish", "control"])
@pytest.mark.parametrize("address", ["tcp://0.0.0.0:5556", "tcp://*:5556", "tcp://[::]:5556", "tcp://10.1.2.3:5556"])
def test_bind_beyond_loopback_without_keys_is_refused(section: str, address: str) -> None:
    config = Config.model_validate({section: {"bind": address}})
    with pytest.raises(ConfigError, match=rf"{section}\.bind.*no keys are set"):
        check_security(config)


def test_subscription_is_heard_only_after_the_key_was_checked(publisher: Publisher, tmp_path: Path) -> None:
    with Subscriber(publisher.address, ["captured"], keys=client(tmp_path, "robot", listed=True)):
        until(lambda: publisher.wants("captured"))


def test_key_that_is_revoked_ends_open_connections_and_others_come_back(
    tmp_path: Path, publisher: Publisher, control: str
) -> None:
    revoked, other = client(tmp_path, "revoked", listed=True), client(tmp_path, "other", listed=True)

    def gets(subscriber: Subscriber) -> bool:
        publisher.send_captured(FRAME)
        return subscriber.recv(20) is not None

    with (
        Subscriber(publisher.address, ["captured"], keys=revoked) as out,
        Subscriber(publisher.address, ["captured"], keys=other) as inside,
        ControlClient(control, revoked, timeout_ms=PATIENCE_MS) as asking,
    ):
        until(lambda: gets(out))
        until(lambda: gets(inside))
        assert asking.ask("status")["ok"]
        (tmp_path / "allowed" / "revoked.key").unlink()
        until(lambda: not any(gets(out) for _ in range(10)))
        until(lambda: gets(inside))
        assert not any(gets(out) for _ in range(10))
        until(lambda: not gets_control(control, revoked, 200))
        assert gets_control(control, other, PATIENCE_MS)
    with ControlClient(control, revoked, timeout_ms=200) as asking, pytest.raises(NireError, match="nobody answers"):
        asking.ask("status")
