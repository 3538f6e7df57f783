"""A proxy on this machine."""

import contextlib
import socket
import threading

from sparsemed.storage.urls import parse_url


class Proxy:
    """A proxy that passes on whole requests, and lets others through a tunnel.

    Attributes
    ----------
    heads : list of str
        What it was asked.
    hosts : dict of str to int
        Hosts that it alone knows: they are this machine, at a port.
    answer : bytes or None
        What it says in place of letting anything pass.
    """

    def __init__(self):
        self.heads = []
        self.hosts = {}
        self.answer = None
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with contextlib.suppress(OSError):  # it is closed
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (piece := client.recv(4096)):
                    return  # it has hung up
                head += piece
            self.heads.append(head.decode())
            if self.answer is not None:
                client.sendall(self.answer)
                return
            first, _, rest = head.partition(b"\r\n")
            method, target, version = first.decode().split()
            url = parse_url(target if method == "GET" else f"https://{target}")
            place = url.host, url.port
            if url.host in self.hosts:
                place = "127.0.0.1", self.hosts[url.host]
            with socket.create_connection(place) as other:
                if method == "GET":
                    other.sendall(f"GET {url.target} {version}\r\n".encode() + rest)
                else:
                    client.sendall(f"{version} 200 OK\r\n\r\n".encode())
                threading.Thread(target=self._pump, args=(client, other), daemon=True).start()
                self._pump(other, client)

    @staticmethod
    def _pump(source, target):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                target.sendall(piece)

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)  # it wakes who accepts
        self._socket.close()
