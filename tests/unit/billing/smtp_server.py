"""A mail server of one page, over real sockets: it keeps what it takes, and refuses as told."""

from __future__ import annotations

import base64
import socketserver
import ssl
import threading
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from io import BufferedIOBase
from typing import Self, cast


@dataclass
class MailServer:
    """`with MailServer() as server:` listens at `server.port`. `refusals` are answers to the next
    letters (by command), `login` is who may log in, `context` turns STARTTLS on."""

    login: tuple[str, str] | None = None
    context: ssl.SSLContext | None = None
    refusals: list[tuple[str, str]] = field(default_factory=list)
    letters: list[EmailMessage] = field(default_factory=list)
    envelopes: list[tuple[str, list[str]]] = field(default_factory=list)
    connections: int = 0
    encrypted: list[bool] = field(default_factory=list)

    def __enter__(self) -> Self:
        server = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                server.connections += 1
                plain = self.connection
                try:
                    server.talk(self)
                except OSError:
                    pass  # whoever does not trust our certificate leaves
                finally:
                    if self.connection is not plain:
                        self.rfile.close()
                        self.wfile.close()
                        self.connection.close()

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.port = self._server.server_address[1]
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def talk(self, handler: socketserver.StreamRequestHandler) -> None:
        say = lambda text: handler.wfile.write(text.encode() + b"\r\n")  # noqa: E731
        say("220 ready")
        is_encrypted = is_known = False
        sender, readers = "", []
        while line := handler.rfile.readline().decode().strip():
            command = line.partition(" ")[0].upper()
            if self.refusals and self.refusals[0][0] == command:
                say(self.refusals.pop(0)[1])
            elif command == "EHLO":
                offered = ["250-here"]
                if self.context and not is_encrypted:
                    offered.append("250-STARTTLS")
                if self.login:
                    offered.append("250-AUTH PLAIN")
                for each in [*offered, "250 8BITMIME"]:
                    say(each)
            elif command == "STARTTLS" and self.context:
                say("220 go")
                secure = self.context.wrap_socket(handler.connection, server_side=True)
                handler.connection = secure
                handler.rfile = secure.makefile("rb")
                handler.wfile = cast("BufferedIOBase", secure.makefile("wb", 0))
                is_encrypted = True
            elif command == "AUTH":
                given = base64.b64decode(line.split()[2]).decode().split("\0")[1:]
                is_known = tuple(given) == self.login
                say("235 welcome" if is_known else "535 5.7.8 wrong password")
            elif command == "MAIL" and self.login and not is_known:
                say("530 5.7.0 log in first")
            elif command == "MAIL":
                sender, readers = line.partition("<")[2].partition(">")[0], []
                say("250 ok")
            elif command == "RCPT":
                readers.append(line.partition("<")[2].partition(">")[0])
                say("250 ok")
            elif command == "DATA":
                say("354 go on")
                raw = b"".join(iter(handler.rfile.readline, b".\r\n"))
                self.letters.append(message_from_bytes(raw, policy=policy.default))
                self.envelopes.append((sender, readers))
                self.encrypted.append(is_encrypted)
                say("250 taken")
            elif command == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")
