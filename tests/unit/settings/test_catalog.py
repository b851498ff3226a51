"""Which deployments and aliases settings and environment add up to."""

from __future__ import annotations

from pathlib import Path

import pytest

from merino.domain.errors import Misconfigured
from merino.pricing.book import PriceBook
from merino.pricing.tariff import Tariff
from merino.settings import Settings, load, resolve

PRICED = [("openai", "o3"), ("openai", "gpt-4o"), ("deepseek", "o3"), ("other", "x")]


def names(catalog):
    return [alias.name for alias in catalog.aliases]


def test_without_anything_the_simulator_answers():
    """Zero configuration offers the simulated models under both of their names."""
    catalog = resolve(Settings(), {}, PRICED)

    assert {"sim/o3", "sim/o3-mini", "sim/o4", "sim/o4-mini", "o3", "o3-mini", "o4", "o4-mini"} == {
        *names(catalog)
    }
    assert catalog.is_simulated
    assert all(alias.reasoning for alias in catalog.aliases)


def test_an_environment_variable_is_enough_for_a_provider():
    """Every priced model of a provider is offered, and plain names are real then."""
    catalog = resolve(Settings(), {"OPENAI_API_KEY": "sk-1"}, PRICED)

    assert ["openai/o3", "openai/gpt-4o", "o3", "gpt-4o"] == names(catalog)[:4]
    assert {"sim/o3", "sim/o3-mini", "sim/o4", "sim/o4-mini"} == {*names(catalog)[4:]}
    assert ("openai",) == catalog.providers
    assert not catalog.is_simulated
    assert "sk-1" not in repr(catalog)


def test_plain_names_go_to_the_first_provider():
    """A model that two providers have is each one's by full name and the first one's by its own."""
    environ = {"DEEPSEEK_API_KEY": "d", "OPENAI_API_KEY": "o"}
    by_name = {alias.name: alias for alias in resolve(Settings(), environ, PRICED).aliases}

    assert "openai/o3" == by_name["o3"].deployments[0].name
    assert "https://api.deepseek.com/v1" == by_name["deepseek/o3"].deployments[0].base_url


