"""What is read from the Redis URL, and what is said of one that cannot be read."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourglass.cluster.seed import RedisUrl
from hourglass.errors import ConfigurationError


def test_one_host_is_enough() -> None:
    assert RedisUrl.parse("redis://redis.example:7000") == RedisUrl(
        nodes=(("redis.example", 7000),)
    )


def test_a_port_that_is_not_given_is_redis_own() -> None:
    assert RedisUrl.parse("redis://redis.example").nodes == (("redis.example", 6379),)


def test_several_hosts_are_kept_in_their_order() -> None:
    address = RedisUrl.parse("redis://b:7001,a, c:7003")

    assert address.nodes == (("b", 7001), ("a", 6379), ("c", 7003))


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert RedisUrl.parse("redis://[::1]:7000,[fe80::1]").nodes == (
        ("::1", 7000),
        ("fe80::1", 6379),
    )


def test_the_scheme_decides_about_tls() -> None:
    assert not RedisUrl.parse("redis://localhost").tls
    assert RedisUrl.parse("rediss://localhost").tls


@given(username=st.text(min_size=1), password=st.text(min_size=1))
def test_quoted_credentials_are_read_back_whatever_they_contain(
    username: str, password: str
) -> None:
    address = RedisUrl.parse(f"redis://{quote(username, safe='')}:{quote(password, safe='')}@a,b:7")

    assert (address.username, address.password) == (username, password)
    assert address.nodes == (("a", 6379), ("b", 7))


def test_a_password_may_contain_what_separates_the_parts() -> None:
    assert RedisUrl.parse("redis://user:p@s/s:?#@host").password == "p@s/s:?#"


@pytest.mark.parametrize(
    ("credentials", "username", "password"),
    [("", None, None), ("user@", "user", None), (":pass@", None, "pass"), ("u:@", "u", None)],
)
def test_credentials_may_be_given_in_part(
    credentials: str, username: str | None, password: str | None
) -> None:
    address = RedisUrl.parse(f"redis://{credentials}host")

    assert (address.username, address.password) == (username, password)


@pytest.mark.parametrize("path", ["", "/", "/0"])
def test_a_cluster_has_database_0(path: str) -> None:
    assert RedisUrl.parse(f"redis://host:7000{path}").nodes == (("host", 7000),)


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("", "no redis:// or rediss:// scheme"),
        ("localhost:6379", "no redis:// or rediss:// scheme"),
        ("http://localhost", "no redis:// or rediss:// scheme"),
        ("redis:/localhost", "no redis:// or rediss:// scheme"),
        ("redis://", "bad host or port"),
        ("redis://:7000", "bad host or port"),
        ("redis://a,,b", "bad host or port"),
        ("redis://a,", "bad host or port"),
        ("redis://host:port", "bad host or port"),
        ("redis://host:65536", "bad host or port"),
        ("redis://host:-1", "bad host or port"),
        ("redis://[::1", "bad host or port"),
        ("redis://host/1", "database 0 only"),
        ("redis://host?ssl=true", "no parameters after a ?"),
        ("redis://host/0?ssl=true", "or rediss:// for TLS"),
    ],
)
def test_a_url_that_cannot_be_used_names_cause_and_remedy(url: str, cause: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        RedisUrl.parse(url)

    message = str(refusal.value)
    assert cause in message
    assert "give redis://[user:password@]host:port" in message
    assert "\n" not in message


@given(text=st.text())
def test_any_text_is_an_address_or_misconfigured(text: str) -> None:
    for url in (text, f"redis://{text}", f"rediss://user:pass@{text}"):
        try:
            address = RedisUrl.parse(url)
        except ConfigurationError:
            continue
        assert address.nodes
        assert all(host and 0 <= port < 65536 for host, port in address.nodes)


@pytest.mark.parametrize("hosts", ["host:port", "host/1", "a,,b", "host:7000"])
def test_the_password_is_never_shown(hosts: str) -> None:
    url = f"redis://user:s3cr3t@{hosts}"
    try:
        shown = RedisUrl.parse(url).shown
    except ConfigurationError as refusal:
        shown = str(refusal)

    assert "s3cr3t" not in shown


def test_the_nodes_are_shown_as_they_are_written() -> None:
    assert RedisUrl.parse("rediss://user:pass@a:7000,b").shown == "a:7000,b:6379"


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    assert RedisUrl.parse("redis://[::1]:7000").shown == "[::1]:7000"
