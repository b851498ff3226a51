"""Which servers are reached through which proxy: the variables, and the exceptions to them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.settings.proxies import NoProxy, Proxies, Proxy

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("value", "host", "port", "expected"),
    [
        ("", "api.example", 443, False),
        ("*", "api.example", 443, True),
        ("other, *", "api.example", 443, True),
        # Names stand for themselves and for all below them.
        ("api.example", "api.example", 443, True),
        ("API.Example.", "api.example", 443, True),
        ("api.example", "API.EXAMPLE.", 443, True),
        ("example", "api.example", 443, True),
        (".example", "api.example", 443, True),
        (".api.example", "api.example", 443, True),
        ("*.example", "api.example", 443, True),
        ("*example", "api.example", 443, True),
        ("i.example", "api.example", 443, False),
        ("api", "api.example", 443, False),
        ("a.api.example", "api.example", 443, False),
        ("bücher.example", "www.xn--bcher-kva.example", 443, True),
        # Separated by commas, spaces, tabs and line ends, in any number.
        ("a.test b.test", "b.test", 80, True),
        ("a.test ,, b.test\tc.test\n", "c.test", 80, True),
        # Ports.
        ("api.example:443", "api.example", 443, True),
        ("api.example:443", "v1.api.example", 443, True),
        ("api.example:443", "api.example", 8443, False),
        ("10.0.0.7:8080", "10.0.0.7", 8080, True),
        ("10.0.0.7:8080", "10.0.0.7", 80, False),
        ("[::1]:8080", "::1", 8080, True),
        ("[::1]:8080", "::1", 80, False),
        # Addresses, however they are written.
        ("::1", "::1", 80, True),
        ("[::1]", "::1", 80, True),
        ("[::1]", "[::1]", 80, True),
        ("0:0:0:0:0:0:0:1", "::1", 80, True),
        ("10.0.0.7", "10.0.0.8", 80, False),
        ("0.0.7", "10.0.0.7", 80, False),
        (".7", "10.0.0.7", 80, False),
        ("::ffff:10.0.0.7", "10.0.0.7", 80, True),
        ("10.0.0.7", "::ffff:10.0.0.7", 80, True),
        # Ranges.
        ("127.0.0.0/8", "127.1.2.3", 80, True),
        ("127.0.0.1/8", "127.1.2.3", 80, True),
        ("10.0.0.0/255.0.0.0", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.0.0.1", 80, False),
        ("10.0.0.0/8", "ten.example", 80, False),
        ("fd00::/8", "fd12:3456::1", 80, True),
        ("[fd00::]/8", "fd12:3456::1", 80, True),
        ("fd00::/8", "fe80::1", 80, False),
        ("0.0.0.0/0", "8.8.8.8", 80, True),
        # A scheme limits an entry to it.
        ("http://api.example", "api.example", 80, True),
        ("https://api.example", "api.example", 80, False),
        ("all://api.example/", "api.example", 80, True),
        # What is none of this excepts nothing, and breaks nothing.
        ("10.0.0.0/99 api.example:port [::1 :80 / . ://", "api.example", 80, False),
    ],
)
def test_what_no_proxy_names(value, host, port, expected) -> None:
    """Names, addresses and ranges as other programs read them."""
    assert expected == NoProxy(value).names("http", host, port)


@given(
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)),
    st.integers(0, 128),
    st.sampled_from(("", "a.test,", " b.test ,")),
)
def test_a_range_names_its_addresses_and_no_other(address, bits, before) -> None:
    """An address is excepted if, and only if, it lies in the range."""
    network = ipaddress.ip_network((address, min(bits, address.max_prefixlen)), strict=False)
    exceptions = NoProxy(f"{before}{network}")

    assert exceptions.names("https", str(address), 443)
    outside = int(network.broadcast_address) + 1
    if outside < 2**address.max_prefixlen:
        neighbour = type(address)(outside)
        mapped = getattr(neighbour, "ipv4_mapped", None)
        assert mapped is not None or not exceptions.names("https", str(neighbour), 443)


@given(
    st.text(alphabet="a1.*-:[]/ ,@é\t", max_size=30), st.text(max_size=20), st.integers(0, 65535)
)
def test_no_value_breaks_it(value, host, port) -> None:
    """Whatever is in the variable, and whatever the host: an answer, and no error."""
    assert NoProxy(value).names("http", host, port) in (True, False)


@given(
    st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, max_size=4),
    st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), max_size=2),
    st.sampled_from(("", ".", "*.")),
)
def test_a_name_stands_for_all_below_it(labels, below, mark) -> None:
    """Whatever is put before a name with a dot is below it, whatever is glued to it is not."""
    name = ".".join(labels)
    exceptions = NoProxy(mark + name)

    assert exceptions.names("http", ".".join((*below, *labels)), 80)
    assert not exceptions.names("http", f"x{name}", 80)


@pytest.mark.parametrize(
    ("environ", "scheme", "expected"),
    [
        ({"HTTP_PROXY": PROXY}, "http", PROXY),
        ({"HTTP_PROXY": PROXY}, "https", None),
        ({"https_proxy": "proxy.example:3128"}, "https", PROXY),
        ({"all_proxy": PROXY}, "https", PROXY),
        ({"ALL_PROXY": PROXY, "HTTPS_PROXY": "http://other:1"}, "https", "http://other:1"),
        ({"http_proxy": "http://small:1", "HTTP_PROXY": PROXY}, "http", "http://small:1"),
        ({"HTTP_PROXY": PROXY, "http_proxy": ""}, "http", None),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "h.test"}, "http", None),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "h.test", "no_proxy": "x"}, "http", PROXY),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "h.test", "no_proxy": ""}, "http", PROXY),
    ],
)
def test_which_variable_counts(environ, scheme, expected) -> None:
    """Small letters before capitals, also where they are empty; a scheme's own before `all`."""
    found = Proxies(environ).of(scheme, "h.test", 80)

    assert expected == (found and found.url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://proxy:3128", None),
        ("http://[::1]:3128", None),
        ("http://me:secret@proxy:3128", None),
        ("https://me:secret@proxy:3128", "begins with https://"),
        ("socks5://me:secret@proxy:1080", "begins with socks5://"),
        ("socks5h://proxy", "begins with socks5h://"),
        ("ftp://proxy", "begins with ftp://"),
        ("http://me:secret@proxy:port", "cannot be read"),
        ("http://[::1", "cannot be read"),
        ("http://", "names no host"),
    ],
)
def test_what_the_relay_does_not_speak(url, said) -> None:
    """Everything but plain HTTP proxies is told, and without the password."""
    why_not = Proxy(url, "HTTPS_PROXY").why_not_spoken()

    assert (said is None) == (why_not is None)
    if said is not None and why_not is not None:
        assert said in why_not
        assert "secret" not in why_not


def test_where_a_proxy_without_a_port_is() -> None:
    """At its scheme's port, as with other programs."""
    assert ("proxy", 80) == (Proxy("http://proxy", "").host, Proxy("http://proxy", "").port)
    assert 443 == Proxy("https://proxy", "").port
