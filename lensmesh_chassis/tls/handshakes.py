"""Explanations of failed TLS handshakes: gRPC hands on OpenSSL's words, which name no file and no fix."""

import re

from lensmesh_chassis.tls.credentials import ChannelSecurity

# What the client itself found wrong with the server: (in gRPC's text, what it means, what to do).
_FOUND = (
    ("certificate has expired", "the server's certificate has expired", "renew it there"),
    (
        "certificate is not yet valid",
        "the server's certificate is not valid yet",
        "compare the clocks of both machines, or wait",
    ),
    (
        "Hostname Verification Check failed",
        "the server's certificate is not made for the name or address that was called",
        "call it by a name that its certificate lists, or have that name added to the certificate",
    ),
    ("WRONG_VERSION_NUMBER", "the server speaks plain text", "call it without TLS files, or give it a certificate"),
)
_NOT_TRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED|unable to get local issuer|self.signed")
# No connection ever came about; a call whose connection breaks says "Socket closed" alone.
_NEVER_CONNECTED = re.compile(r"connections to all backends failing|failed to connect to all addresses")
_HUNG_UP = re.compile(r"Socket closed|Connection reset|before receiving SETTINGS|TSI_DATA_CORRUPTED", re.IGNORECASE)


def explain_handshake(details: str, security: ChannelSecurity | None) -> str:
    """Return what this side found wrong in the handshake, with the fix; "" if nothing.

    `details` is gRPC's text of an UNAVAILABLE.
    """
    for text, meaning, fix in _FOUND:
        if text in details:
            return f"{meaning}: {fix}"
    if _NOT_TRUSTED.search(details):
        file = security.ca_file if security is not None else ""
        trusted = f"ca_file {file!r}" if file else "this system"
        return (
            f"the server's certificate is not signed by an authority of {trusted}: give the file of the authority that "
            "signed it"
        )
    return ""


def explain_hang_up(details: str, security: ChannelSecurity | None) -> str:
    """Return why a server may take connections and close them at once; "" if `details` do not say that.

    In TLS 1.3 a server refuses a client's certificate after the client has finished. gRPC shows the close, or that it
    could not read the alert (TSI_DATA_CORRUPTED, what Envoy's refusal becomes).
    """
    if not (_NEVER_CONNECTED.search(details) and _HUNG_UP.search(details)):
        return ""
    if security is None or not security.encrypted:
        return "If it speaks TLS, give the file of its authority as ca_file"
    if not security.certificate_file:
        return "If it asks for a client's certificate (mutual TLS), give certificate_file and key_file"
    return (
        f"It may refuse the certificate {security.certificate_file!r}: expired, of an authority that it does not "
        "trust, or of an identity that it does not let in"
    )
