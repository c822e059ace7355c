"""CURVE keys: made, read, and checked: who may connect to the sockets of a stream."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import zmq
import zmq.auth
from zmq.utils import z85

from nire.errors import ConfigError
from stream.config_sections import SecurityConfig

_ZAP_ADDRESS = "inproc://zeromq.zap.01"
_STOP_ADDRESS = "inproc://nire-live.zap.stop"
_DOMAIN = b"nire-live"
_LOOK_MS = 500
_HEADER = "# CURVE key of nire-live. {kind}\nmetadata\ncurve\n"


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a client needs to reach a stream with keys.

    Attributes:
        public, secret: the client's own pair, 40 characters of Z85 each.
        server_public: the public key of the stream.
    """

    public: bytes
    secret: bytes
    server_public: bytes

    @classmethod
    def load(cls, own_secret: Path | str, server_public: Path | str) -> ClientKeys:
        """Read a client's secret key file and the server's public key file.

        Raises:
            ConfigError: a file is missing, no key file, or a secret that others can read.
        """
        public, secret = load_secret(Path(own_secret), "the client's secret key")
        return cls(public, secret, load_public(Path(server_public), "the server's public key"))

    @classmethod
    def of_server(cls, security: SecurityConfig) -> ClientKeys | None:
        """Take the server's own key, for clients that its owner starts (preview, ctl); None without keys.

        Raises:
            ConfigError: the server's key cannot be used.
        """
        if not security.server_key:
            return None
        public, secret = load_secret(Path(security.server_key), "security.server_key")
        return cls(public, secret, public)

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Make `socket` speak CURVE as this client; call before connect."""
        socket.curve_publickey = self.public
        socket.curve_secretkey = self.secret
        socket.curve_serverkey = self.server_public


def new(name: str, folder: Path | str) -> tuple[Path, Path]:
    """Make a key pair: `NAME.key` to give away and `NAME.key_secret` to keep (mode 0600).

    Args:
        name: letters, digits, `_ . -`.
        folder: made if missing.

    Returns:
        (public file, secret file).

    Raises:
        ConfigError: the name is unusable, or a key of that name exists (it is never overwritten).
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name):
        raise ConfigError(f"{name!r} is no name for a key: use 1 to 64 letters, digits, '_', '.', '-'")
    public, secret = zmq.curve_keypair()
    folder = Path(folder)
    public_file, secret_file = folder / f"{name}.key", folder / f"{name}.key_secret"
    public_text = _HEADER.format(kind="Public: give it to the other side.") + f'    public-key = "{public.decode()}"\n'
    secret_text = (
        _HEADER.format(kind="SECRET: keep it to yourself.")
        + f'    public-key = "{public.decode()}"\n    secret-key = "{secret.decode()}"\n'
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if public_file.exists():
            raise FileExistsError(public_file)
        _write_new(secret_file, secret_text, 0o600)
        _write_new(public_file, public_text, 0o644)
    except FileExistsError:
        raise ConfigError(f"a key named {name!r} exists in {folder}: choose another name, or delete it first") from None
    except OSError as error:
        raise ConfigError(f"cannot write keys to {folder}: {error.strerror}") from error
    return public_file, secret_file


def load_public(file: Path, what: str) -> bytes:
    """Read the public key of a key file, 40 characters of Z85.

    Raises:
        ConfigError: it says `what` could not be read and how to make it.
    """
    return _load(file, what)[0]


def load_secret(file: Path, what: str) -> tuple[bytes, bytes]:
    """Read (public, secret) of a secret key file.

    Raises:
        ConfigError: missing, no key file, a public one, or readable by others.
    """
    public, secret = _load(file, what)
    if secret is None:
        raise ConfigError(f"{what} {file} holds only a public key: name the file that ends in .key_secret")
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        raise ConfigError(f"{what} {file} can be read by others (mode {mode:04o}): run 'chmod 600 {file}'")
    return public, secret


class Gate:
    """Guards the sockets of one context: CURVE on, and only keys of the allow-list pass.

    Without keys in the config it does nothing. The folder is read again at every new connection, so a key
    that is added lets its owner in, and one that is removed keeps its owner out, without a restart; twice a second it
    is read for those who are in already (`revoked`). The server's own key always passes: whoever holds its secret could
    take its place anyway.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], security: SecurityConfig) -> None:
        """Read the keys and start to answer libzmq's questions (RFC 27, ZAP), if keys are set.

        Raises:
            ConfigError: the server's key or the folder cannot be used.
        """
        self._thread: threading.Thread | None = None
        self._pair: tuple[bytes, bytes] | None = None
        self._revoked = threading.Event()
        if not security.server_key:
            return
        self._pair = load_secret(Path(security.server_key), "security.server_key")
        folder = Path(security.authorized_keys)
        if not folder.is_dir():
            raise ConfigError(
                f"security.authorized_keys = {str(folder)!r} is no folder: make it and put the public keys "
                "(NAME.key) of the clients there"
            )
        self._stop: zmq.Socket[bytes] = context.socket(zmq.PAIR)
        self._stop.linger = 0
        self._stop.bind(_STOP_ADDRESS)
        stop = context.socket(zmq.PAIR)
        stop.connect(_STOP_ADDRESS)
        questions = context.socket(zmq.REP)
        questions.linger = 0
        questions.bind(_ZAP_ADDRESS)
        self._thread = threading.Thread(
            target=_answer, args=(questions, stop, folder, self._pair[0], self._revoked), name="zap", daemon=True
        )
        self._thread.start()

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Put `socket` behind the gate; call before bind."""
        if self._pair is None:
            return
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = self._pair
        socket.zap_domain = _DOMAIN
        # Without this libzmq lets everybody in when nobody answers its question.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def revoked(self) -> bool:
        """Tell, once, that a key which has passed is not on the list any more."""
        if not self._revoked.is_set():
            return False
        self._revoked.clear()
        return True

    def close(self) -> None:
        """Stop answering; safe to call twice."""
        if self._thread is None:
            return
        self._stop.send(b"")
        self._thread.join()
        self._stop.close()
        self._thread = None

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


def authorized(folder: Path) -> set[bytes]:
    """Public keys (Z85) of all `*.key` files in a folder; files that are no keys are passed over."""
    keys = set()
    for file in sorted(folder.glob("*.key")):
        try:
            keys.add(load_public(file, "an authorized key"))
        except ConfigError:
            # One broken file must lock out its owner only, not everybody.
            continue
    return keys


def _answer(
    questions: zmq.Socket[bytes], stop: zmq.Socket[bytes], folder: Path, own: bytes, revoked: threading.Event
) -> None:
    passed: set[bytes] = set()
    with questions, stop:
        poller = zmq.Poller()
        poller.register(questions, zmq.POLLIN)
        poller.register(stop, zmq.POLLIN)
        while stop not in (ready := dict(poller.poll(_LOOK_MS))):
            allowed = authorized(folder) | {own}
            if not passed <= allowed:
                passed &= allowed
                revoked.set()
            if questions in ready:
                questions.send_multipart(_verdict(questions.recv_multipart(), allowed, passed))


def _verdict(question: list[bytes], allowed: set[bytes], passed: set[bytes]) -> list[bytes]:
    """Answer libzmq's question about a key, and note who has passed."""
    version, request = question[0], question[1]
    key = z85.encode(question[6]) if len(question) == 7 and len(question[6]) == 32 else b""
    may_pass = question[5] == b"CURVE" and key in allowed
    if may_pass:
        passed.add(key)
    code, text = (b"200", b"OK") if may_pass else (b"400", b"key not on the list")
    return [version, request, code, text, b"", b""]


def _load(file: Path, what: str) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(file)
    except OSError as error:
        reason = error.strerror or "no such file"
        raise ConfigError(f"cannot read {what} {file}: {reason}. Make one with 'nire-live keys new NAME'") from error
    except ValueError as error:
        raise ConfigError(f"{what} {file} is no key file: make one with 'nire-live keys new NAME'") from error
    if len(public) != 40 or (secret is not None and len(secret) != 40):
        raise ConfigError(f"{what} {file} is damaged: a key has 40 characters. Make a new one")
    return public, secret


def _write_new(file: Path, text: str, mode: int) -> None:
    # Created with its final mode: at no moment can somebody else read a secret.
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as out:
        out.write(text)
