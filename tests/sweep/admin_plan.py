"""What the admin API is asked that is right, in an order in which each has what it needs.

A name in braces stands for a field of an earlier answer: `{voucher[id]}`. `keep` names an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Step:
    operation: str
    path: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    keep: str = ""
    what: str = "good"


def _of(account: str) -> dict[str, str]:
    return {"account": account}


def _once(key: str) -> dict[str, str]:
    return {"idempotency-key": key}


LIMITS = {"rps": 100, "rpm": 6000, "tpm": 10**9, "concurrency": 50}
SINCE = {"since": "2026-11-01T00:00:00Z", "until": "2027-01-01T00:00:00Z"}
LONG_AGO = {"until": "2020-01-01T00:00:00Z"}
PLAN = (
    Step("create_account", body={"name": "ada"}, keep="ada"),
    Step(
        "create_account",
        body={
            "name": "berta",
            "overdraft": "2.50",
            "currency": "EUR",
            "group": "gold",
            "weight": 2.5,
        }
        | LIMITS,
    ),
    Step("create_account", body={"name": "carl", "overdraft": 3, "rps": None}),
    Step("create_account", body={"name": "ada"}, what="a name that is taken"),
    Step("list_accounts"),
    Step("list_accounts", query={"limit": "2"}, keep="accounts"),
    Step("list_accounts", query={"limit": "2", "cursor": "{accounts[next_cursor]}"}),
    Step("show_account", _of("ada")),
    Step("show_account", _of("{ada[id]}"), what="by id"),
    Step(
        "update_account",
        _of("ada"),
        body={"overdraft": "1.00", "notice_below": "0.50", "notice_email": "ada@example.org"}
        | LIMITS,
    ),
    Step(
        "update_account",
        _of("ada"),
        body={"spend_cap": "100", "spend_period": "month", "group": "gold", "weight": 3},
    ),
    Step("update_account", _of("ada"), body={"topup_below": "1.00", "topup_amount": "5.00"}),
    Step(
        "update_account",
        _of("ada"),
        body={
            "topup_below": None,
            "topup_amount": None,
            "spend_cap": None,
            "rps": None,
            "notice_email": None,
        },
    ),
    Step("update_account", _of("ada"), body={"topup_below": "1.00"}, what="half a rule"),
    Step("update_account", _of("carl"), body={"disabled": True, "name": "karl"}),
    Step("update_account", _of("karl"), body={"name": "ada"}, what="a name that is taken"),
    Step("update_account", _of("karl"), body={}, what="nothing"),
    Step("credit_account", _of("ada"), body={"amount": "10.50", "memo": "a gift"}),
    Step("credit_account", _of("ada"), body={"amount": 2}, headers=_once("c-1")),
    Step("credit_account", _of("ada"), body={"amount": 2}, headers=_once("c-1"), what="a repeat"),
    Step(
        "credit_account", _of("ada"), body={"amount": 3}, headers=_once("c-1"), what="another body"
    ),
    Step("credit_account", _of("berta"), body={"amount": "7.125"}),
    Step("debit_account", _of("ada"), body={"amount": "0.000000001", "memo": None}),
    Step("debit_account", _of("ada"), body={"amount": "1"}, headers=_once("d-1")),
    Step("debit_account", _of("ada"), body={"amount": "1"}, headers=_once("d-1"), what="a repeat"),
    Step("debit_account", _of("ada"), body={"amount": "1000"}, what="more than there is"),
    Step("create_key", body={"account": "ada", "name": "laptop"}, keep="laptop"),
    Step(
        "create_key",
        body={
            "account": "berta",
            "name": "ci",
            "aliases": ["o3", "talk"],
            "expires_at": "2030-01-01T00:00:00Z",
            "spend_cap": "9.99",
            "spend_period": "day",
        }
        | LIMITS,
    ),
    Step("create_key", body={"account": "nobody", "name": "x"}, what="an unknown account"),
    Step("create_key", body={"account": "ada", "name": "laptop"}, what="a name that is taken"),
    Step(
        "create_key", body={"account": "ada", "name": "old", "expires_at": "2020-01-01T00:00:00Z"}
    ),
    Step("create_key", body={"account": "ada", "name": "odd", "aliases": ["no-such-model"]}),
    Step("list_keys"),
    Step("list_keys", query={"account": "ada", "limit": "1"}, keep="keys"),
    Step("list_keys", query={"account": "ada", "limit": "1", "cursor": "{keys[next_cursor]}"}),
    Step("list_keys", query={"account": "nobody"}, what="an unknown account"),
    Step("show_key", {"key": "ci"}),
    Step("show_key", {"key": "{laptop[id]}"}, what="by id"),
    Step(
        "update_key",
        {"key": "ci"},
        body={"aliases": [], "expires_at": None, "spend_cap": None, "tpm": None},
    ),
    Step(
        "update_key",
        {"key": "ci"},
        body={"name": "build", "disabled": True, "spend_cap": "3", "spend_period": "total"}
        | LIMITS,
    ),
    Step("update_key", {"key": "build"}, body={"name": "laptop"}, what="a name that is taken"),
    Step("enable_key", {"key": "build"}),
    Step("disable_key", {"key": "build"}),
    Step("disable_key", {"key": "build"}, what="again"),
    Step("rotate_key", {"key": "build"}, body={}),
    Step("rotate_key", {"key": "build"}, what="without a body"),
    Step("rotate_key", {"key": "build"}, body={"keep_old": "10m"}, what="with an overlap"),
    Step("update_key", {"key": "build"}, body={"old_expires_at": None}, what="its old secret ends"),
    Step(
        "update_key",
        {"key": "build"},
        body={"old_expires_at": "2099-01-01T00:00:00Z"},
        what="an old secret that has ended",
    ),
    Step("rotate_key", {"key": "build"}, body={"keep_old": "31d"}, what="too long an overlap"),
    Step("rotate_key", {"key": "build"}, body={"keep_old": "soon"}, what="no duration"),
    Step("delete_key", {"key": "odd"}),
    Step("create_admin_key", body={"name": "deputy"}, keep="deputy"),
    Step("create_admin_key", body={"name": "deputy"}, what="a name that is taken"),
    Step("list_admin_keys"),
    Step("rotate_admin_key", {"admin_key": "deputy"}),
    Step("revoke_admin_key", {"admin_key": "{deputy[id]}"}),
    Step("revoke_admin_key", {"admin_key": "deputy"}, what="again"),
    Step("rotate_admin_key", {"admin_key": "deputy"}, what="of one that is revoked"),
    Step("show_sla"),
    Step("show_sla", query={"month": "2020-01"}),
    Step("confirm_sla", body={"account": "ada", "month": "2020-01"}, what="nothing due"),
    Step("confirm_sla", body={"account": "ada", "month": "2099-01"}, what="not over"),
    Step("create_invitation", body={}, keep="invitation"),
    Step(
        "create_invitation",
        body={"email": "eve@example.org", "account": "ada", "role": "viewer", "days": 3},
    ),
    Step("create_invitation", body={"credit": "2.50"}),
    Step("create_invitation", body={"credit": 1, "account": "ada"}, what="credit and account"),
    Step("list_invitations"),
    Step("list_invitations", query={"account": "ada", "limit": "1"}),
    Step("void_invitation", {"invitation": "{invitation[id]}"}),
    Step("void_invitation", {"invitation": "nothing"}, what="one that is not there"),
    Step("list_people"),
    Step("list_people", query={"state": "waiting", "email": "ada", "limit": "5"}),
    Step("show_person", {"person": "nobody"}),
    Step("approve_person", {"person": "nobody"}),
    Step("refuse_person", {"person": "nobody"}),
    Step("block_person", {"person": "nobody"}),
    Step("unblock_person", {"person": "nobody"}),
    Step("forget_person", {"person": "nobody"}),
    Step("create_vouchers", body={"value": "5.00"}, keep="vouchers"),
    Step(
        "create_vouchers",
        body={
            "value": 2,
            "count": 3,
            "currency": "EUR",
            "expires_at": "2030-01-01T00:00:00Z",
            "batch": "spring",
            "memo": "a raffle",
        },
        keep="raffle",
    ),
    Step("create_vouchers", body={"value": 2, "batch": "spring"}, what="a batch that is taken"),
    Step("list_vouchers"),
    Step("list_vouchers", query={"batch": "spring", "limit": "2"}, keep="page"),
    Step("list_vouchers", query={"batch": "spring", "limit": "2", "cursor": "{page[next_cursor]}"}),
    Step("list_vouchers", query={"batch": "autumn"}, what="an unknown batch"),
    Step(
        "redeem_voucher",
        body={"code": "{vouchers[data][0][code]}", "account": "ada"},
        headers=_once("v-1"),
    ),
    Step(
        "redeem_voucher",
        body={"code": "{vouchers[data][0][code]}", "account": "ada"},
        headers=_once("v-1"),
        what="a repeat",
    ),
    Step(
        "redeem_voucher",
        body={"code": "{vouchers[data][0][code]}", "account": "ada"},
        what="a code that is spent",
    ),
    Step(
        "redeem_voucher",
        body={"code": "{raffle[data][0][code]}", "account": "ada"},
        what="another currency",
    ),
    Step(
        "redeem_voucher",
        body={"code": "{raffle[data][0][code]}", "account": "karl"},
        what="a disabled account",
    ),
    Step("redeem_voucher", body={"code": "no-such", "account": "ada"}, what="an unknown code"),
    Step("void_voucher", {"voucher": "{raffle[data][1][id]}"}),
    Step("void_voucher", {"voucher": "{raffle[data][1][id]}"}, what="again"),
    Step("void_voucher", {"voucher": "{vouchers[data][0][id]}"}, what="of one that is spent"),
    Step(
        "redeem_voucher",
        body={"code": "{raffle[data][1][code]}", "account": "berta"},
        what="a code that is void",
    ),
    Step(
        "transfer",
        body={"source": "ada", "target": "default", "amount": "1.25", "memo": "lunch"},
        headers=_once("t-1"),
    ),
    Step(
        "transfer",
        body={"source": "ada", "target": "default", "amount": "1.25", "memo": "lunch"},
        headers=_once("t-1"),
        what="a repeat",
    ),
    Step(
        "transfer",
        body={"source": "ada", "target": "berta", "amount": "1"},
        what="to another currency",
    ),
    Step("transfer", body={"source": "ada", "target": "ada", "amount": "1"}, what="to itself"),
    Step(
        "transfer",
        body={"source": "ada", "target": "default", "amount": "999"},
        what="more than there is",
    ),
    Step("set_exchange_rates", body={"rates": [{"base": "USD", "quote": "CNY", "rate": "7.12"}]}),
    Step(
        "set_exchange_rates",
        body={
            "rates": [
                {
                    "base": "USD",
                    "quote": "JPY",
                    "rate": "155",
                    "valid_from": "2026-01-15",
                    "source": "a bank",
                }
            ]
        },
    ),
    Step(
        "set_exchange_rates",
        body={"rates": [{"base": "USD", "quote": "USD", "rate": "1"}]},
        what="of one currency",
    ),
    Step("list_exchange_rates"),
    Step("create_topup", body={"account": "ada", "amount": "20.00"}, keep="topup"),
    Step(
        "create_topup",
        body={
            "account": "ada",
            "amount": 5,
            "provider": "invoice",
            "currency": "CNY",
            "memo": "by bank",
        },
        keep="yuan",
    ),
    Step(
        "create_topup",
        body={"account": "ada", "amount": 5, "provider": "stripe"},
        what="a provider that is not set up",
    ),
    Step("create_topup", body={"account": "ada", "amount": "1"}, what="less than the least"),
    Step("create_topup", body={"account": "ada", "amount": "10001"}, what="more than the most"),
    Step(
        "create_topup",
        body={"account": "ada", "amount": "20", "save_card": True},
        what="no card to save",
    ),
    Step("list_topups"),
    Step("list_topups", query={"account": "ada", "limit": "1"}),
    Step("list_topups", query={"account": "nobody"}, what="an unknown account"),
    Step("show_topup", {"topup": "{topup[id]}"}),
    Step(
        "confirm_topup",
        {"topup": "{topup[id]}"},
        body={"amount": "19.00", "currency": "USD"},
        what="another amount",
    ),
    Step(
        "confirm_topup",
        {"topup": "{topup[id]}"},
        body={"amount": "20.00", "currency": "EUR"},
        what="another currency",
    ),
    Step(
        "confirm_topup",
        {"topup": "{topup[id]}"},
        body={"amount": "20.00", "currency": "USD", "reference": "bank 1"},
    ),
    Step(
        "confirm_topup",
        {"topup": "{topup[id]}"},
        body={"amount": "20.00", "currency": "USD"},
        what="again",
    ),
    Step("refund_topup", {"topup": "{yuan[id]}"}, body={}, what="of one that is not paid"),
    Step("refund_topup", {"topup": "{topup[id]}"}, body={"amount": "5.00"}),
    Step(
        "refund_topup", {"topup": "{topup[id]}"}, body={"amount": "50"}, what="more than was paid"
    ),
    Step("refund_topup", {"topup": "{topup[id]}"}, body={}),
    Step("refund_topup", {"topup": "{topup[id]}"}, body={}, what="again"),
    Step("show_saved_card", _of("ada"), what="there is none"),
    Step("forget_saved_card", _of("ada"), what="there is none"),
    Step("list_notices"),
    Step("list_notices", query={"account": "ada", "limit": "2"}),
    Step("account_spending", _of("default")),
    Step("account_spending", _of("ada")),
    Step("account_statement", _of("ada")),
    Step("account_statement", _of("ada"), {"format": "csv", "month": "2026-11"}),
    Step("account_statement", _of("default"), {"format": "json"}),
    Step("account_statement", _of("ada"), {"format": "json", "month": "2020-01"}),
    Step("list_calls", query={"limit": "12"}),
    Step("list_calls", query={"user": "nobody", "tag": "none", "metadata": "a=b"}),
    Step("list_calls", query={"limit": "2"}, keep="calls"),
    Step("list_calls", query={"limit": "2", "cursor": "{calls[next_cursor]}"}),
    Step(
        "list_calls",
        query={
            "account": "default",
            "key": "first",
            "alias": "o3",
            "status": "200",
            "resolution": "settled",
            "limit": "3",
        }
        | SINCE,
    ),
    Step("list_calls", query=LONG_AGO),
    Step("list_calls", query={"account": "nobody"}, what="an unknown account"),
    Step("list_running_calls"),
    Step("list_running_calls", query={"account": "ada", "limit": "1"}),
    Step("show_call", {"call": "{calls[data][0][id]}"}),
    Step("list_account_entries", _of("ada")),
    Step(
        "list_account_entries",
        _of("default"),
        {"kind": "settle", "limit": "2"} | SINCE,
        keep="entries",
    ),
    Step("list_account_entries", _of("default"), {"call": "{entries[data][0][call_id]}"}),
    Step("list_entries", query={"limit": "3"}, keep="entries"),
    Step("list_entries", query={"limit": "3", "cursor": "{entries[next_cursor]}"}),
    Step("list_entries", query={"account": "ada", "kind": "voucher"}),
    Step("list_entries", query=LONG_AGO),
    Step("report"),
    *(
        Step("report", query={"by": by} | SINCE)
        for by in ("account", "alias", "day", "key", "user", "tag", "metadata")
    ),
    Step("report", query=LONG_AGO),
    Step("verify_ledger"),
    Step("export_ledger"),
    Step("export_ledger", query={"format": "csv"}),
    Step("drain_deployment", body={"name": "swift"}),
    Step("drain_deployment", body={"name": "swift", "drained": False}),
    Step("drain_deployment", body={"name": "nobody"}, what="an unknown deployment"),
    Step("list_deployments"),
    Step(
        "create_deployment",
        body={
            "name": "elsewhere",
            "base_url": "https://api.example.com/v1",
            "credential": "env:GONE_API_KEY",
            "upstream_model": "llama",
            "price_input": "0.50",
            "price_cached": 0,
            "price_output": "1.25",
            "account_price_input": "1",
            "account_price_output": "2",
            "headers": ["X-Title: wool"],
            "weight": 2,
            "endpoints": ["chat/completions"],
            "output_limit_names": "max_tokens",
            "on_disconnect": "drain",
            "first_token_timeout_s": 20,
            "answer_timeout_s": 60,
            "idle_timeout_s": 10,
            "adaptive_concurrency": True,
            "image_tokens_max": 1000,
            "file_tokens_max": 2000,
        }
        | LIMITS,
    ),
    Step(
        "create_deployment",
        body={
            "name": "third",
            "provider": "simulator",
            "upstream_model": "o3",
            "price_model": "o3",
        },
    ),
    Step("create_deployment", body={"name": "third"}, what="a name that is taken"),
    Step("create_deployment", body={"name": "swift"}, what="a name of the file"),
    Step(
        "create_deployment",
        body={"name": "bare", "base_url": "https://api.example.com/v1", "credential": "sk-1"},
        what="a secret itself",
    ),
    Step("update_deployment", body={"name": "elsewhere", "rpm": None, "weight": 5}),
    Step("update_deployment", body={"name": "swift", "weight": 5}, what="one of the file"),
    Step("test_deployment", body={"name": "third", "key": "laptop"}),
    Step("test_deployment", body={"name": "nobody", "key": "laptop"}, what="an unknown deployment"),
    Step("create_alias", body={"name": "both", "deployments": ["third", "swift"]}),
    Step(
        "create_alias",
        body={
            "name": "all",
            "deployments": ["third"],
            "output_tokens_max": 1000,
            "context_tokens_max": 9000,
            "reasoning": True,
            "timeout_s": 30,
            "selection_policy": "weighted",
            "fallbacks": ["both"],
            "hedging": True,
            "session_affinity": True,
        }
        | LIMITS,
    ),
    Step("create_alias", body={"name": "none", "deployments": ["nobody"]}, what="nowhere"),
    Step("update_alias", body={"name": "both", "deployments": ["swift"], "timeout_s": 5}),
    Step("update_alias", body={"name": "o3", "timeout_s": 5}, what="one of the file"),
    Step("list_aliases"),
    Step("export_additions"),
    Step("export_additions", query={"format": "json"}),
    Step("remove_deployment", body={"name": "third"}, what="one that an alias names"),
    Step("remove_alias", body={"name": "all"}),
    Step("remove_alias", body={"name": "all"}, what="again"),
    Step("remove_deployment", body={"name": "third"}),
    Step("remove_deployment", body={"name": "elsewhere"}),
    Step("remove_alias", body={"name": "both"}),
)
