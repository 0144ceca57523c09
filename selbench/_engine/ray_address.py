"""Checks whether a Ray cluster answers at an address; Ray itself would try for minutes.

Ray's head node speaks gRPC over HTTP/2. The check sends Ray's own request "CheckAlive"; a server
that does not know this request is not Ray.
"""

import socket
import time

from selbench._kit.errors import SelbenchError

SECONDS = 8  # most seconds for an answer, in total
SETTINGS, HEADERS, RESET, LEAVING = 4, 1, 3, 7  # kinds of HTTP/2 frames
GOOD = b"\x88"  # first header byte of an answer with status 200
NO_SUCH_CALL = b"grpc-status\x0212"
LARGEST = 2**16  # most bytes of an answer
CALL = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/ray.rpc.NodeInfoGcsService/CheckAlive",
    ":authority": "ray",
    "te": "trailers",
    "content-type": "application/grpc",
}


def check_answer(address: str) -> None:
    """Raise `SelbenchError` unless a Ray cluster answers at HOST:PORT within seconds."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and int(port[:6]) < 2**16) or "/" in host:
        raise SelbenchError(
            f"--address takes auto or HOST:PORT, such as 10.0.0.1:6379, got {address!r:.100}"
        )
    until = time.monotonic() + SECONDS
    try:
        with socket.create_connection((host.strip("[]"), int(port)), SECONDS / 2) as connection:
            connection.sendall(_question())
            ray = _is_ray(connection, until)
    except (OSError, UnicodeError) as problem:  # UnicodeError: for impossible names
        reason = problem.strerror if isinstance(problem, OSError) else None
        raise _unreachable(address, str(reason or problem)) from problem
    if not ray:
        raise _unreachable(address, "what answers there is not Ray")


def _question() -> bytes:
    texts = [(name.encode(), value.encode()) for name, value in CALL.items()]
    headers = b"".join(b"\0%c%b%c%b" % (len(n), n, len(v), v) for n, v in texts)
    return b"".join(
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            _frame(SETTINGS, 0, 0, b""),
            _frame(HEADERS, 4, 1, headers),
            _frame(0, 1, 1, b"\0\0\0\0\0"),  # an empty message
        ]
    )


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags, 0, 0, 0, stream]) + content


def _is_ray(connection: socket.socket, until: float) -> bool:
    """Read frames until one answers the request; return whether it comes from Ray."""
    held = b""
    while len(held) < LARGEST:
        connection.settimeout(max(until - time.monotonic(), 0.001))
        part = connection.recv(4096)
        held += part
        if not part or held[3:4] not in (b"", bytes([SETTINGS])):
            return False
        rest = held
        while len(rest) >= 9 and len(rest) >= (end := 9 + int.from_bytes(rest[:3], "big")):
            kind, content, rest = rest[3], rest[9:end], rest[end:]
            if kind == HEADERS:
                return content.startswith(GOOD) and NO_SUCH_CALL not in content
            if kind in (RESET, LEAVING):
                return False
    return False


def _unreachable(address: str, reason: str) -> SelbenchError:
    return SelbenchError(
        f"there is no Ray cluster at --address {address} ({reason}); start one with `ray start "
        "--head`, or leave out --address to use this machine alone"
    )
