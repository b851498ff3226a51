"""What the commands are given that is right, in an order in which each has what it needs.

`{n}` is 1 when a command prints for people and 2 when it prints JSON. What else stands in braces is
from `PREPARED`.
"""

from __future__ import annotations

from typing import Any

_EXPORT = """\
start_time,model,input_tokens,output_tokens,input_cached_tokens,num_model_requests
1764547200,o3,1000000,200000,100000,500
"""
_PRICES = """\
provider = "simulator"
source = "https://example.org"

[[price]]
model = "o3"
valid_from = 2026-02-01
input = "1.00"
output = "2.00"
"""
PREPARED: dict[str, Any] = {
    "objects": (
        ("account", "/accounts", {"name": "mill"}),
        ("euros", "/accounts", {"name": "farm", "currency": "EUR", "overdraft": "5"}),
        ("funds", "/accounts/mill/credit", {"amount": "100"}),
        ("shell", "/keys", {"account": "default", "name": "shell"}),
        ("vouchers", "/vouchers", {"value": "1.00", "count": 4, "batch": "cli"}),
        *((f"paid{n}", "/topups", {"account": "mill", "amount": "5.00"}) for n in (1, 2)),
    ),
    "files": {
        "empty.jsonl": "",
        "file": "",
        "rates.csv": "Date, USD, JPY\n24 November 2026, 1.0523, 161.2\n",
        "no_rates.csv": "a,b\n1,2\n",
        "prices.toml": _PRICES,
        "bad_prices.toml": 'provider = "simulator"\nsource = "x"\n[[price]]\nmodel = 3\n',
        "good.toml": '[server]\nport = 9000\n\n[aliases]\nfast = {{ deployments = ["sim/o3"] }}\n',
        "bad.toml": '[server]\nport = "x"\nsheep = 1\n\n[nothing]\n',
        "no.toml": "[server\n",
        "calls.txt": "What is wool?\nWhat is a flock?\n",
        "calls.csv": "text\nwool\n",
        "calls.jsonl": '{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "o3", "messages": [{"role": "user", "content": "Hi"}]}}\n',
        "bad.jsonl": '{"custom_id": 1}\nsheep\n',
        "usage.csv": _EXPORT,
    },
}
_SIM = "--target a={bench_url}/v1,o3 --quiet --warmup 0 --max-output-tokens 20 --no-stream"
GOOD: dict[str, list[str]] = {
    "init": [
        "--yes --provider simulator --output made.toml",
        "--yes --provider other --port 9 --output made.toml --force",
        "--yes --output made.toml",
    ],
    "completion": ["fish"],
    "config check": [
        "--config relay.toml",
        "--config good.toml",
        "--config bad.toml",
        "--config no.toml",
        "--config nowhere.toml",
        "",
    ],
    "backup list": ["nowhere"],
    "backup verify": ["nowhere", "nowhere --backup 1 --all"],
    "backup prune": ["nowhere --keep 1"],
    "import openrouter": ["usage.csv", "bad.jsonl --dry-run"],
    "import new-api": ["usage.csv", "bad.jsonl --dry-run"],
    "import litellm": ["usage.csv", "bad.jsonl --dry-run"],
    "restore": ["nowhere", "nowhere --at 2026-11-01"],
    "metrics alerts": [""],
    "metrics grafana": [""],
    "reconcile": [
        "file --provider openai --month 2026-10",
        "file --provider other --month 2026-10 --deployment fast --format csv",
    ],
    "accounts create": [
        "--name shop{n}",
        "--name barn{n} --overdraft 2.5 --currency EUR --group gold --rps 5 --rpm 50 --tpm 5000 --concurrency 3 --weight 1.5",
    ],
    "accounts list": ["", "--limit 2"],
    "accounts show": ["mill", "{account[id]}"],
    "accounts update": [
        "shop{n} --overdraft 1 --group gold --spend-cap 10 --spend-period month --notice-below 2 --notice-email a@example.org",
        "shop{n} --topup-below 1 --topup-amount 5 --rps 5 --rpm 50 --tpm 5000 --concurrency 3 --weight 2",
        "shop{n} --topup-below none --topup-amount none --rps none --weight none --notice-email none --spend-cap none --notice-below none",
        "barn{n} --disable",
        "barn{n} --enable --name stall{n}",
    ],
    "accounts credit": [
        "mill 10.5 --memo gift",
        "mill 2 --idempotency-key cli-c",
        "mill 3 --idempotency-key cli-c",
    ],
    "accounts debit": [
        "mill 0.000000001",
        "mill 1 --idempotency-key cli-d --memo back",
        "mill 9999",
    ],
    "accounts transfer": [
        "mill default 1.25 --memo lunch",
        "mill default 1 --idempotency-key cli-t",
        "mill farm 1",
        "mill mill 1",
    ],
    "accounts spending": ["default", "mill"],
    "accounts statement": [
        "mill",
        "mill --format csv",
        "default --format json --month 2026-11",
        "mill --month 2020-01 --output statement{n}.html",
    ],
    "vouchers create": [
        "--value 5",
        "--value 2 --count 2 --currency EUR --expires-at 2030-01-01 --batch raffle{n} --memo fair",
    ],
    "vouchers list": ["", "--batch cli --limit 3"],
    "vouchers redeem": [
        "{vouchers[data][0][code]} mill --idempotency-key cli-v",
        "{vouchers[data][0][code]} mill",
        "no-such mill",
    ],
    "vouchers void": ["{vouchers[data][1][id]}", "{vouchers[data][2][id]}"],
    "topups create": [
        "mill 5",
        "mill 7 --provider invoice --currency CNY --memo bank",
        "mill 5 --save-card",
        "mill 1",
    ],
    "topups list": ["", "--account mill --limit 2"],
    "topups show": ["{paid1[id]}"],
    "topups confirm": ["{paid1[id]} 5.00 USD --reference bank", "{paid2[id]} 4.00 USD"],
    "topups refund": ["{paid1[id]} --amount 1", "{paid1[id]}"],
    "topups card": ["mill", "mill --forget"],
    "rates list": [""],
    "rates set": ["USD CNY 7.1", "USD GBP 0.79 --on 2026-03-01 --source bank", "USD USD 1"],
    "rates import": ["rates.csv", "rates.csv --base eur", "no_rates.csv"],
    "keys create": [
        "--name desk{n}",
        "--name lab{n} --account mill --alias o3 --alias talk --expires-at 2030-01-01 --spend-cap 9.99 --spend-period day --rps 5 --rpm 50 --tpm 5000 --concurrency 3",
        "--name odd{n} --alias no-such-model",
    ],
    "keys list": ["", "--account mill --limit 1", "--account nobody"],
    "keys show": ["desk1", "{shell[id]}"],
    "keys update": [
        "desk{n} --alias o3 --spend-cap 5 --spend-period total --expires-at 2031-01-01T10:00:00Z",
        "desk{n} --all-aliases --spend-cap none --expires-at none --rps 3 --tpm none",
        "desk{n} --name table{n}",
        "desk{n} --all-aliases --alias o3",
    ],
    "keys disable": ["table{n}"],
    "keys enable": ["table{n}"],
    "keys rotate": ["table{n}"],
    "admin-keys create": ["--name aide{n}"],
    "admin-keys list": [""],
    "admin-keys rotate": ["aide{n}"],
    "admin-keys revoke": ["aide{n}"],
    "invitations create": ["", "--email eve@example.org --account mill --role member --days 2"],
    "invitations list": ["--limit 2", "--account mill"],
    "invitations void": ["nothing"],
    "sla show": ["", "--month 2020-01"],
    "sla confirm": ["mill 2020-01"],
    "people list": ["", "--state waiting", "--email ada"],
    "people show": ["nobody"],
    "people approve": ["nobody"],
    "people refuse": ["nobody"],
    "people block": ["nobody"],
    "people unblock": ["nobody"],
    "people delete": ["nobody"],
    "calls list": [
        "--limit 3",
        "--account default --key first --alias o3 --status 200 --resolution settled --since 2026-11-01 --until 2027-01-01 --limit 2",
        "--until 2020-01-01",
        "--since 24h --limit 1",
        "--user nobody --tag none --metadata a=b",
        "--month 2020-01",
        "--month 2026-11 --since 24h",
    ],
    "calls running": ["", "--account mill --limit 1"],
    "calls show": ["{call}"],
    "entries list": [
        "--limit 3",
        "--account mill --kind voucher",
        "--account default --kind settle --limit 2",
        "--call {call}",
        "--until 2020-01-01",
    ],
    "report": [
        "",
        *(
            f"--by {by} --since 2026-11-01 --until 2027-01-01"
            for by in ("day", "alias", "key", "account", "user", "tag", "metadata")
        ),
        "--until 2020-01-01",
    ],
    "ledger verify": [""],
    "ledger export": ["--output books{n}.jsonl", "--format csv --output books{n}.csv"],
    "deployments create": [
        "third{n} --provider simulator --upstream-model o3 --price-input 1 --price-cached 0 --price-output 2 --account-price-input 2 --account-price-cached 1 --account-price-output 3 --weight 2 --endpoint chat/completions --output-limit-names as_sent --on-disconnect drain --first-token-timeout-s 9 --answer-timeout-s 8 --idle-timeout-s 7 --adaptive-concurrency --image-tokens-max 5 --file-tokens-max 6 --rps 5 --rpm 50 --tpm 5000 --concurrency 3",
        "far{n} --base-url https://api.example.com/v1 --credential env:GONE_API_KEY --price-model o3 --health-check-s 0 --header X-Title:wool",
    ],
    "deployments update": ["third{n} --rps none --weight 3 --fixed-concurrency"],
    "deployments test": ["third{n} --key shell", "far{n} --key nobody"],
    "aliases create": [
        "both{n} --deployment third{n} --deployment spare --output-tokens-max 100 --context-tokens-max 200 --reasoning --timeout-s 5 --selection-policy weighted --fallback o3 --hedging --session-affinity --rps 5 --rpm 50 --tpm 5000 --concurrency 3",
    ],
    "aliases update": ["both{n} --no-hedging --timeout-s none"],
    "aliases list": [""],
    "deployments export": ["", "--format json"],
    "aliases remove": ["both{n}"],
    "deployments remove": ["third{n}", "far{n}", "spare"],
    "deployments drain": ["spare"],
    "deployments list": [""],
    "deployments undrain": ["spare"],
    "prices list": [
        "--provider openai --model o3",
        "--config relay.toml --provider simulator",
        "--model no-such",
    ],
    "prices show": ["o3", "o3 --on 2025-07-01 --config relay.toml", "no-such"],
    "prices diff": ["prices.toml", "--from 2026-01-01 --to 2026-11-01", "bad_prices.toml", ""],
    "prices check": ["prices.toml", "bad_prices.toml", "prices.toml --strict", ""],
    "prices import": [
        "genai-prices --provider openai --known-only --on 2026-11-01 --output proposed{n}.toml"
    ],
    "batch run": [
        "calls.txt --model o3 --out text{n}.jsonl --errors text{n}.errors.jsonl --base-url {url}/v1 --quiet --concurrency 1",
        "calls.txt --model o3 --out text{n}.jsonl --errors text{n}.errors.jsonl --base-url {url}/v1 --quiet --resume",
        "calls.jsonl --out lines{n}.jsonl --base-url {url}/v1 --quiet --in-order --max-cost 1 --retries 0 --rpm 600 --tpm 100000",
        "calls.csv --model o3 --prompt 'Say: {{text}}' --out rows{n}.jsonl --dry-run --price 1,2",
        "bad.jsonl --out bad{n}.jsonl --dry-run",
        "bad.jsonl --out bad{n}.jsonl --dry-run --skip-bad",
        "empty.jsonl --out empty{n}.jsonl --dry-run",
    ],
    "bench latency": [
        f"{_SIM} --requests 3 --out run{{n}} --price 1,2 --max-cost 1 --slo error_share=0.5"
    ],
    "bench throughput": [
        f"{_SIM} --concurrency 2 --requests 4",
        f"{_SIM} --rate 100 --arrivals constant --requests 5",
    ],
    "bench compare": [
        f"{_SIM} --target b={{bench_url}}/v1,o4 --rounds 2 --requests 2 --concurrency 1"
    ],
    "bench sweep": [
        f"{_SIM} --slo error_share=0.5 --rate 50 --rate-max 50 --duration 0.1 --precision 0.5"
    ],
    "bench report": ["run1 --out page --title Sheep"],
    "bench diff": ["run1 run2", "run1 run2 --fail-if 'error_share > +0.5'", "run1 file"],
    "doctor": [
        "--base-url {url}/v1 --api-key {key} --config relay.toml",
        "--base-url {url} --api-key mk-wrong --data nowhere",
        "--base-url {url}/v1 --api-key {key} --model o3 --timeout-s 30",
    ],
    "roi": [
        "--model o3 --input-tokens 10M --output-tokens 2M --cached-share 0.2 --reasoning-share 50% --calls 1000 --months 3 --growth 5% --hosting 20 --people 100 --setup 50 --against anthropic",
        "--model o3 --input-tokens 10M --output-tokens 2M --relay guide --tier flex",
        "--from-ledger --last 30d --account default --config relay.toml",
        "--from-openai-export usage.csv",
        *(
            f"--model o3 --input-tokens 1M --output-tokens 1M --months 2 --format {form}"
            for form in ("csv", "html", "md")
        ),
        "--model o3 --input-tokens 1M --output-tokens 1M --output roi{n}.txt",
    ],
    "serve": ["--config relay.toml --data data --port 0"],
}
NEVER_RUN = {"bench serve", "status", "stop", "logs", "backup create"}
"""They run until they are stopped, or tell of this process and this moment; only their help and bad arguments are tried. (`serve` finds the
folder in use.)"""
ALONE = (
    "accounts list",
    "accounts show mill",
    "accounts spending mill",
    "keys list --limit 2",
    "admin-keys list",
    "vouchers list --batch cli",
    "topups list",
    "rates list",
    "calls list --limit 2",
    "entries list --limit 2",
    "report --by account",
    "deployments list",
    "aliases list",
    "ledger verify",
    "accounts credit mill 1",
)
