"""A page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


@cache
def _environment(package: str) -> Environment:
    places = ((package, "templates"), ("merino.pages", "templates"), ("merino.pages", "static"))
    return Environment(
        loader=ChoiceLoader([PackageLoader(*place) for place in places]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def standing_alone(package: str, template: str, **values: Any) -> str:
    """The whole page of a package's template, which extends ``shell.html``."""
    return _environment(package).get_template(template).render(values)
