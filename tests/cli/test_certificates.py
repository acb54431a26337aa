from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from support import players_csv
from typer.testing import CliRunner

from teak_async._cli.app import app
from teak_async._cli.errors import InputError
from teak_async._cli.tls import make_ssl_context

OPENSSL = shutil.which("openssl")
# Files as operators have them, by the program that makes theirs. It is the system's, so no group can bring it; what a session
# does with certificates is tried in client/test_tls without it.
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="the tests make certificates with openssl")


def openssl(folder: Path, *arguments: str) -> None:
    assert OPENSSL is not None
    subprocess.run([OPENSSL, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, two pairs that it did not sign, and what people have in their place."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("ca", "one", "two"):
        new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}.test")
        openssl(folder, *new, "-addext", f"subjectAltName=DNS:{name}.test", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    openssl(folder, "x509", "-in", "ca.pem", "-outform", "der", "-out", "ca.der")
    openssl(folder, "pkcs12", "-export", "-in", "one.pem", "-inkey", "one.key", "-passout", "pass:", "-out", "one.p12")
    openssl(folder, "pkey", "-in", "one.key", "-aes256", "-passout", "pass:word", "-out", "locked.key")
    openssl(folder, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ec.key")
    (folder / "both.pem").write_text((folder / "one.key").read_text() + (folder / "one.pem").read_text())
    (folder / "text").write_text("user_id,country_code\n")
    (folder / "empty").touch()
    (folder / "cut.pem").write_text((folder / "ca.pem").read_text()[:300])
    return folder


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> str | None:
    """Let both meet without a network; gives the name in the client's certificate."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True)]
    for _ in range(8):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = ends[1].getpeercert()
    subject: object = shown and shown.get("subject")
    return str(subject) if subject else None


@pytest.mark.parametrize("pair", [("both.pem", None), ("one.pem", "one.key")])
def test_both_sides_trust_each_other(made: Path, pair: tuple[str, str | None]) -> None:
    """The server is known by the file, and knows the client by its certificate; another server is not trusted."""
    certificate, key = made / pair[0], None if pair[1] is None else made / pair[1]
    client = make_ssl_context(made / "ca.pem", certificate, key)
    assert client is not None
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made / "ca.pem", made / "ca.key")
    server.load_verify_locations(made / "one.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    assert "one.test" in str(shake_hands(client, server, "ca.test"))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(client, server, "other.test")
    server.load_cert_chain(made / "two.pem", made / "two.key")
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
        shake_hands(client, server, "two.test")


def test_an_authority_alone(made: Path) -> None:
    """A server is known by the file; the client shows no certificate."""
    client = make_ssl_context(made / "ca.pem", None, None)
    assert client is not None
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made / "ca.pem", made / "ca.key")
    assert shake_hands(client, server, "ca.test") is None


def test_without_files(made: Path) -> None:
    """Without files there is no context; with a client's certificate only, the machine's certificates are trusted."""
    assert make_ssl_context(None, None, None) is None
    context = make_ssl_context(None, made / "both.pem", None)
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    ("ca", "certificate", "key", "said"),
    [
        ("none.pem", None, None, "--ca-file: {}/none.pem: No such file"),
        (".", None, None, "Is a directory"),
        ("text", None, None, "--ca-file: {}/text: it has no certificate in PEM"),
        ("empty", None, None, "--ca-file: {}/empty: it has no certificate in PEM"),
        ("one.key", None, None, "it has no certificate in PEM"),
        ("ca.der", None, None, "looks like DER or PKCS #12; turn it into PEM: openssl x509 -inform der"),
        ("cut.pem", None, None, "--ca-file: {}/cut.pem: cannot be read as certificates in PEM"),
        (None, "none.pem", None, "--client-cert: {}/none.pem: No such file"),
        (None, "one.p12", None, "--client-cert: {}/one.p12: this is not PEM"),
        (None, "one.pem", None, "it has no private key in PEM (-----BEGIN PRIVATE KEY-----); name the file of the key with"),
        (None, "one.key", None, "--client-cert: {}/one.key: it has no certificate in PEM"),
        (None, "cut.pem", "one.key", "--client-cert: {}/cut.pem: cannot be used"),
        (None, "one.pem", "none.key", "--client-key: {}/none.key: No such file"),
        (None, "one.pem", "two.pem", "--client-key: {}/two.pem: it has no private key in PEM"),
        (
            None,
            "one.pem",
            "two.key",
            "--client-key: {}/two.key: the private key does not match the first certificate in {}/one.pem",
        ),
        (None, "one.pem", "ec.key", "--client-key: {}/ec.key: the private key does not match"),
        (
            None,
            "one.pem",
            "locked.key",
            "--client-key: {}/locked.key: the private key is encrypted with a pass phrase; write it",
        ),
        (None, None, "one.key", "--client-key: the certificate of this key is missing; name it with --client-cert"),
    ],
)
def test_what_cannot_be_used(made: Path, ca: str | None, certificate: str | None, key: str | None, said: str) -> None:
    """A file that cannot be used is named with its option, what is wrong with it, and the remedy."""
    paths = [None if name is None else made / name for name in (ca, certificate, key)]
    with pytest.raises(InputError) as refused:
        make_ssl_context(*paths)
    assert said.replace("{}", str(made)) in str(refused.value)


@pytest.mark.parametrize("command", ["identify", "opt-out", "opt-in", "status"])
def test_on_every_command_of_a_file(made: Path, tmp_path: Path, command: str) -> None:
    """The commands that run a file have the options, and say in one line what is wrong with one."""
    source = tmp_path / "in.csv"
    source.write_text(players_csv(1))
    given = {"TEAK_GAME_ID": "sandbox", "TEAK_SECRET_KEY": "not-for-other-eyes"}
    for option in ("--ca-file", "--client-cert", "--client-key"):
        ended = CliRunner().invoke(app, [command, str(source), option, str(made / "text")], env=given)
        assert ended.exit_code == 2
        [line] = ended.stderr.splitlines()
        assert line.startswith(f"teak-async: {option}: ")
