"""Translate exceptions of aiohttp, TLS and the system to errors that say what happened, where, and with which delivery.

Rules of this module:

- A message has class names, the system's own words and numbers. aiohttp's messages may have the URL, and so the secret.
- Only a request that is known to be unsent is `NOT_SENT`: by the exchange, or by the kind of exception.
"""

from __future__ import annotations

import os
import re
import ssl

import aiohttp
from attrs import frozen

from teak_async.errors import CertificateError, ConnectFailed, ConnectionLost, Delivery, TeakError, TimedOut

from .connections import ConnectionWatch
from .proxy import Proxy

# Alerts about the client's certificate only. A server reads no request before it accepts the certificate.
_ALERT = re.compile(r"ALERT_(\w*CERTIFICATE\w*|UNKNOWN_CA)")
_BEFORE_SENDING = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ClientHttpProxyError,
)


@frozen
class Route:
    """Where exchanges go and how long they may take, for error messages.

    Attributes:
        server: the server's address, without anything secret.
        connect: seconds for connecting.
        response: seconds for the response.
        response_name: the parameter with these seconds.
        proxy: the proxy, if there is one.
    """

    server: str = "the server"
    connect: float = 0.0
    response: float = 0.0
    response_name: str = "Timeout.response"
    proxy: Proxy | None = None

    @property
    def via(self) -> str:
        """The server, and the proxy on the way to it, for messages."""
        return self.server if self.proxy is None else f"{self.server} through the proxy {_address(self.proxy)}"


def translate(error: Exception, route: Route, connection: ConnectionWatch | None, *, unsent: bool) -> TeakError:
    """Turn an exception into an error of this package, with the delivery as far as it is known.

    Args:
        error: the exception.
        route: where the exchange went.
        connection: its connection, if it was one of the session's own pool.
        unsent: whether certainly no byte was sent.
    """
    if isinstance(error, TeakError):
        return error
    certificate = _certificate_error(error, route, connection)
    if certificate is not None:
        return certificate
    connecting = unsent or isinstance(error, _BEFORE_SENDING)
    if isinstance(error, TimeoutError):
        if connecting:
            what = f"no connection within {route.connect:g} s (Timeout.connect) to {route.via}"
            return TimedOut(what, delivery=Delivery.NOT_SENT)
        what = f"no response from {route.via} within {route.response:g} s ({route.response_name})"
        return TimedOut(what, delivery=Delivery.UNKNOWN)
    what = _words(error)
    if not connecting:
        return ConnectionLost(f"the connection was lost before the whole response came from {route.via}: {what}")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ConnectFailed(_tunnel_refused(error.status, route))
    if isinstance(error, aiohttp.ClientConnectorError) and route.proxy is not None and not isinstance(error, ssl.SSLError):
        return ConnectFailed(f"no connection to the proxy {_address(route.proxy)} ({route.proxy.variable}): {what}")
    return ConnectFailed(f"no connection to {route.via}: {what}")


def _certificate_error(error: Exception, route: Route, connection: ConnectionWatch | None) -> CertificateError | None:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        reason = getattr(cause, "verify_message", "") or _words(cause)
        what = f"the certificate of {error.host}:{error.port} cannot be verified: {reason.rstrip('.')}"
        return CertificateError(f"{what}. Is the address right? A private CA is given by ssl= or --ca-file")
    if isinstance(error, aiohttp.ServerFingerprintMismatch):
        return CertificateError(f"the certificate of {error.host}:{error.port} is not the one that the fingerprint stands for")
    refusal: BaseException | None = None
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        refusal = error.os_error
    elif connection is not None and connection.requests == 1 and not connection.received:
        # With TLS 1.3 the alert may come after the first bytes were sent: it ends the handshake, so they were not processed.
        refusal = connection.error
    alert = _ALERT.search(getattr(refusal, "reason", None) or "") if isinstance(refusal, ssl.SSLError) else None
    if alert is None:
        return None
    what = f"{route.via} refuses this client's certificate, or wants one: {alert[1].replace('_', ' ').lower()}"
    return CertificateError(f"{what}. Give one by ssl=, an ssl.SSLContext with load_cert_chain")


def _tunnel_refused(status: int, route: Route) -> str:
    what = f"no connection to {route.server}: the proxy"
    if route.proxy is not None:
        what += f" {_address(route.proxy)} ({route.proxy.variable})"
    if status != 407:
        return f"{what} answered CONNECT with status {status}"
    lacks = "takes another user or password" if route.proxy is not None and route.proxy.authorization else "wants a user"
    return f"{what} answered CONNECT with status 407: it {lacks}"


def _address(proxy: Proxy) -> str:
    return str(proxy.url).rstrip("/")


def _words(error: BaseException) -> str:
    cause: BaseException = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    name = type(cause).__name__
    if not isinstance(cause, OSError) or not cause.strerror:
        return name
    # asyncio's text repeats the address, once for each that the name stands for, and does not say what is wrong.
    what = os.strerror(cause.errno) if cause.errno and "Connect call failed" in cause.strerror else cause.strerror
    return f"{name}: {what}"
