"""Who may sign up, who is told what, and what a start credit is given for."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merino.control.people import claims_of, mailbox_of
from merino.domain.errors import Conflict, LimitExceeded
from merino.domain.person import Person, Proof
from merino.portal.rates import network_of


def letters_to(house, email: str) -> list[str]:
    return [subject for to, subject, _ in house.post.letters if to == email]


def test_the_answer_does_not_tell_who_is_a_customer(house, monkeypatch):
    """Whether an address is known, unknown, blocked or barred: the same answer after the same
    reads and writes; only the letter differs."""
    house.sign_up("ada@example.org")
    house.configure(methods=("invitation",), blocked_domains=("bad.example",))
    work: list[str] = []
    for desk, names in (
        (house.store.people._points, ("run",)),
        (house.store.people._writer, ("write",)),
    ):
        for name in names:
            whole = getattr(desk, name)

            def counted(*given, _name=name, _whole=whole, **more):
                work.append(_name)
                return _whole(*given, **more)

            monkeypatch.setattr(desk, name, counted)
    seen = []
    for email in ("ada@example.org", "nobody@example.org", "eve@bad.example"):
        work.clear()
        answer = house.ask(email)
        seen.append((len(answer), tuple(work), len(letters_to(house, email)) > 0))

    assert 1 == len(set(seen)), seen
    assert "is your code" in house.post.letters[-3][1]
    assert "is your code" not in house.post.letters[-2][1]
    assert "is your code" not in house.post.letters[-1][1]


def test_domains_that_are_blocked_or_not_allowed_sign_nobody_up(house):
    """Blocked domains are out with all below them; with a list of domains, only those are in."""
    house.configure(blocked_domains=("bad.example",))
    for domain, may in (
        ("bad.example", False),
        ("sub.bad.example", False),
        ("notbad.example", True),
    ):
        assert may is house.people.may_sign_up(Proof(f"a@{domain}"), None)

    house.configure(blocked_domains=(), domains=("good.example",))
    for domain, may in (
        ("good.example", True),
        ("GOOD.example", True),
        ("sub.good.example", False),
    ):
        assert may is house.people.may_sign_up(Proof(f"a@{domain}"), None)


def test_two_sign_ups_at_once_are_one_customer_with_one_credit(house):
    """Two browsers that finish the same sign-up at the same moment make one person, one account and
    one start credit."""

    async def both():
        wanted = {"language": "en", "terms": house.people.terms}
        return await asyncio.gather(
            *(house.people.register(Proof("ada@example.org"), **wanted) for _ in range(8))
        )

    found = house.run(both())

    assert 1 == len({person.id for person, _ in found})
    assert [2_000_000_000] == [nanos for _, nanos in found if nanos]
    assert 1 == len(house.store.accounts.list())
    assert 2_000_000_000 == house.credit_of(found[0][0])


ADDRESSES = st.sampled_from(
    ["ada@example.org", "ADA@example.org", "ada+1@example.org", "ada+2@example.org",
     "a.da@gmail.com", "ada@gmail.com", "ada@googlemail.com", "bob@example.org"]
)  # fmt: skip
SUBJECTS = st.sampled_from([None, "id one", "id two"])


@settings(max_examples=15)
@given(st.lists(st.tuples(ADDRESSES, SUBJECTS), min_size=1, max_size=6))
def test_a_claim_gets_one_start_credit(tmp_path_factory, proofs):
    """However people sign up, at once and in whatever order: no mailbox and no provider's name for
    somebody gets a start credit twice."""
    from tests.unit.portal.conftest import House

    house = House(tmp_path_factory.mktemp("house"))
    house.configure(methods=("email", "oidc"))
    try:

        async def one(proof: Proof) -> tuple[Person | None, int]:
            try:
                return await house.people.register(proof, language="en", terms=house.people.terms)
            except Conflict:
                return None, 0  # whom the provider calls otherwise than the address's owner

        async def all_of_them() -> list[tuple[Person | None, int]]:
            return await asyncio.gather(*(one(Proof(*proof)) for proof in proofs))

        found = house.run(all_of_them())
        credited = [
            claim
            for proof, (_, nanos) in zip(proofs, found, strict=True)
            for claim in claims_of(Proof(*proof))
            if nanos
        ]
        assert sorted(set(credited)) == sorted(credited)
        total = sum(
            house.store.accounts.balance(a.id).posted_nanos for a in house.store.accounts.list()
        )
        assert sum(nanos for _, nanos in found) == total
    finally:
        house.close()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ada@example.org", "Ada@EXAMPLE.org", True),
        ("ada+news@example.org", "ada@example.org", True),
        ("a.d.a@gmail.com", "ada@googlemail.com", True),
        ("a.da@example.org", "ada@example.org", False),
        ("ada@example.org", "ada@example.com", False),
        ("+@example.org", "++@example.org", False),
    ],
)
def test_mailboxes_are_told_apart_by_their_form(one, other, same):
    """Tags lead to the same mailbox, and so do Google's dots; nothing else is guessed."""
    assert same is (mailbox_of(one) == mailbox_of(other))


