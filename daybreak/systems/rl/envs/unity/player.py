"""One Unity player and the line to it: Python hosts a gRPC server on this machine, the player calls it.

Each call of the player brings what happened and waits for what to do next. It knows the protocol's order (handshake,
reset, steps, quit) and settings of the engine; it knows nothing about agents. A player that hangs, dies or speaks
another version is told in one line.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from daybreak.errors import UserError
from daybreak.systems.rl.envs.unity.messages import METHOD, OK, QUIT, RESET, SERVICE, STEP, VERSION, message

EDITOR_PORT = 5004
"""Where the Unity editor looks for Python when Play is pressed."""
ENGINE = uuid.UUID("e951342c-4f7e-11ea-b238-784f4387d1f7")
PARAMETERS = uuid.UUID("534c891e-810f-11ea-a9d0-822485860400")
"""Side channels of the protocol: the engine's settings, the environment's parameters."""


def executable(path: str) -> Path:
    """The player's file. Raises `UserError` with the exact path that is not there and the way by the editor."""
    given = Path(path).expanduser().absolute()
    tries = [given, *(given.with_name(given.name + end) for end in (".x86_64", ".x86", ".exe", ".app"))]
    for found in tries:
        if found.suffix == ".app" and found.is_dir():
            inside = sorted((found / "Contents" / "MacOS").glob("*"))
            if inside:
                return inside[0]
        if found.is_file():
            if not os.access(found, os.X_OK):
                raise UserError(f"the Unity player {found} cannot be run: chmod +x {found}")
            return found
    raise UserError(
        f"no Unity player at {given}; build one there, or press Play in the editor and name unity:editor "
        f"(port {EDITOR_PORT}, option port)"
    )


