"""An authority of one's own, which vouches for servers on this machine."""

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
LAST = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)


def _named(name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _certificate(name, public_key, signing_key, *extensions):
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named("authority"))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(LONG_AGO)
        .not_valid_after(LAST)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signing_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def vouch(folder: Path, *hosts: str) -> tuple[ssl.SSLContext, Path]:
    """Return what a server takes, and the file of the authority that vouches for it.

    The certificate is for 127.0.0.1, and for names of hosts.
    """
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    bundle, chain = folder / "authority.pem", folder / "server.pem"
    is_authority = x509.BasicConstraints(ca=True, path_length=None)
    bundle.write_bytes(_certificate("authority", authority.public_key(), authority, is_authority))
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), *map(x509.DNSName, hosts)]
    key = server.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    of_names = x509.SubjectAlternativeName(names)
    chain.write_bytes(key + _certificate("server", server.public_key(), authority, of_names))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context, bundle
