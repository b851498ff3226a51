"""What is sealed opens for the account and the name that it was sealed for, and for nothing else."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.call import CallRecord
from merino.domain.kept import KeptResponse, SealedItem
from merino.gateway.ports import Replay
from merino.gateway.sealing import Sealer
from merino.ledger.lines import decode_ended, encode_record, row_of


@given(st.binary(max_size=100), st.text(max_size=5), st.text(max_size=5), st.integers(0, 99))
def test_only_its_own_seal_opens(plain, account, name, place) -> None:
    """Another account, name or secret, and any damage, open nothing."""
    sealer = Sealer(b"secret")
    sealed = sealer.seal(account, name, plain)
    assert plain == sealer.open(account, name, sealed)
    place %= len(sealed)
    damaged = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
    wrong = [
        sealer.open(account + "x", name, sealed),
        sealer.open(account, name + "x", sealed),
        Sealer(b"other").open(account, name, sealed),
        sealer.open(account, name, damaged),
        sealer.open(account, name, b""),
    ]
    assert [None] * 5 == wrong


def test_the_journal_brings_back_what_is_kept() -> None:
    """A settlement that was not booked before a crash keeps its response all the same."""
    said = (SealedItem("msg_1", b"\x01"),)
    kept = KeptResponse("acc", "resp_1", "resp_0", 1, 2, b"\x00\xff", ("msg_1",), "conv_1", said)
    replay = Replay(b"", b"", "req_1", 200, "", b"", 1, kept=kept)
    row = row_of(CallRecord("req_1", "acc", "key", "o3", "responses", 1, 200))
    line = encode_record((7, "call", 1, row, replay))
    assert (7, "call", 1, row, replay) == decode_ended(msgspec.json.decode(line))