def test_base_urls_of_the_environment_are_honoured():
    """OPENAI_BASE_URL moves the provider, as it does for its own SDK."""
    environ = {"OPENAI_API_KEY": "o", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1/"}
    catalog = resolve(Settings(), environ, PRICED)

    assert "http://127.0.0.1:1/v1" == catalog.deployments[0].base_url


def test_a_bad_base_url_of_the_environment_is_named():
    """A variable that cannot be a URL is told by its name."""
    with pytest.raises(Misconfigured, match="OPENAI_BASE_URL"):
        resolve(Settings(), {"OPENAI_API_KEY": "o", "OPENAI_BASE_URL": "x"}, PRICED)


def test_blank_credentials_are_none():
    """An empty variable offers nothing."""
    assert resolve(Settings(), {"OPENAI_API_KEY": " "}, PRICED).is_simulated


@pytest.fixture
def from_file(tmp_path: Path):
    def catalog_of(text: str, **environ: str):
        path = tmp_path / "merino.toml"
        path.write_text(text)
        return resolve(load(path, environ), environ, PRICED)

    return catalog_of


def test_a_file_with_deployments_says_it_all(from_file):
    """With deployments in the file, the environment adds none; the simulator stays."""
    catalog = from_file(
        """
        [[deployments]]
        name = "local"
        base_url = "http://127.0.0.1:1/v1/"
        credential = "env:LOCAL"
        upstream_model = "llama"
        headers = { x-team = "env:TEAM" }
        [aliases.chat]
        deployments = ["local"]
        output_tokens_max = 100
        """,
        LOCAL="secret ",
        TEAM="blue",
        OPENAI_API_KEY="sk-1",
    )

    deployment = catalog.aliases[0].deployments[0]
    assert ["chat", "sim/o3", "sim/o3-mini", "sim/o4", "sim/o4-mini"] == names(catalog)
    assert 100 == catalog.aliases[0].output_tokens_max
    assert ("http://127.0.0.1:1/v1", "secret", "llama", "llama") == (
        deployment.base_url,
        deployment.credential,
        deployment.upstream_model,
        deployment.price_model,
    )
    assert (("x-team", "blue"),) == deployment.headers


def test_a_deployment_without_alias_is_offered_by_its_own_name(from_file):
    """Nothing that was declared is out of reach."""
    catalog = from_file('[[deployments]]\nname = "o3"\nbase_url = "https://x/v1"')

    assert "o3" == names(catalog)[0]
    assert 100_000 == catalog.aliases[0].output_tokens_max


def test_credentials_come_from_files_beside_the_settings(from_file, tmp_path):
    """A relative file reference starts from the settings file's folder."""
    (tmp_path / "secret.txt").write_text("sk-file\n")
    catalog = from_file(
        '[[deployments]]\nname = "a"\nbase_url = "https://x/v1"\ncredential = "file:secret.txt"'
    )

    assert "sk-file" == catalog.deployments[0].credential


def test_prices_and_certificates_are_by_deployment(from_file, tmp_path):
    """A deployment's own price and certificates are found under its name."""
    (tmp_path / "ca.pem").write_text("x")
    catalog = from_file(
        '[[deployments]]\nname = "a"\nbase_url = "https://x/v1"\nca_file = "ca.pem"\n'
        'price = { input = "2.00", output = 8, cached = "0.5" }'
    )

    price = catalog.prices["a"]
    assert (2_000_000_000, 8_000_000_000, 500_000_000, None) == (
        price.input_nanos,
        price.output_nanos,
        price.cached_nanos,
        price.cache_write_nanos,
    )
    assert tmp_path / "ca.pem" == catalog.ca_files["a"]


def test_the_simulator_can_be_switched_off(from_file):
    """A relay for real models only offers nothing simulated."""
    assert [] == names(from_file("[simulator]\nenabled = false"))


def test_a_credential_that_went_away_is_told(tmp_path):
    """Between reading and resolving, as at a reload, a reference may lose its object."""
    path = tmp_path / "merino.toml"
    path.write_text('[[deployments]]\nname = "a"\nbase_url = "https://x/v1"\ncredential = "env:K"')
    settings = load(path, {"K": "k"})

    with pytest.raises(Misconfigured, match=r"deployment a: credential: .*'K' is not set"):
        resolve(settings, {}, PRICED)


def test_prices_follow_the_provider_wherever_it_is():
    """A provider reached through another host keeps its own prices."""
    environ = {"DEEPSEEK_API_KEY": "d", "DEEPSEEK_BASE_URL": "http://proxy.example/v1"}
    catalog = resolve(Settings(), environ, [("deepseek", "deepseek-v4-flash")])
    tariff = Tariff(PriceBook.load(()), {})
    price = tariff(catalog.deployments[0], 1_790_000_000_000, None)
    assert price is not None
    assert ("deepseek", "deepseek-v4-flash") == (price.provider, price.model)


@pytest.mark.parametrize(
    "declared",
    ["", '[[deployments]]\nname = "own"\nbase_url = "http://127.0.0.1:1/v1"\ncredential = "x"\n'],
    ids=["none", "one"],
)
def test_an_alias_may_name_what_is_built_in(from_file, declared) -> None:
    """With tables of one's own and without; stand-ins may, too, unless the simulator is off."""
    catalog = from_file(
        f'{declared}[aliases.test]\ndeployments = ["sim/o3", "sim/o4-mini"]\n'
        '[aliases.other]\ndeployments = ["sim/o4"]\nfallbacks = ["sim/o3"]\n'
    )
    found = {alias.name: alias for alias in catalog.aliases}
    assert ["sim/o3", "sim/o4-mini"] == [each.name for each in found["test"].deployments]
    assert ["sim/o3"] == [each.name for each in found["other"].standins]
    assert "simulator" == found["test"].deployments[0].provider
