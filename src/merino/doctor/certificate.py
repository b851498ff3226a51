"""Why a server's certificate was not accepted, from what OpenSSL says."""

from __future__ import annotations

import ssl

from merino.doctor.finding import Finding, problem

# Of OpenSSL's x509_vfy.h.
_NOT_YET_VALID = 9
_EXPIRED = 10
_SELF_SIGNED = frozenset((18, 19))
_WRONG_NAME = frozenset((62, 64))


def explain_tls(error: Exception, host: str) -> Finding:
    """The finding that a failed handshake is."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _unverified(error, host)
    text = str(error)
    if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text or "RECORD_LAYER" in text:
        return problem(
            "scheme-mismatch",
            f"{host} does not speak TLS on this port, but the base URL begins with https://.",
            "Write http:// if the server is meant to be plain (on this machine or a safe network), "
            "else the port of its TLS.",
        )
    return problem(
        "tls",
        f"The TLS handshake with {host} failed: {_reason(error)}.",
        "Ask whoever runs the server, or a proxy in between, which TLS versions it accepts.",
    )


def unusable_authorities(error: OSError) -> Finding:
    """The file of trusted authorities that a variable names cannot be used."""
    return problem(
        "tls",
        f"The certificates of trusted authorities cannot be read: {error.strerror or error}.",
        "SSL_CERT_FILE or SSL_CERT_DIR points to something that is not there or no certificates.",
    )


def _unverified(error: ssl.SSLCertVerificationError, host: str) -> Finding:
    code = error.verify_code
    if code in (_EXPIRED, _NOT_YET_VALID):
        when = "has expired" if code == _EXPIRED else "is not valid yet"
        return problem(
            "tls-expired",
            f"The certificate of {host}, or one above it, {when}.",
            "Have it renewed by whoever runs the server. If it is new, this machine's clock is "
            "wrong.",
        )
    if code in _SELF_SIGNED:
        return problem(
            "tls-self-signed",
            f"The certificate of {host} is signed by itself or by an authority nobody knows.",
            "Name its certificate, or its authority's, in SSL_CERT_FILE. Never switch "
            "verification off: the key is sent to whoever answers.",
        )
    if code in _WRONG_NAME:
        return problem(
            "tls-wrong-name",
            f"The certificate is not one of {host}: {error.verify_message}.",
            "Use a name in the base URL that the certificate is for.",
        )
    return problem(
        "tls-untrusted",
        f"The certificate of {host} cannot be traced to a trusted authority: "
        f"{error.verify_message}.",
        "Have the server send its intermediate certificates, or name the authority in "
        "SSL_CERT_FILE. A company's proxy that opens TLS has an authority of its own.",
    )


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error or type(error).__name__).rstrip(".")
