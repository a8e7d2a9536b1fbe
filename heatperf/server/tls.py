"""The TLS context of a generation, loaded by its zygote and shared by its workers.

Comes in: paths of PEM files. Goes out: an ssl.SSLContext. Raises ConfigurationError with the file that cannot be used.
"""

from __future__ import annotations

import ssl

from heatperf.errors import ConfigurationError
from heatperf.server.settings import TLS


def tls_context(tls: TLS) -> ssl.SSLContext:
    """
    :raises ConfigurationError: a file is missing, unreadable, encrypted, or does not fit the other
    """
    for option, file in (("cert_file", tls.cert_file), ("key_file", tls.key_file)):
        try:
            with open(file, "rb"):
                pass
        except OSError as exc:
            raise ConfigurationError(f"cannot read the {option}: {exc.strerror}", file=file, option=option) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def no_passphrase() -> str:
        # OpenSSL would ask on the terminal, and a service would wait there for ever.
        raise ConfigurationError("the key_file is encrypted", remedy="store it unencrypted", file=tls.key_file)

    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, password=no_passphrase)
    except ssl.SSLError as exc:
        raise ConfigurationError(
            f"the key_file does not fit the cert_file {tls.cert_file}, or one of them is not PEM ({exc.reason})",
            file=tls.key_file,
            option="key_file",
        ) from None
    return context
