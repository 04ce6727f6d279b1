# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates, signed by openssl, the hash of a CA, and encryption of the bootstrap data."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import ssl
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.k3s.standin.common import FatalError

END = "-----END CERTIFICATE-----"


def run(*command: str, text: bytes = b"", environment: dict[str, str] | None = None) -> bytes:
    """Run a program and return its output; raise FatalError with its last line."""
    done = subprocess.run(command, input=text, capture_output=True, env=environment, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise FatalError(f"{Path(command[0]).name}: {lines[-1] if lines else done.returncode}")
    return done.stdout


def issue(target: Path, subject: str, extensions: Iterable[str], authority: Path | None = None) -> None:
    """Create TARGET.crt and TARGET.key, signed by AUTHORITY or by itself; paths have no suffix."""
    target.parent.mkdir(parents=True, exist_ok=True)
    signer = ["-CA", f"{authority}.crt", "-CAkey", f"{authority}.key"] if authority else []
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as configuration:
        configuration.write("\n".join(["[req]", "distinguished_name=dn", "[dn]", "[v3]", *extensions, ""]))
        configuration.flush()
        run(
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-subj",
                subject,
            ),
            *("-keyout", f"{target}.key", "-out", f"{target}.crt", "-days", "365" if authority else "3650"),
            *("-config", configuration.name, "-extensions", "v3", *signer),
        )


def issue_certificate(target: Path, subject: str, usages: str, authority: Path, names: Iterable[str] = ()) -> None:
    """Create a certificate for hosts or clients, with the alternative names."""
    extensions = ["basicConstraints=CA:FALSE", "keyUsage=digitalSignature", f"extendedKeyUsage={usages}"]
    if alternative := ",".join(_alternative(name) for name in dict.fromkeys(names)):
        extensions.append(f"subjectAltName={alternative}")
    issue(target, subject, extensions, authority)


def _alternative(name: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


def is_signed(certificate: Path, authority: Path) -> bool:
    """Return whether a certificate exists and is signed by the CA, which a restore may have replaced."""
    command = ("openssl", "verify", "-CAfile", str(authority), str(certificate))
    return certificate.exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0


def ca_hash(pem: str) -> str:
    """Return the hash of a CA bundle: of its bytes, or of the root, its last certificate, when it is a chain."""
    parts = [f"{part.strip()}\n{END}\n" for part in pem.split(END)[:-1]]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(parts[-1]) if len(parts) > 1 else pem.encode()).hexdigest()


def encrypt(token: str, data: bytes, decrypt: bool = False) -> bytes:
    """Encrypt or decrypt the bootstrap data with a token."""
    words = ["openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-md", "sha256", "-pass", "env:K3S_STANDIN_PASS"]
    return run(*words, *(["-d"] if decrypt else []), text=data, environment={**os.environ, "K3S_STANDIN_PASS": token})


def client_context(ca: str, certificate: Path | None = None) -> ssl.SSLContext:
    """Return a context that trusts the CA only, or anything when it is empty, with an optional client certificate."""
    context = ssl.create_default_context(cadata=ca or None)
    if not ca:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate and Path(f"{certificate}.crt").exists():
        context.load_cert_chain(f"{certificate}.crt", f"{certificate}.key")
    return context
