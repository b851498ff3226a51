"""How often something may be asked for: by one address, from one network. In memory; a restart
forgets it."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Callable
from time import monotonic

_NAMES_MAX = 20_000
"""How many are remembered; beyond that, the longest quiet ones are forgotten."""


class Rate:
    """At most so many within a window, for each name."""

    def __init__(self, window_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._window_s = window_s
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, name: str, most: int) -> float:
        """How long until another one may come; 0: now."""
        times = self._times.get(name)
        if not times:
            return 0.0
        now = self._clock()
        while times and now - times[0] >= self._window_s:
            times.popleft()
        return 0.0 if len(times) < most else self._window_s - (now - times[-most])

    def note(self, name: str) -> None:
        times = self._times.setdefault(name, deque(maxlen=10_000))
        self._times.move_to_end(name)
        times.append(self._clock())
        while len(self._times) > _NAMES_MAX:
            self._times.popitem(last=False)


def network_of(host: str) -> str:
    """The network an address is in, as providers give them out: IPv4 /24, IPv6 /56."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, 56), strict=False))
        address = address.ipv4_mapped
    return str(ipaddress.ip_network((address, 24), strict=False))
