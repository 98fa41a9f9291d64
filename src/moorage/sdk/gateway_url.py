"""A gateway's address in one spelling, for payments are recorded under it."""

from urllib.parse import urlsplit

from moorage.sdk.errors import ClientMisconfigured


def normalise_gateway_url(text: str) -> str:
    """`text` as gateways are compared: no trailing slash, lower-case host, 127.0.0.1 for localhost.

    Raises ClientMisconfigured unless it is an http(s) URL without a query.
    """
    parts = urlsplit(text.strip())
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or port == -1:
        raise ClientMisconfigured(f"{text!r} is not a gateway's address, as https://example.com")
    if parts.username is not None:
        raise ClientMisconfigured("a gateway's address holds no user name and no password")
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    host = f"[{host}]" if ":" in host else host
    place = host if port is None else f"{host}:{port}"
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"
