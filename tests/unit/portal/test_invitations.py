"""Invitations: to an account of one's own, or to another's."""

from __future__ import annotations

import asyncio

import pytest

from merino.domain.errors import Conflict, InvalidCall
from merino.domain.person import Proof


def invite(house, **how):
    return house.run(house.people.invite(invited_by="operator", **how))


def test_an_invitation_lets_in_where_nobody_else_may_sign_up(house):
    """With `invitation` as the only way, a new address needs one, and gets the credit it names."""
    house.configure(methods=("invitation",))
    house.ask("ada@example.org")
    assert "" == house.code()

    _, code = invite(house, credit_nanos=7_000_000_000)
    person = house.sign_up("ada@example.org", invitation=code)
    assert 7_000_000_000 == house.credit_of(person)


def test_an_invitation_is_used_once(house):
    """Of two who use it at the same moment, one comes in."""
    house.configure(methods=("invitation",))
    invitation, _ = invite(house)

    async def both():
        wanted = {"language": "en", "terms": "", "invitation_id": invitation.id}
        return await asyncio.gather(
            *(
                house.people.register(Proof(f"{name}@example.org"), **wanted)
                for name in ("ada", "bob", "eve")
            ),
            return_exceptions=True,
        )

    found = house.run(both())
    assert [True, True] == [
        isinstance(each, Conflict) for each in found if not isinstance(each, tuple)
    ]
    assert 1 == len(house.store.accounts.list())


def test_an_invitation_is_for_its_address(house):
    """One that names an address is of no use to another."""
    house.configure(methods=("invitation",))
    _, code = invite(house, email="Ada@example.org")

    house.ask("eve@example.org", invitation=code)
    assert "" == house.code()
    assert "active" == house.sign_up("ada@example.org", invitation=code).state


def test_who_was_invited_by_address_needs_no_code_of_it(house):
    """The mailbox is proof enough: an invitation to an address waits for whoever reads it."""
    house.configure(methods=("invitation",))
    invite(house, email="ada@example.org")

    person = house.sign_up("ada@example.org")
    [used] = house.run(house.people.list_invitations(limit=9)).items
    assert person.id == used.person_id


def test_an_invitation_to_an_account_gives_a_role_in_it(house):
    """A new person who joins another's account has none of their own, and gets no credit."""
    owner = house.sign_up("ada@example.org")
    [own] = house.run(house.people.accounts_of(owner.id))
    _, code = invite(house, account=own.account_id, role="viewer", email="bob@example.org")

    bob = house.sign_up("bob@example.org", invitation=code)

    [member] = house.run(house.people.accounts_of(bob.id))
    assert (own.account_id, "viewer") == (member.account_id, member.role)
    assert 1 == len(house.store.accounts.list())


def test_a_customer_joins_another_account_and_keeps_their_own(house):
    """Somebody may belong to several accounts; an invitation never takes a role away."""
    ada, bob = house.sign_up("ada@example.org"), house.sign_up("bob@example.org")
    [hers] = house.run(house.people.accounts_of(ada.id))
    for role in ("member", "viewer"):
        invitation, _ = invite(house, account=hers.account_id, role=role)
        house.run(house.people.accept(bob, invitation))

    roles = {each.account_id: each.role for each in house.run(house.people.accounts_of(bob.id))}
    assert 2 == len(roles)
    assert "member" == roles[hers.account_id]


@pytest.mark.parametrize("end", ["void", "old"])
def test_a_withdrawn_or_old_invitation_is_none(house, end):
    """What was withdrawn, or is too old, is as unknown as what never was."""
    invitation, code = invite(house, days=1)
    if end == "void":
        house.run(house.people.void_invitation(invitation.id))
    else:
        house.now_ms += 86_400_000

    assert house.run(house.people.invitation(code)) is None
    with pytest.raises(Conflict):
        house.run(house.people.accept(house.sign_up("ada@example.org"), invitation))


def test_an_account_keeps_an_owner(house):
    """The last owner neither leaves nor becomes less."""
    ada = house.sign_up("ada@example.org")
    [own] = house.run(house.people.accounts_of(ada.id))
    with pytest.raises(Conflict):
        house.run(house.people.set_role(own.account_id, ada.id, "member"))
    with pytest.raises(Conflict):
        house.run(house.people.remove(own.account_id, ada.id))

    invitation, _ = invite(house, account=own.account_id, role="owner")
    house.run(house.people.accept(house.sign_up("bob@example.org"), invitation))
    house.run(house.people.remove(own.account_id, ada.id))


def test_credit_and_account_do_not_go_together(house):
    """Credit is for an account of one's own: an invitation says one or the other."""
    ada = house.sign_up("ada@example.org")
    [own] = house.run(house.people.accounts_of(ada.id))
    with pytest.raises(InvalidCall):
        invite(house, account=own.account_id, credit_nanos=1)
