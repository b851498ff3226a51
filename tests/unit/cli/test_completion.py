"""What Tab offers: names that the data folder has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from click.shell_completion import get_completion_class
from tests.in_process import SIMULATED, InProcess, in_process

from merino.cli import COMPLETE_VARIABLE
from merino.cli.root import root


@pytest.fixture(scope="module")
def relay(tmp_path_factory) -> Iterator[InProcess]:
    with in_process(tmp_path_factory.mktemp("relay"), SIMULATED) as relay:
        relay.cli("accounts", "create", "--name", "mill")
        relay.cli("accounts", "create", "--name", "mine")
        relay.cli("keys", "create", "--name", "grinder", "--account", "mill")
        yield relay


@pytest.fixture
def offered(relay, monkeypatch):
    """What a shell is offered after a line whose last word has begun."""
    monkeypatch.setenv("MERINO_DATA", str(relay.data))
    monkeypatch.setenv(COMPLETE_VARIABLE, "bash_complete")

    def ask(line: str) -> list[str]:
        *words, incomplete = line.split(" ")
        shell = get_completion_class("bash")
        assert shell is not None
        completion = shell(root, {}, "merino", COMPLETE_VARIABLE)
        with relay.reached():
            return [each.value for each in completion.get_completions(words[1:], incomplete)]

    return ask


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("merino accounts show mi", ["mill", "mine"]),
        ("merino accounts credit mill", ["mill"]),
        ("merino accounts transfer mill m", ["mill", "mine"]),
        ("merino accounts statement mi", ["mill", "mine"]),
        ("merino keys disable gr", ["grinder"]),
        ("merino keys create --account min", ["mine"]),
        ("merino keys create --alias bro", ["broken"]),
        ("merino calls list --key gr", ["grinder"]),
        ("merino logs --account mil", ["mill"]),
        ("merino deployments drain fa", ["fast"]),
        ("merino topups create mil", ["mill"]),
        ("merino admin-keys rotate fir", ["first"]),
        ("merino accounts show nobody", []),
        ("merino init --model o", []),
        ("merino keys create --name gr", []),
    ],
)
def test_names_are_offered_where_one_is_wanted(offered, line, names):
    """Of accounts, keys, models, deployments; nothing where a new name is made, or the model is
    another server's."""
    assert names == offered(line)


def test_months_are_offered_the_newest_first(offered):
    """A year of them."""
    found = offered("merino report --month 20")
    assert (12, f"{datetime.now(UTC):%Y-%m}") == (len(found), found[0])


def test_keys_say_whose_they_are(relay, offered, monkeypatch):
    """Some shells show a word beside the name."""
    shell = get_completion_class("fish")
    assert shell is not None
    with relay.reached():
        found = shell(root, {}, "merino", COMPLETE_VARIABLE).get_completions(["keys", "show"], "gr")
    assert [("grinder", "mill")] == [(each.value, each.help) for each in found]


@pytest.mark.parametrize("folder", ["nowhere", "file"])
def test_without_a_folder_nothing_is_offered_and_nothing_said(tmp_path, monkeypatch, capfd, folder):
    """A shell's line is no place for an error; nor for the names of another folder."""
    (tmp_path / "file").write_text("")
    (tmp_path / "merino-data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MERINO_DATA", str(tmp_path / folder))
    monkeypatch.setenv(COMPLETE_VARIABLE, "bash_complete")
    shell = get_completion_class("bash")
    assert shell is not None
    completion = shell(root, {}, "merino", COMPLETE_VARIABLE)
    assert [] == completion.get_completions(["keys", "show"], "")
    assert ("", "") == tuple(capfd.readouterr())
