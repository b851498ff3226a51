"""Reading settings: what is taken, and what is said about what is not."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from merino.domain.errors import Misconfigured
from merino.settings import Settings, load


@pytest.fixture
def read(tmp_path: Path):
    """Loads a text as merino.toml."""

    def read_text(text: str | bytes, **environ: str) -> Settings:
        path = tmp_path / "merino.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(path, environ)

    return read_text


@pytest.fixture
def refuse(read, tmp_path: Path):
    """What is said about a text that cannot be taken, without the folder's name."""

    def refused(text: str | bytes, **environ: str) -> list[str]:
        with pytest.raises(Misconfigured) as error:
            read(text, **environ)
        return error.value.message.replace(f"{tmp_path}/", "").splitlines()

    return refused


def test_no_file_means_the_defaults():
    """Zero configuration works."""
    assert Settings() == load(None, {})


def test_values_are_taken(read):
    """What the file says counts, in the types the tree declares."""
    settings = read(
        """
        [server]
        port = 9000
        drain_s = 5
        [credits]
        start = 0.30
        [prices]
        markup.factor = 1.25
        """
    )

    assert 9000 == settings.server.port
    assert 5.0 == settings.server.drain_s
    assert 300_000_000 == settings.credits.start_nanos
    assert Decimal("1.25") == settings.prices.markup.factor


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("MERINO_SERVER__PORT", "9000", ("server", "port", 9000)),
        ("MERINO_SERVER__DRAIN_S", "2.5", ("server", "drain_s", 2.5)),
        ("MERINO_CREDITS__START", "7", ("credits", "start_nanos", 7_000_000_000)),
        ("MERINO_LOG__CALLS", "true", ("log", "calls", True)),
        ("MERINO_HOLD__MODE", "expected", ("hold", "mode", "expected")),
    ],
)
def test_the_environment_wins_over_the_file(read, variable, text, value):
    """A variable overrides one setting, whatever the file says about it."""
    settings = read("[server]\nport = 1\n[hold]\nmode = 'worst_case'", **{variable: text})

    section, name, expected = value
    assert expected == getattr(getattr(settings, section), name)


def test_variables_without_two_underscores_are_no_settings(read):
    """MERINO_DATA and its like belong to the command line."""
    assert read("", MERINO_DATA="x").server == Settings().server


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[server]\nport = 'x'",
            'merino.toml:2: server.port = "x": expected `int`, got `str`; the default is 8080',
        ),
        (
            "[server]\n\nport = 70000",
            "merino.toml:3: server.port = 70000: expected `int` <= 65535; the default is 8080",
        ),
        ("[server]\nhots = 'a'", "merino.toml:2: server.hots: unknown setting; did you mean host?"),
        (
            "[[deployments]]\nname = 'a'\napi_key = 'env:K'",
            "merino.toml:3: deployments[0].api_key: unknown setting; did you mean credential?",
        ),
        (
            "[hold]\nmode = 'x'",
            (
                'merino.toml:2: hold.mode = "x": expected one of "worst_case", "expected"; '
                'the default is "worst_case"'
            ),
        ),
        (
            "hold = 5",
            "merino.toml:1: hold = 5: expected a table; write [hold]",
        ),
        (
            "[credits]\nstart = 1.0000000001",
            "merino.toml:2: credits.start = 1.0000000001: '1.0000000001' has more than nine",
        ),
        (
            "[credits]\nstart = -1",
            (
                "merino.toml:2: credits.start = -1: expected an amount that is not negative; "
                'the default is "5.00"'
            ),
        ),
        ("[stream]\nkeep_alive_s = 0", "merino.toml:2: stream.keep_alive_s = 0: expected `float`"),
        ("[stream]\nkeep_alive_s = nan", "merino.toml:2: stream.keep_alive_s = NaN: expected a"),
        ("[stream]\nkeep_alive_s = inf", "merino.toml:2: stream.keep_alive_s = Infinity: expec"),
        ("[prices]\nmarkup.factor = -1", "merino.toml:2: prices.markup.factor = -1: expected a nu"),
        (
            '[[deployments]]\nname = "a"\nbase_url = "ftp://x"',
            (
                'merino.toml:3: deployments[0].base_url = "ftp://x": must start with http:// or '
                'https://; write e.g. base_url = "https://api.openai.com/v1"'
            ),
        ),
        (
            '[[deployments]]\nname = "a"\nbase_url = "https://u:pw@x/v1"',
            'merino.toml:3: deployments[0].base_url = "https://[hidden]@x/v1": a URL must not',
        ),
        (
            '[[deployments]]\nbase_url = "https://x/v1"',
            "merino.toml:1: deployments[0].name: missing; give the deployments a name",
        ),
        (
            '[aliases.o3]\ndeployments = [\n  "a",\n]',
            (
                'merino.toml:3: aliases.o3.deployments[0] = "a": no deployment has this name; '
                "there are: sim/o3, sim/o3-mini, sim/o4, sim/o4-mini; add a [[deployments]] table for "
                "others"
            ),
        ),
        (
            '[simulator]\nenabled = false\n[aliases.o3]\ndeployments = ["sim/o3"]',
            (
                'merino.toml:4: aliases.o3.deployments[0] = "sim/o3": no deployment has this name; '
                "there are: none; add a [[deployments]] table for others"
            ),
        ),
        (
            '[[deployments]]\nname = "a"\nbase_url = "https://x/v1"\nendpoints = ["response"]',
            (
                'merino.toml:4: deployments[0].endpoints = ["response"]: "response" is not one of '
                '"chat/completions", "responses", "messages", "generateContent", "embeddings"; did you mean "responses"?'
            ),
        ),
        (
            (
                '[aliases."open ai"]\ndeployments = ["sim"]\n[[deployments]]\nname = "sim"\n'
                'provider = "simulator"'
            ),
            'merino.toml:1: aliases."open ai": not a usable name',
        ),
        ("[server\nport = 1", "merino.toml:1: not valid TOML: Expected ']'"),
        ("a = 1\na = 2", "merino.toml:2: not valid TOML: Cannot overwrite a value"),
        ('a = "', "merino.toml:1: not valid TOML: Unterminated string"),
        (b"a = 1\nb = '\xff'", "merino.toml:2: not UTF-8 text; save the file as UTF-8"),
        ("[server.tls]\ncert_file = 'no.pem'", "merino.toml:1: server.tls: cert_file and key_file"),
    ],
)
def test_a_fault_names_file_line_key_value_and_way_out(refuse, text, said):
    """What is wrong can be found and mended from the message alone."""
    lines = refuse(text)

    assert any(line.startswith(said) for line in lines), lines


