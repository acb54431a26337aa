"""Makes the `SSLContext` of a session from the files that `--ca-file` and `--client-cert` name."""

from __future__ import annotations

import ssl
from pathlib import Path

from .errors import InputError, describe_refusal

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_TRUSTED = b"-----BEGIN TRUSTED CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"
_DER = b"\x30"
"""The first byte of DER and PKCS #12."""
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""OpenSSL's reasons for a key that belongs to another certificate; the last is for a key of another type."""


def make_ssl_context(ca_file: Path | None, client_cert: Path | None, client_key: Path | None) -> ssl.SSLContext | None:
    """Make a context of the files that the options name; `None` when they name none.

    Args:
        ca_file: certificates to trust in place of the machine's.
        client_cert: the client's certificate, with its intermediate ones.
        client_key: its private key. Default: in the same file.

    Raises:
        InputError: when a file cannot be used; the message names the option, the file and the remedy.
    """
    if client_key is not None and client_cert is None:
        raise InputError("--client-key: the certificate of this key is missing; name it with --client-cert")
    if ca_file is None and client_cert is None:
        return None
    if ca_file is not None:
        _check_pem("--ca-file", ca_file, certificate=True, key=False)
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (ssl.SSLError, OSError) as error:
        raise InputError(f"--ca-file: {ca_file}: cannot be read as certificates in PEM: {_reason(error)}") from None
    if client_cert is not None:
        _load_client(context, client_cert, client_key)
    return context


def _load_client(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    _check_pem("--client-cert", certificate, certificate=True, key=key is None)
    if key is not None:
        _check_pem("--client-key", key, certificate=False, key=True)
    option, holder = ("--client-cert", certificate) if key is None else ("--client-key", key)
    encrypted = False

    # Without this function OpenSSL asks for the pass phrase on the terminal.
    def ask() -> str:
        nonlocal encrypted
        encrypted = True
        return ""

    try:
        context.load_cert_chain(certificate, key, ask)
    except (ssl.SSLError, OSError) as error:
        if encrypted:
            remedy = f"write it without one: openssl pkey -in {holder} -out FILE"
            raise InputError(f"{option}: {holder}: the private key is encrypted with a pass phrase; {remedy}") from None
        if getattr(error, "reason", None) in _MISMATCHES:
            raise InputError(
                f"{option}: {holder}: the private key does not match the first certificate in {certificate};"
                " name the two that were made together"
            ) from None
        raise InputError(f"--client-cert: {certificate}: cannot be used: {_reason(error)}") from None


def _check_pem(option: str, path: Path, *, certificate: bool, key: bool) -> None:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{option}: {path}: {describe_refusal(error)}") from None
    if data.startswith(_DER):
        remedy = "openssl x509 -inform der -in FILE, openssl pkey -inform der -in FILE, or openssl pkcs12 -nodes -in FILE"
        raise InputError(f"{option}: {path}: this is not PEM, but looks like DER or PKCS #12; turn it into PEM: {remedy}")
    if certificate and _CERTIFICATE not in data and _TRUSTED not in data:
        raise InputError(f"{option}: {path}: it has no certificate in PEM ({_CERTIFICATE.decode()})")
    if key and _KEY not in data:
        remedy = "; name the file of the key with --client-key" if option == "--client-cert" else ""
        raise InputError(f"{option}: {path}: it has no private key in PEM (-----BEGIN {_KEY.decode()}){remedy}")


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return str(reason).replace("_", " ").lower()
