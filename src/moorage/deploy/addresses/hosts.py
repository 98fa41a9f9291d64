"""Where apps are reached: host names and public addresses."""

import msgspec


class Hosts(msgspec.Struct, frozen=True):
    """Every app's host is `<unique name>.<base domain>`, behind the proxy."""

    base_domain: str
    scheme: str  # "http" or "https"
    port: int | None  # None: the scheme's own

    def host(self, unique_name: str) -> str:
        """Returns the host name of a project."""
        return f"{unique_name}.{self.base_domain}"

    def url(self, unique_name: str) -> str:
        """Returns the public URL of a project."""
        return self.url_of(self.host(unique_name))

    def url_of(self, host: str) -> str:
        """Returns the public URL of any host that is served here."""
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    def unique_name(self, host: str) -> str | None:
        """Returns the unique name in a host name under the base domain, or None."""
        name, dot, domain = host.partition(".")
        return name if dot and domain == self.base_domain else None