def test_deep_nesting_is_a_message(refuse):
    """A file made to overflow the parser gets an answer like any other."""
    assert "nested too deeply" in refuse("a = " + "[" * 100_000)[0]


def test_every_fault_is_told_at_once_in_order(refuse):
    """Nobody mends a file one message at a time."""
    lines = refuse(
        """
[server]
port = "x"
[[deployments]]
name = "a"
base_url = "https://x/v1"
[[deployments]]
name = "a"
base_url = "nothing"
credential = "env:NOPE"
[aliases.m]
deployments = ["b", "a", "a"]
output_tokens_max = 10
context_tokens_max = 5
"""
    )

    keys = [line.split(": ")[1].split(" = ")[0] for line in lines]
    assert [
        "server.port",
        "deployments[1].name",
        "deployments[1].base_url",
        "deployments[1].credential",
        "aliases.m.deployments[0]",
        "aliases.m.deployments[2]",
        "aliases.m.output_tokens_max",
    ] == keys
    assert [f"merino.toml:{n}" for n in (3, 8, 9, 10, 12, 12, 13)] == [
        line.split(": ")[0] for line in lines
    ]


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("MERINO_SERVER__PORT", "x", 'environment: MERINO_SERVER__PORT = "x": expected `int`'),
        ("MERINO_SERVER__HOTS", "x", "environment: MERINO_SERVER__HOTS: unknown setting; did you"),
        ("MERINO_SERVER", "", None),
        ("MERINO_NOTHING__X", "1", "environment: MERINO_NOTHING__X: unknown setting; known: se"),
        ("MERINO_SERVER__PORT__X", "1", "environment: MERINO_SERVER__PORT__X: port has nothing"),
        ("MERINO_SERVER__TLS", "1", "environment: MERINO_SERVER__TLS: is a table; name one of"),
        ("MERINO_DEPLOYMENTS__0__NAME", "a", "environment: MERINO_DEPLOYMENTS__0__NAME: cannot"),
        ("MERINO_SERVER__", "a", "environment: MERINO_SERVER__: not the name of a setting"),
    ],
)
def test_a_wrong_variable_is_named(read, refuse, variable, text, said):
    """A fault that came from the environment is not blamed on the file."""
    if said is None:
        read("", **{variable: text})
    else:
        assert refuse("", **{variable: text})[0].startswith(said)


def test_a_missing_file_is_a_message(tmp_path):
    """A path that leads nowhere is told, not raised."""
    with pytest.raises(Misconfigured, match="no such file"):
        load(tmp_path / "none.toml", {})
    with pytest.raises(Misconfigured, match="cannot be read"):
        load(tmp_path, {})


SECRET = "sk-very-secret"


def test_a_literal_credential_is_taken_with_a_warning(read):
    """It works, and the operator is told of a better way; the warning has no secret in it."""
    settings = read(
        f'[[deployments]]\nname = "a"\nbase_url = "https://x/v1"\ncredential = "{SECRET}"\n'
        f'headers = {{ Authorization = "{SECRET}" }}'
    )

    assert 2 == len(settings.warnings)
    assert SECRET not in repr(settings)
    assert not any(SECRET in warning for warning in settings.warnings)


