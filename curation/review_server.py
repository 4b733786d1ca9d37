"""A web server for one person on this machine: a review page and the few requests it makes.

It listens on the loopback interface alone. Every address begins with a secret that only the printed link
holds, and requests that name another host are refused, so no other page in the browser can reach it.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, Final, Protocol, cast
from urllib.parse import unquote, urlsplit

from usds.curation.deid.encode import format_of
from usds.schemas.errors import UsdsError

__all__ = ["Malformed", "ReviewServer", "Session"]

_LONGEST: Final = 1 << 20
_LENGTH: Final = re.compile(r"[0-9]{1,9}")
_UNEXPECTED: Final = "unexpected error ({}): the dataset may be damaged, or the disk full"
_OPENED: Final = (
    "this link was opened already: use the one that `usds review` printed; if it was not you who opened it, "
    "end the review with Ctrl-C, somebody else on this machine saw it"
)
_NO_PAGE: Final = "no such page: open the link that `usds review` printed"
_SHARED: Final = "review_shared.html"
"""What the pages have in common: it stands in the head of each."""
_TYPES: Final = {"jpeg": "image/jpeg", "png": "image/png", None: "application/octet-stream"}


class Malformed(UsdsError):
    """What the page sent is not of the form that the session asks for."""


class Session(Protocol):
    """What a page shows and keeps; called from several threads.

    Attributes
    ----------
    page : str
        File of the page, in `usds.curation`.
    """

    page: str

    def data(self, path: list[str]) -> dict[str, Any] | None:
        """What the page asks for; None where there is no such thing."""
        ...

    def picture(self, name: str, /) -> bytes:
        """One encoded image."""
        ...

    def keep(self, path: list[str], body: Any) -> dict[str, Any] | None:
        """What a person decided, as JSON value; None where there is no such thing."""
        ...


class ReviewServer(ThreadingHTTPServer):
    """Serves one session until :meth:`shutdown`, or until the page says that it is finished.

    Parameters
    ----------
    session : Session
    port : int
        0 takes a free one.

    Raises
    ------
    OSError
        If the port is taken.
    """

    daemon_threads = True

    def __init__(self, session: Session, port: int = 0) -> None:
        self.session = session
        self.secret = secrets.token_urlsafe(16)
        self.nonce = secrets.token_urlsafe(16)
        self._ticket = secrets.token_urlsafe(16)
        self._tickets_left = 1
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def address(self) -> str:
        """The link to open; whoever holds it can see and decide what the page can."""
        return f"http://127.0.0.1:{self.server_port}/{self.secret}/"

    @property
    def ticket(self) -> str:
        """A link that leads to :attr:`address` once: what is told to a browser is seen by all users of this
        machine, in its command line."""
        return f"http://127.0.0.1:{self.server_port}/{self._ticket}/"

    def is_ticket(self, part: str) -> bool:
        """Whether the first part of a path is the ticket, used or not."""
        return secrets.compare_digest(part.encode(), self._ticket.encode())

    def redeem(self) -> bool:
        """Use the ticket; False where it was used before."""
        with self._lock:
            self._tickets_left -= 1
            return self._tickets_left == 0

    @property
    def hosts(self) -> frozenset[str]:
        """What the Host header of a request may say."""
        return frozenset(f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost"))


def _resource(name: str) -> str:
    return resources.files("usds.curation").joinpath(name).read_text("utf-8")


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def handle_one_request(self) -> None:
        """As the base class, but a request that cannot be answered leaves the terminal alone."""
        try:
            super().handle_one_request()
        except ConnectionError:  # the browser left: it drops pictures when the page turns
            self.close_connection = True

    def do_GET(self) -> None:
        """The page, its data, a picture."""
        match self._path():
            case []:
                page = _resource(self.server.session.page).replace("@SHARED@", _resource(_SHARED))
                self._send(page.replace("@NONCE@", self.server.nonce).encode(), "text/html; charset=utf-8")
            case ["image", *name]:
                self._picture("/".join(name))
            case [*path]:
                self._answer(lambda: self.server.session.data(path))
            case None:
                self._enter()

    def do_POST(self) -> None:
        """A decision, or the end of the review."""
        match self._path():
            case ["finish"]:
                self._send(b"{}", "application/json")
                # From another thread, as the server asks; the page may still be fetching pictures.
                threading.Thread(target=self.server.shutdown, daemon=True).start()
            case [*path]:
                body = self._body()
                if body is not None:
                    self._answer(lambda: self.server.session.keep(path, body))
            case None:
                self._refuse(HTTPStatus.NOT_FOUND, _NO_PAGE)

    def _enter(self) -> None:
        """Send whoever comes with the ticket to the page; refuse everybody else who lacks the secret."""
        server, parts = self.server, self.path.split("/")
        if len(parts) < 2 or not server.is_ticket(parts[1]) or self.headers.get("Host") not in server.hosts:
            self._refuse(HTTPStatus.NOT_FOUND, _NO_PAGE)
        elif server.redeem():
            self._send(b"", "text/html", HTTPStatus.SEE_OTHER, {"Location": server.address})
        else:
            self._refuse(HTTPStatus.GONE, _OPENED)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to the command."""

    def _path(self) -> list[str] | None:
        """Parts of the path behind the secret; None for whoever does not know it."""
        try:
            parts = [unquote(part) for part in urlsplit(self.path).path.split("/")[1:]] or [""]
        except ValueError:  # an address that is none
            return None
        known = secrets.compare_digest(parts[0].encode(), self.server.secret.encode())
        if not known or self.headers.get("Host") not in self.server.hosts:
            return None
        return [part for part in parts[1:] if part]

    def _body(self) -> dict[str, Any] | None:
        """The JSON object that was sent; None where it is none, and then the page has been told so."""
        length = self.headers.get("Content-Length", "")
        if not _LENGTH.fullmatch(length) or int(length) > _LONGEST:
            self._refuse(HTTPStatus.BAD_REQUEST, "nothing was sent, or too much")
            return None
        try:
            body: Any = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            self._refuse(HTTPStatus.BAD_REQUEST, "what is sent must be a JSON object")
            return None
        return cast("dict[str, Any]", body)

    def _answer(self, make: Callable[[], dict[str, Any] | None]) -> None:
        found = self._made(lambda: make() or {}, HTTPStatus.CONFLICT)
        if found == {}:
            self._refuse(HTTPStatus.NOT_FOUND, _NO_PAGE)
        elif found is not None:
            self._send(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"), "application/json")

    def _picture(self, name: str) -> None:
        image = self._made(lambda: self.server.session.picture(name), HTTPStatus.NOT_FOUND)
        if image is not None:
            self._send(image, _TYPES[format_of(image)])

    def _made(self, make: Callable[[], Any], refused: HTTPStatus) -> Any:
        """What ``make`` returns; None where it fails, and then the page has been told why."""
        try:
            return make()
        except UsdsError as error:
            wrong = HTTPStatus.BAD_REQUEST if isinstance(error, Malformed) else refused
            self._refuse(wrong, str(error))
        except Exception as error:  # noqa: BLE001 - a damaged shard has many names; the terminal is spared them
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, _UNEXPECTED.format(type(error).__name__))
        return None

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self._send(json.dumps({"error": message}).encode(), "application/json", status)

    def _send(
        self,
        data: bytes,
        kind: str,
        status: HTTPStatus = HTTPStatus.OK,
        more: Mapping[str, str] | None = None,
    ) -> None:
        policy = (
            "default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'unsafe-inline'; "
            f"script-src 'nonce-{self.server.nonce}'; frame-ancestors 'none'; base-uri 'none'; "
            "form-action 'none'"
        )
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind), ("Content-Length", str(len(data))), ("Cache-Control", "no-store"),
            ("Content-Security-Policy", policy), ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"), *(more or {}).items(),
        ):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
