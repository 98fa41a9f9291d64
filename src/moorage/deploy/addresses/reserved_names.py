"""Names that no new project may have, as programs or people would take them for the domain's own.

Programs ask such names under `base_domain` by themselves: mail programs for settings
(`autoconfig`, `autodiscover`), browsers for a proxy (`wpad`), senders for a mail policy (`mta-sts`,
RFC 8461), authorities for who may have a certificate (RFC 2142's mailboxes). Other names look like
the operator's. Some are shorter than a project's name may be.
"""

import re

_PROGRAMS = "autoconfig autodiscover broadcasthost isatap localdomain localhost mta-sts wpad"
_SERVICES = (
    "cdn dns ftp git imap ldap mail mailer mailserver mysql ntp pop pop3 postgres proxy redis sftp "
    "sip smtp ssh static vpn webdav webmail webmaster www"
)
_MAILBOXES = (  # RFC 2142
    "abuse hostmaster info marketing noc postmaster sales security support usenet uucp"
)
_OPERATORS = (
    "account accounts admin administrator api auth billing checkout console dashboard developer "
    "developers docs gateway help helpdesk legal login logout manage moorage oauth official "
    "operator password pay payment payments portal privacy register root secure signin signup sso "
    "staff status system terms wallet"
)
RESERVED_NAMES = frozenset(" ".join((_PROGRAMS, _SERVICES, _MAILBOXES, _OPERATORS)).split())

_NUMBERED = re.compile(r"(?:dns|mail|mx|ns|relay|smtp|www)-?[0-9]+")
_PUNYCODE = "xn--"  # is shown as other letters, which may look like another name


def is_reserved(name: str, *, own: str | None = None) -> bool:
    """Returns whether a lower-case name is reserved; `own` is the gateway's own name."""
    return (
        name in RESERVED_NAMES
        or name == own
        or name.startswith(_PUNYCODE)
        or _NUMBERED.fullmatch(name) is not None
    )
