"""Certificates for tests: an authority, and the files of servers and clients that it trusts."""

import os
from pathlib import Path

import trustme

from services.settings import TlsFiles


class Authority:
    """An authority of certificates, with the files of one identity for 127.0.0.1 and localhost.

    ``files`` serve and dial, with certificates on both sides. ``replace`` issues a new certificate
    in their place, as a rotation does.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)
        cert, key, ca = (str(folder / name) for name in ("cert.pem", "key.pem", "ca.pem"))
        self.files = TlsFiles(cert, key, ca, client_ca=ca)
        self.replace()

    @property
    def server_files(self) -> TlsFiles:
        """The files of a server that admits clients without a certificate."""
        return TlsFiles(self.files.cert, self.files.key)

    @property
    def client_files(self) -> TlsFiles:
        """The files of a client without a certificate."""
        return TlsFiles(ca=self.files.ca)

    def replace(self) -> None:
        """Issue a new certificate, and replace the files one after the other."""
        issued = self._authority.issue_cert("127.0.0.1", "localhost", "::1")
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        contents = [(self.files.key, issued.private_key_pem.bytes()), (self.files.cert, chain)]
        for name, content in contents:
            new = f"{name}.new"
            Path(new).write_bytes(content)
            os.replace(new, name)  # noqa: PTH105 - both are texts