@pytest.mark.parametrize(
    "line",
    [
        f'credential = ["{SECRET}"]',
        f'credential = "{SECRET}\\u0007"',
        f'headers = {{ a = ["{SECRET}"] }}',
        f'headers = {{ a = "{SECRET}\\u0007" }}',
        f'headers = {{ Host = "{SECRET}" }}',
        f'base_url = "https://user:{SECRET}@x/v1"',
    ],
)
def test_secrets_never_show_in_messages(refuse, line):
    """Also what is wrong about a secret is said without it."""
    base = "" if line.startswith("base_url") else 'base_url = "https://x/v1"\n'

    assert not any(SECRET in said for said in refuse(f'[[deployments]]\nname = "a"\n{base}{line}'))


def test_credentials_in_clear_are_warned_about(read):
    """Sending a credential over plain HTTP to another machine is allowed and unwise."""
    text = '[[deployments]]\nname = "a"\nbase_url = "http://{}/v1"\ncredential = "env:K"'

    assert 1 == len(read(text.format("example.org"), K="k").warnings)
    assert () == read(text.format("127.0.0.1:1234"), K="k").warnings


@pytest.mark.parametrize(
    ("provider", "base_url", "said"),
    [
        ("anthropic", "https://api.anthropic.com/v1", None),
        ("openai", "https://api.anthropic.com/v1", None),
        ("anthropic", "https://api.anthropic.com", "it is https://api.anthropic.com/v1"),
        ("gemini", "https://api.anthropic.com/v1", 'provider = "anthropic" or "openai"'),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta", None),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta/openai",
         "it is https://generativelanguage.googleapis.com/v1beta"),
        ("openai", "https://generativelanguage.googleapis.com/v1beta",
         "it is https://generativelanguage.googleapis.com/v1beta/openai"),
        ("anthropic", "https://proxy.example.com/claude", None),
    ],
)  # fmt: skip
def test_a_vendors_address_fits_the_dialect(read, provider, base_url, said):
    """Each vendor has each dialect at one place; the warning says at which."""
    text = f'[[deployments]]\nname = "a"\nprovider = "{provider}"\nbase_url = "{base_url}"'
    found = read(text).warnings
    assert said is None or said in found[0]
    assert (said is not None) == bool(found)


def test_who_needs_no_secrets_need_not_have_them(tmp_path):
    """References to what is not there are let be, wherever they stand; all else is still checked."""
    path = tmp_path / "merino.toml"
    text = (
        '[[deployments]]\nname = "a"\nbase_url = "https://x/v1"\ncredential = "env:NOT_SET"\n'
        'headers = {{ X-Key = "file:none" }}\n[dashboard.oidc]\nissuer = "https://id.example.org"\n'
        'client_id = "relay"\nclient_secret = "env:NOT_SET"\noperators = ["a@b.example"]\n{}'
    )
    path.write_text(text.format(""))
    with pytest.raises(Misconfigured) as error:
        load(path, {})

    assert 3 == len(error.value.message.splitlines())
    assert "env:NOT_SET" == load(path, {}, needs_secrets=False).deployments[0].credential
    path.write_text(text.format("[aliases.o3]\ndeployments = ['b']"))
    with pytest.raises(Misconfigured, match="no deployment has this name"):
        load(path, {}, needs_secrets=False)


def test_a_health_check_of_the_simulator_is_warned_about(read, tmp_path):
    """Nothing would be asked, so it is told, with its line; a check of an upstream is fine."""
    text = '[[deployments]]\nname = "a"\n{}\nhealth_check_s = 10'

    (warning,) = read(text.format('provider = "simulator"')).warnings
    assert warning.removeprefix(f"{tmp_path}/").startswith(
        "merino.toml:4: deployments[0].health_check_s = 10.0: does nothing, since the simulator"
    )
    assert () == read(text.format('base_url = "https://x/v1"')).warnings
    assert () == read('[[deployments]]\nname = "a"\nprovider = "simulator"').warnings


def test_an_address_of_the_simulator_is_warned_about(read):
    """It is never asked over the network; whoever gives it an address meant another provider."""
    text = '[[deployments]]\nname = "a"\nprovider = "simulator"\nbase_url = "https://x/v1"'

    (warning,) = read(text).warnings
    assert 'deployments[0].base_url = "https://x/v1": does nothing' in warning


def test_warnings_say_where_in_the_order_of_the_file(read):
    """Like faults, each names its file, line and key."""
    settings = read(
        '[[deployments]]\nname = "a"\ncredential = "literal"\nbase_url = "http://example.org/v1"\n'
        'headers = { "X-Api-Key" = "literal" }'
    )

    assert [
        "merino.toml:3: deployments[0].credential: stands in the settings file",
        'merino.toml:4: deployments[0].base_url = "http://example.org/v1": not https',
        "merino.toml:5: deployments[0].headers.X-Api-Key: stands in the settings file",
    ] == [
        warning[warning.index("merino.toml") :].split(",")[0].split(";")[0]
        for warning in settings.warnings
    ]


def test_a_bom_and_windows_lines_are_fine(read):
    """Files from any editor are read."""
    assert 1 == read(b"\xef\xbb\xbf[server]\r\nport = 1\r\n").server.port
