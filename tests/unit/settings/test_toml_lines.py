"""Line numbers of keys in TOML texts."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.settings.toml_lines import LineOf

TEXT = '''\
# a comment = [ "
top = 1 # trailing
"quoted.key" = """
not = "a key"
"""
a.b.c = '\\'

[server]
list = [
  1, # one
  [2, 3],
  { x = 1, y = "]" },
]

[[deployments]]
name = "a"

[[deployments]]
name = "b"
price = { input = "1", output = "2" }
[deployments.headers]
x = "y"
[aliases."a/b"]
deployments = ["x"]
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("quoted.key",), 3),
        (("a", "b", "c"), 6),
        (("server",), 8),
        (("server", "list", 0), 10),
        (("server", "list", 1), 11),
        (("server", "list", 2, "y"), 12),
        (("deployments",), 15),
        (("deployments", 0, "name"), 16),
        (("deployments", 1), 18),
        (("deployments", 1, "name"), 19),
        (("deployments", 1, "price", "output"), 20),
        (("deployments", 1, "headers", "x"), 22),
        (("aliases", "a/b"), 23),
        (("aliases", "a/b", "deployments", 0), 24),
        (("server", "unknown"), 8),
        (("nothing",), 0),
    ],
)
def test_every_key_has_its_line(path, line):
    """A key's line is where it is written; an unknown key's that of its table."""
    assert line == LineOf(TEXT)[path]


@given(st.text(alphabet="ab=.[]{}\"'#,\n\\ 1", max_size=60))
def test_scanning_ends_for_every_text_that_is_toml(text):
    """Whatever tomllib accepts, the scanner gets through, and finds its keys."""
    try:
        document = tomllib.loads(text)
    except ValueError:
        return
    lines = LineOf(text)
    for key in document:
        assert 1 <= lines[key,] <= text.count("\n") + 1


def test_a_table_begins_with_its_first_header() -> None:
    """Also where that is the header of a table inside it."""
    lines = LineOf("x = 1\n[aliasses.o3]\ny = 2\n[aliasses.o4]\n")
    assert (2, 2, 4) == (lines["aliasses",], lines["aliasses", "o3"], lines["aliasses", "o4"])
