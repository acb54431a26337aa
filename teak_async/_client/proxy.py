"""The proxy that the environment names: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, upper or lower case.

Rules of this module:

- The environment is read once, when a session is opened. aiohttp's own way (`trust_env`) reads it for each call, in a
  thread, and sends what `~/.netrc` has.
- A proxy's user and password are in no `repr` and in no error.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address, ip_network
from urllib.parse import quote
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined] # in no stub

from attrs import field, frozen
from yarl import URL


@frozen
class Proxy:
    """Where connections go instead of to the server.

    Attributes:
        url: its address without user and password, as errors name it.
        variable: the variable that names it.
        authorization: the value of `Proxy-Authorization`; `None` for none.
        secrets: forms of the user's password that must not be seen.
    """

    url: URL
    variable: str
    authorization: str | None = field(repr=False, default=None)
    secrets: tuple[bytes, ...] = field(repr=False, default=())

    @property
    def headers(self) -> dict[str, str]:
        """The headers for the proxy itself."""
        return {} if self.authorization is None else {"Proxy-Authorization": self.authorization}

    def redact(self, data: bytes) -> bytes:
        """Remove the password from a proxy's response."""
        for secret in self.secrets:
            data = data.replace(secret, b"***")
        return data


def find_proxy(server: URL) -> Proxy | None:
    """Find the proxy for a server in the environment.

    Raises:
        ValueError: when the variable is no address of an HTTP proxy.
    """
    proxies = getproxies_environment()
    scheme = server.scheme if server.scheme in proxies else "all"
    if scheme not in proxies or _bypasses(server, proxies):
        return None
    return _parse(proxies[scheme].strip(), f"{scheme.upper()}_PROXY")


def _parse(text: str, variable: str) -> Proxy:
    like = f"{variable} must be like http://proxy.example:3128"
    try:
        url = URL(text if "://" in text else f"http://{text}")
        port, host, scheme = url.port, url.host, url.scheme
    except ValueError:
        # The message quotes nothing, since not even the password can be found in it.
        raise ValueError(f"{like}, and is no address") from None
    if scheme not in ("http", "https"):
        hint = ": SOCKS is not supported" if scheme.startswith("socks") else ""
        raise ValueError(f"{like}, not {scheme}://{host or ''}{hint}")
    if not host or not port or any(character.isspace() for character in host):
        raise ValueError(f"{like}, and names no host")
    bare = URL.build(scheme=scheme, host=host, port=port)
    if url.user is None and url.password is None:
        return Proxy(bare, variable)
    user, password = url.user or "", url.password or ""
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    forms = {password, quote(password, safe=""), url.raw_password or "", token} - {""}
    return Proxy(bare, variable, f"Basic {token}", tuple(form.encode() for form in sorted(forms, key=len, reverse=True)))


def _bypasses(server: URL, proxies: Mapping[str, str]) -> bool:
    """Say whether `NO_PROXY` names the server: as a name, a domain (`.example`, `*.example`), an address or a network."""
    names = [name.strip().removeprefix("*.") for name in proxies.get("no", "").split(",")]
    if "*" in names:
        return True
    host = (server.host or "").rstrip(".")
    with suppress(ValueError):
        address = ip_address(host)
        for name in names:
            with suppress(ValueError):
                if address in ip_network(name.strip("[]"), strict=False):
                    return True
    return bool(proxy_bypass_environment(f"{host}:{server.port}", {"no": ",".join(names)}))