def test_who_comes_again_after_deletion_gets_no_second_credit(house):
    """A deleted person is forgotten, but not that their mailbox had its credit."""
    person = house.sign_up("ada@example.org")
    [account_id] = house.run(house.people.forget(person))

    assert house.store.accounts.get(account_id).disabled
    assert 0 == house.credit_of(house.sign_up("ada+again@example.org"))


def test_approval_comes_before_account_and_credit(house):
    """Where operators approve, somebody waits without an account, and is let in once."""
    house.configure(approval=True)
    person = house.sign_up("ada@example.org")
    assert ("waiting", [], []) == (
        person.state,
        [*house.run(house.people.accounts_of(person.id))],
        [*house.store.accounts.list()],
    )

    approved, credited = house.run(house.people.approve(person.id))
    assert ("active", 2_000_000_000) == (approved.state, credited)
    with pytest.raises(Conflict):
        house.run(house.people.approve(person.id))
    assert 2_000_000_000 == house.credit_of(person)


def test_a_refused_or_blocked_person_does_not_come_in(house):
    """Who is refused or blocked gets no code and has no session."""
    house.configure(approval=True)
    waiting = house.sign_up("ada@example.org")
    token = house.enter("ada@example.org").token
    house.run(house.people.refuse(waiting.id))
    assert house.run(house.entrance.session(token)) is None
    house.ask("ada@example.org")
    assert "" == house.code()

    house.configure(approval=False)
    person = house.sign_up("bob@example.org")
    token = house.enter("bob@example.org").token
    house.run(house.people.block(person.id))
    assert house.run(house.entrance.session(token)) is None
    house.run(house.people.unblock(person.id))
    assert house.enter("bob@example.org").person is not None


def test_changed_terms_are_not_accepted_unseen(house):
    """Who was shown other terms than those in force has not accepted these."""
    house.configure(terms="Be kind.")
    before = house.people.terms
    house.configure(terms="Be kind, and pay.")

    with pytest.raises(Conflict):
        house.run(house.people.register(Proof("ada@example.org"), language="en", terms=before))


def test_a_network_brings_a_bounded_number_of_customers(house):
    """Start credits are no spring: a network's new customers of a day are counted."""
    house.configure(sign_ups_per_network_day=2)
    house.sign_up("a@example.org", "192.0.2.1")
    house.sign_up("b@example.org", "192.0.2.2")
    with pytest.raises(LimitExceeded):
        house.sign_up("c@example.org", "192.0.2.3")
    house.sign_up("d@example.org", "192.0.9.3")


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2ff::1", "2001:db8:1:200::/56"),
        ("fe80::1%eth0", "fe80::/56"),
        ("", "unknown"),
        ("nonsense", "unknown"),
    ],
)
def test_networks_are_as_providers_give_them_out(host, network):
    """Who has a whole network has not many sources."""
    assert network == network_of(host)
