"""Where apps are reached: host names and public addresses."""

import msgspec


class Hosts(msgspec.Struct, frozen=True):
    """Every app's host is `<unique name>.<base domain>`, behind the proxy."""

    base_domain: str
    scheme: str  # "http" or "https"
    port: int | None  # None: the scheme's own
    former_domains: tuple[str, ...] = ()  # below which apps are served as well

    def host(self, unique_name: str) -> str:
        """Returns the host name of a project."""
        return f"{unique_name}.{self.base_domain}"

    def former_hosts(self, unique_name: str) -> list[str]:
        """Returns the host names that a project has beside its own, as it may have had them."""
        return [f"{unique_name}.{domain}" for domain in self.former_domains]

    def url(self, unique_name: str) -> str:
        """Returns the public URL of a project."""
        return self.url_of(self.host(unique_name))

    def url_of(self, host: str) -> str:
        """Returns the public URL of any host that is served here."""
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    def unique_name(self, host: str) -> str | None:
        """Returns the unique name in a host name under a base domain, or None."""
        name, dot, domain = host.partition(".")
        return name if dot and domain in (self.base_domain, *self.former_domains) else None
