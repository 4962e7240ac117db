"""The network guard: which addresses a fetch may reach.

Every address is judged twice: the name before it is looked up, and the very address that a socket
is about to connect to. What lies between (DNS, redirects, a resolver that changes its answer) can
therefore not lead a fetch to a private network.
"""

import fnmatch
import ipaddress
import re
import socket
from ipaddress import IPv4Address, IPv6Address

from data_pipeline.crawl.address import canonical, host_of
from data_pipeline.crawl.settings import DownloadSettings, split_target

_MAX_JUDGED = 50_000
_NUMERIC = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# Protocol assignments and the old 6to4 relays, which `is_global` lets through in part.
_SPECIAL_IPV4 = [ipaddress.ip_network(text) for text in ("192.0.0.0/24", "192.88.99.0/24")]
# Inside 2000::/3 and yet not the public internet (IANA special-purpose registry, 2025).
_SPECIAL_IPV6 = [ipaddress.ip_network(text) for text in ("2001::/23", "2001:db8::/32", "3fff::/20")]


class RefusedError(OSError):
    """A connection that the guard does not allow; `reason` is a code of Fetched.error."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Say whether `address` belongs to the public internet, looking through what it embeds."""
    if isinstance(address, IPv4Address):
        special = any(address in network for network in _SPECIAL_IPV4)
        return address.is_global and not (address.is_multicast or address.is_reserved or special)
    embedded = _embedded(address)
    if embedded is not None:
        return all(is_public(inner) for inner in embedded)
    if address not in _GLOBAL_UNICAST or not address.is_global:
        return False
    return not any(address in network for network in _SPECIAL_IPV6)


def _embedded(address: IPv6Address) -> list[IPv4Address] | None:
    """Return the IPv4 addresses that an IPv6 address leads to, None if it carries none."""
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address.sixtofour is not None:
        return [address.sixtofour]
    if address.teredo is not None:
        return list(address.teredo)
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    return None


class Guard:
    """Judges names and addresses by the recipe; refuses with RefusedError."""

    def __init__(self, settings: DownloadSettings) -> None:
        self._schemes = tuple(f"{scheme}://" for scheme in settings.schemes)
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._host_patterns: list[str] = []
        for entry in settings.allow_private:
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                self._host_patterns.append(entry.lower())
        self._targets = {
            pattern.lower(): split_target(target) for pattern, target in settings.connect_to.items()
        }
        self._allowed_by_host: set[str] = set()
        self._judged: dict[str, bool] = {}
        self._good_hosts: set[str] = set()

    def checked_url(self, url: str, base: str | None = None) -> str:
        """Return `url` in canonical spelling, or raise RefusedError before any look-up.

        Refuses other schemes, user information, broken hosts, literal addresses that are not
        allowed, and numeric hosts that are not written as four decimal numbers.
        """
        found = canonical(url, base)
        if found is None or not found.startswith(self._schemes):
            raise RefusedError("bad-url", "not an address that may be fetched")
        host = host_of(found)
        if host not in self._good_hosts:
            self._check_host(host)
        return found

    def _check_host(self, host: str) -> None:
        """Judge a host as it is written, which need not be done again for one that is good."""
        if ":" in host:
            self.check_address(host, host)
        elif _NUMERIC.fullmatch(host):
            self._check_numeric(host)
        if len(self._good_hosts) >= _MAX_JUDGED:
            self._good_hosts.clear()
        self._good_hosts.add(host)

    def _check_numeric(self, host: str) -> None:
        """Judge a host that ends in a number, which some resolvers take in odd spellings."""
        try:
            address = socket.inet_ntoa(socket.inet_aton(host))
        except OSError:
            raise RefusedError("bad-url", f"{host} is no address") from None
        self.check_address(host, address)
        if address != host:
            raise RefusedError("bad-url", f"{host} is an odd spelling of {address}")

    def target_of(self, host: str) -> tuple[str, int] | None:
        """Return address and port that the recipe connects `host` to, None for what DNS says."""
        for pattern, target in self._targets.items():
            if fnmatch.fnmatchcase(host, pattern):
                return target
        return None

    def check_address(self, host: str, address: str) -> None:
        """Raise RefusedError unless a request for `host` may connect to `address`."""
        if self._is_listed_or_public(address):
            return
        if any(fnmatch.fnmatchcase(host, pattern) for pattern in self._host_patterns):
            self._allowed_by_host.add(address)
            return
        raise RefusedError("private-address", f"{host} leads to {address}")

    def check_socket(self, address: str) -> None:
        """Raise RefusedError unless some allowed host led to `address`; the last lock."""
        if not self._is_listed_or_public(address) and address not in self._allowed_by_host:
            raise RefusedError("private-address", f"connection to {address}")

    def _is_listed_or_public(self, text: str) -> bool:
        """Judge an address; the answer depends on nothing else, so that it is worked out once."""
        judged = self._judged.get(text)
        if judged is None:
            if len(self._judged) >= _MAX_JUDGED:
                self._judged.clear()
            judged = self._judged[text] = self._judge(text)
        return judged

    def _judge(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return is_public(address) or any(
            address.version == network.version and address in network for network in self._networks
        )
