"""Requests to a door, each on a socket of its own: to leave them, or to send what is none."""

import json
import socket

from events import PATIENCE_S


def connect(at):
    """A connection to a door."""
    host, port = at.at.split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def send(at, path, body):
    """A connection on which a request has been sent."""
    sock = connect(at)
    sock.sendall(request(at.token_file.read_text().strip(), path, json.dumps(body).encode()))
    return sock


def request(token, path, body):
    """The bytes of a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
