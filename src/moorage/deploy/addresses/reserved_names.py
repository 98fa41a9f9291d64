"""Names that no new project gets: what mail, browsers and people take for the domain's own.

Under `base_domain` such a name would be asked by programs that nobody told to trust an app: mail
programs for their settings (`autoconfig`, `autodiscover`), browsers for a proxy (`wpad`), senders
for a mail policy (`mta-sts`, RFC 8461), authorities for who may have a certificate (RFC 2142's
mailboxes). Others would pass for the operator's. Shorter ones than a project's are here as well.
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
_PUNYCODE = "xn--"  # shows as whatever letters it stands for, which may look like another name


def is_reserved(name: str, *, own: str | None = None) -> bool:
    """Whether no new project may have this name, in lower case; `own` is the gateway's own one."""
    return (
        name in RESERVED_NAMES
        or name == own
        or name.startswith(_PUNYCODE)
        or _NUMBERED.fullmatch(name) is not None
    )
