"""Which pages there are, for whom, in groups."""

from __future__ import annotations

from typing import NamedTuple

from merino.dashboard.sessions import Session


class Link(NamedTuple):
    """`picture` is a symbol of `icons.svg`."""

    path: str
    words: str
    picture: str


def navigation(
    session: Session, *, has_portal: bool = False, has_sla: bool = False
) -> list[tuple[str, list[Link]]]:
    """What somebody may see; of customers only where there can be some."""
    is_operator = session.is_operator
    groups = [
        (
            "Observe",
            [
                Link("", "Overview", "overview"),
                Link("/calls", "Calls", "calls"),
                Link("/models", "Models", "models"),
            ],
        ),
        (
            "Manage",
            [
                Link("/keys", "Keys", "keys"),
                Link("/limits", "Limits", "limits"),
                Link("/accounts", "Accounts" if is_operator else "Account", "accounts"),
            ],
        ),
        (
            "Try",
            [
                *([Link("/playground", "Playground", "playground")] if session.may_change else []),
                Link("/roi", "ROI", "roi"),
                *([Link("/benchmarks", "Benchmarks", "benchmarks")] if is_operator else []),
            ],
        ),
    ]
    if is_operator and (has_portal or has_sla):
        of_portal = [
            Link("/people", "People", "people"),
            Link("/invitations", "Invitations", "mail"),
        ]
        of_sla = [Link("/service-levels", "Service levels", "level")]
        links = [*(of_portal if has_portal else ()), *(of_sla if has_sla else ())]
        groups.append(("Customers", links))
    if is_operator:
        groups.append(
            (
                "Operate",
                [
                    Link("/settings", "Settings", "settings"),
                    Link("/audit", "Audit", "audit"),
                    Link("/admin-keys", "Admin keys", "admin-keys"),
                ],
            )
        )
    return groups