def settings(engine: Mapping[str, float], parameters: Mapping[str, float]) -> bytes:
    """Messages of both side channels: 16 bytes of channel, a length, the content, all little-endian."""
    contents: list[tuple[uuid.UUID, bytes]] = []
    if "width" in engine:
        contents.append((ENGINE, struct.pack("<iii", 0, int(engine["width"]), int(engine["height"]))))
    for kind, (key, form) in enumerate(
        [("quality", "<ii"), ("time_scale", "<if"), ("target_frame_rate", "<ii"), ("capture_frame_rate", "<ii")], 1
    ):
        if key in engine:
            value = engine[key]
            contents.append((ENGINE, struct.pack(form, kind, value if form == "<if" else int(value))))
    for name, value in parameters.items():
        text = name.encode("ascii")
        contents.append((PARAMETERS, struct.pack("<i", len(text)) + text + struct.pack("<if", 0, value)))
    return b"".join(channel.bytes_le + struct.pack("<i", len(content)) + content for channel, content in contents)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Player:
    """A running player. `send` answers its pending call, `receive` waits for the next one: in turn."""

    def __init__(
        self, path: Path | None, port: int, seed: int, timeout: float, arguments: list[str], side_channel: bytes
    ) -> None:
        import grpc

        self.timeout, self.name = timeout, str(path or f"the editor at port {port}")
        self._calls: queue.Queue[Any] = queue.Queue()
        self._answers: queue.Queue[Any] = queue.Queue()
        self._closed, self._pending = False, False
        self._settings = side_channel
        kind = message("UnityMessageProto")
        handler = grpc.unary_unary_rpc_method_handler(
            self._exchange, request_deserializer=kind.FromString, response_serializer=kind.SerializeToString
        )
        # As large as pictures may get; the default is 4 MiB.
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.server(ThreadPoolExecutor(2), options=options)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        try:
            # This machine only: the protocol knows no password.
            if not self._server.add_insecure_port(f"127.0.0.1:{port}"):
                raise RuntimeError("not bound")
        except RuntimeError as error:
            raise UserError(f"port {port} is taken: end the other player, or give another with option port") from error
        self._server.start()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)
        try:
            if path is not None:
                self._process = subprocess.Popen(
                    [str(path), "--mlagents-port", str(port), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                )
            self.hello: Any = self._handshake(seed)
        except OSError as error:
            self.close()
            raise UserError(f"{self.name} cannot be started: {error.strerror or error}") from error
        except BaseException:
            self.close()
            raise

    def send(self, command: int, actions: Mapping[str, Any]) -> None:
        """Tell the player what to do; `actions` are lists of AgentActionProto by behaviour."""
        answer = message("UnityMessageProto")()
        answer.header.status = OK
        answer.unity_input.rl_input.command = command
        if self._settings:
            answer.unity_input.rl_input.side_channel, self._settings = self._settings, b""
        for behaviour, values in actions.items():
            answer.unity_input.rl_input.agent_actions[behaviour].value.extend(values)
        self._reply(answer)

    def receive(self) -> Any:
        """What happened: UnityOutputProto. Raises `UserError` where nothing comes."""
        return self._next().unity_output

    def reset(self) -> Any:
        """Start everything anew."""
        self.send(RESET, {})
        return self.receive()

    def step(self, actions: Mapping[str, Any]) -> Any:
        """Act and wait."""
        self.send(STEP, actions)
        return self.receive()

    def close(self) -> None:
        """Tell the player to quit, wait a little, end it where it does not."""
        if self._closed:
            return
        # One that hangs waits for no farewell.
        patience = 3.0 if self._pending else 0.0
        if self._pending:
            farewell = message("UnityMessageProto")()
            farewell.header.status = QUIT
            self._reply(farewell)
        self._closed = True
        atexit.unregister(self.close)
        if self._process is not None:
            for kind in (0, signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
                if kind:
                    self._end(kind)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(2.0 if kind else patience)
                    break
        self._server.stop(0.2).wait(2)

    def _end(self, kind: int) -> None:
        """A signal to the player and what it started: it leads a session of its own."""
        assert self._process is not None
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                self._process.terminate()
            else:
                os.killpg(self._process.pid, kind)

    def _handshake(self, seed: int) -> Any:
        hello = self._next().unity_output.rl_initialization_output
        theirs, ours = hello.communication_version, VERSION
        if theirs.split(".")[0] != ours.split(".")[0]:
            raise UserError(f"{self.name} speaks version {theirs or 'none'} of the protocol, not {ours.split('.')[0]}")
        answer = message("UnityMessageProto")()
        answer.header.status = OK
        wanted = answer.unity_input.rl_initialization_input
        wanted.seed, wanted.communication_version, wanted.package_version, wanted.num_areas = seed, ours, "1.1.0", 1
        for field in wanted.capabilities.DESCRIPTOR.fields:
            setattr(wanted.capabilities, field.name, field.name != "trainingAnalytics")
        self._reply(answer)
        self._next()  # Empty: it asks for its first order.
        return hello

    def _reply(self, answer: Any) -> None:
        self._pending = False
        self._answers.put(answer)

    def _next(self) -> Any:
        until = time.monotonic() + self.timeout
        while True:
            try:
                call = self._calls.get(timeout=0.05)
            except queue.Empty:
                code = self._process.poll() if self._process is not None else None
                if code is not None and self._calls.empty():
                    raise UserError(f"{self.name} ended with code {code}; its log tells why (-logFile)") from None
                if time.monotonic() > until:
                    hint = "" if self._process is not None else ": press Play there"
                    raise UserError(f"{self.name} gave no answer within {self.timeout:g} s{hint}") from None
                continue
            self._pending = True
            if call.header.status != OK:
                raise UserError(f"{self.name} left with status {call.header.status}")
            return call

    def _exchange(self, request: Any, context: Any) -> Any:
        """A call of the player, in a thread of the server."""
        self._calls.put(request)
        while not self._closed and context.is_active():
            with contextlib.suppress(queue.Empty):
                return self._answers.get(timeout=0.2)
        farewell = message("UnityMessageProto")()
        farewell.header.status = QUIT
        return farewell
