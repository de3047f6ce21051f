"""The bare relay in Python: what CPython costs that reads a message, finds a socket and writes a frame, and no more.

Beside it stands what the hub adds to its language: numbering, windows, acks that are recorded, all that may
fail. It takes well-formed requests and acks only, counts those, and numbers, checks and stores nothing.

usage: python_relay.py LISTEN_PORT REDIS_PORT REDIS_PASSWORD
"""

import base64
import hashlib
import os
import re
import resource
import select
import socket
import sys
from struct import Struct
from typing import Any

import hiredis

WELCOME = (
    b'{"type":"welcome","session":"-","hub":"relay","position":"1:0","acked":0,"head":0,"heartbeat_s":25,"window":256,'
    b'"ack_every":16,"ack_ms":500,"jitter_s":1}'
)
UPGRADE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n"
    b"Sec-WebSocket-Protocol: fleetwire.v1\r\n\r\n"
)
HEADER = 14
EVENT, NOTICE = 0x11, 0x14


def head(length: int) -> bytes:
    """Of a text frame of less than 64 KiB."""
    return bytes((0x81, length)) if length < 126 else b"\x81\x7e" + length.to_bytes(2, "big")


HEADS = [head(length) for length in range(65536)]


class Relay:
    """One epoll loop."""

    def __init__(self, port: int, redis_port: int, password: str) -> None:
        self.redis = socket.create_connection(("127.0.0.1", redis_port))
        self.redis.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        commands: list[tuple[Any, ...]] = [("AUTH", password)] if password else []
        commands += [("SSUBSCRIBE", f"fw:{{s{slot}}}") for slot in range(1024)] + [("SSUBSCRIBE", "fw:{s0}:notices")]
        self.redis.sendall(b"".join([hiredis.pack_command(command) for command in commands]))
        self.redis.setblocking(False)
        self.replies: Any = hiredis.Reader(notEnoughData=None)
        self.buffer = bytearray(1 << 20)
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.listener.setblocking(False)
        self.poll = select.epoll()
        self.poll.register(self.redis.fileno(), select.EPOLLIN)
        self.poll.register(self.listener.fileno(), select.EPOLLIN)
        self.sockets: dict[int, socket.socket] = {}
        self.devices: dict[bytes, int] = {}
        self.names: dict[int, bytes] = {}
        self.acks = 0

    def run(self) -> None:
        """Until Redis is gone."""
        redis, listener, names = self.redis.fileno(), self.listener.fileno(), self.names
        while True:
            for fd, _ in self.poll.poll():
                if fd == redis:
                    self.take_messages()
                elif fd in names:
                    if self.sockets[fd].recv(4096):
                        self.acks += 1
                    else:
                        self.drop(fd)
                elif fd == listener:
                    self.accept()
                else:
                    self.upgrade(fd)

    def take_messages(self) -> None:
        """What came in one read."""
        count = self.redis.recv_into(self.buffer)
        if not count:
            raise SystemExit("redis is gone")
        self.replies.feed(self.buffer, 0, count)
        gets, devices, unpack, write = self.replies.gets, self.devices, Struct(">BBIQ").unpack_from, os.write
        while (push := gets()) is not None:
            if push[0] != b"smessage":
                continue
            message = push[2]
            tag, id_length, _, seq = unpack(message)
            if tag == EVENT:
                end = HEADER + id_length
                fd = devices.get(message[HEADER:end])
                if fd is not None:
                    text = b'{"type":"event","seq":%d,"event":%b}' % (seq, message[end:])
                    write(fd, HEADS[len(text)] + text)
            elif tag == NOTICE:
                text = message[message.index(0, HEADER) + 1 :]
                frame = HEADS[len(text)] + text
                for fd in self.names:
                    write(fd, frame)

    def accept(self) -> None:
        """Everybody who waits."""
        while True:
            try:
                client, _ = self.listener.accept()
            except BlockingIOError:
                return
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets[client.fileno()] = client
            self.poll.register(client.fileno(), select.EPOLLIN)

    def upgrade(self, fd: int) -> None:
        """Answer a request, which comes in one piece."""
        request = self.sockets[fd].recv(4096)
        device = re.search(rb"device_id=([a-z0-9._-]+)", request)
        key = re.search(rb"(?i)sec-websocket-key: (\S+)", request)
        if device is None or key is None:
            self.drop(fd)
            return
        digest = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
        self.names[fd] = device[1]
        self.devices[device[1]] = fd
        self.sockets[fd].sendall(UPGRADE % base64.b64encode(digest) + HEADS[len(WELCOME)] + WELCOME)

    def drop(self, fd: int) -> None:
        """The device has gone."""
        self.poll.unregister(fd)
        self.sockets.pop(fd).close()
        self.devices.pop(self.names.pop(fd, b""), None)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    Relay(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]).run()
