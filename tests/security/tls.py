"""TLS in front of a real Redis, and the certificates for it."""

import contextlib
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.service.proxy import Proxy


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that signs itself, so that it is its own authority as well."""

    file: Path
    key: Path


def certificate_for(folder: Path, name: str, *, alternative: str) -> Certificate:
    """Make one; `alternative` is whom it is for, as `IP:127.0.0.1`."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    usage = ("keyUsage=critical,digitalSignature,keyCertSign", f"subjectAltName={alternative}")
    extensions = [part for one in usage for part in ("-addext", one)]
    asked = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", *extensions]
    files = ["-keyout", str(made.key), "-out", str(made.file), "-subj", f"/CN={name}"]
    subprocess.run(["openssl", "req", *asked, *files], check=True, capture_output=True, timeout=30)
    return made


@contextlib.contextmanager
def tls_in_front_of(socket: Path, certificate: Certificate) -> Iterator[int]:
    """Give the loopback port at which TLS is spoken; what is in it goes on to the Unix socket."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file, certificate.key)
    with Proxy(socket, tls=context) as proxy:
        yield proxy.port
