"""The words with which vendors say what a refusal is about: codes that programs read, and phrases.

All of them in small letters and without punctuation, as `verdicts.py` reads them. Gathered from the
vendors' references and from reports of other gateways' users. A phrase belongs here only if it has
one meaning.
"""

from __future__ import annotations

import re

PROMPT_NAMES = frozenset(
    (
        "cyber policy violation",
        "content filter",
        "content policy violation",
        "content safety",
        "data inspection failed",
        "datainspectionfailed",
        "guardrail intervened",
        "guardrail violation",
        "invalid prompt",
        "moderation blocked",
        "policy violation",
        "prohibited content",
        "responsibleaipolicyviolation",
        "safety",
    )
)
CREDENTIAL_NAMES = frozenset(
    (
        "access terminated error",
        "accessdeniedexception",
        "account deactivated",
        "api key invalid",
        "authentication error",
        "expiredtokenexception",
        "invalid api key",
        "invalid authentication error",
        "invalidapikey",
        "organization restricted",
        "organization suspended",
        "request forbidden",
        "unauthenticated",
        "unrecognizedclientexception",
        "unsupported country region territory",
    )
)
CREDIT_NAMES = frozenset(
    (
        "arrearage",
        "billing error",
        "billing hard limit reached",
        "billing not active",
        "credit exhausted",
        "exceeded current quota error",
        "insufficient balance",
        "insufficient credits",
        "insufficient funds",
        "insufficient quota",
        "payment required",
        "personal team blocked spending limit",
        "quota exceeded error",
    )
)
THROTTLED_NAMES = frozenset(
    (
        "modelnotreadyexception",
        "rate limit error",
        "rate limit exceeded",
        "rate limit reached",
        "servicequotaexceededexception",
        "throttling",
        "throttling ratequota",
        "throttlingexception",
        "too many requests",
        "toomanyrequestsexception",
    )
)
GONE_NAMES = frozenset(
    (
        "deploymentnotfound",
        "deployment not found",
        "invalid model",
        "model decommissioned",
        "model deprecated",
        "model not exist",
        "model not found",
        "model not supported",
        "unknown model",
    )
)

PROMPT = re.compile(
    r"\b(?:moderat\w*|flagged\w*|unsafe|jailbreak\w*|guardrails?|csam|inappropriate|prohibited"
    r"|content (?:polic\w+|filter\w*|management|moderation|safety|violat\w+|warning|is against"
    r"|(?:was|is|has been) (?:blocked|rejected|filtered|refused|not allowed))"
    r"|safety (?:check\w*|system|filter\w*|settings?|polic\w+|reasons?|guidelines?|violation)"
    r"|usage (?:polic\w+|guidelines?)|acceptable use|(?:rules|terms|conditions) of use"
    r"|(?:violat\w+|against|breach\w*) (?:\w+ ){0,6}(?:polic\w+|guidelines?|rules|terms|law)"
    r"|sensitive (?:content|words?|information|topics?)|harmful|high risk|risk control"
    r"|data inspection|responsible ai|hate speech|self harm|sexual|violence"
    r"|(?:prompt|input|request|message|image|content|text) (?:\w+ ){0,4}"
    r"(?:rejected|blocked|flagged|filtered|disallowed|violates?))\b"
    r"|敏感|违规|不安全|审核"
)
_KEY = r"(?:api ?keys?|access tokens?|security tokens?|auth\w* tokens?|credentials?|bearer tokens?)"
_BAD = (
    r"(?:invalid|incorrect|wrong|expired|revoked|disabled|leaked|malformed|deleted|deactivated"
    r"|suspended|blocked|unauthori[sz]ed)"
)
SUSPENDED = re.compile(
    r"\b(?:organi[sz]ation|account|project|team|workspace|key) (?:\w+ ){0,4}"
    r"(?:suspended|deactivated|terminated|banned|disabled)\b"
)
CREDENTIAL_PLAINLY = re.compile(
    rf"\b{_KEY} (?:\w+ )?(?:not valid|is (?:\w+ )?{_BAD}|{_BAD}|not found|has been {_BAD}"
    r"|has expired)"
    rf"|\b{_BAD} {_KEY}\b|\bincorrect api key provided|\binvalid authentication\b"
    r"|\bsecurity token included in the request\b|\buser location is not supported\b"
    rf"|\b(?:organi[sz]ation|account|project|team|subscription) (?:\w+ )?has been "
    r"(?:restricted|suspended|disabled|deactivated|deleted|terminated|blocked)\b"
)
"""Clear enough to outweigh a status that says something else."""
CREDENTIAL = re.compile(
    rf"{CREDENTIAL_PLAINLY.pattern}"
    rf"|\b{_KEY} (?:\w+ ){{0,6}}(?:{_BAD}|missing|required"
    r"|not (?:valid|authori[sz]ed|allowed|enabled))\b"
    rf"|\b(?:no|missing|unknown|bad|another|provide|your|this|the) (?:\w+ ){{0,2}}{_KEY}\b"
    r"|\bauthenticat\w+|\bunauthori[sz]ed\b|\bnot authori[sz]ed\b"
    r"|\b(?:do|does) not have (?:\w+ ){0,3}(?:access|permissions?)\b|\bdon t have access\b"
    r"|\binsufficient (?:permissions?|scopes?|privileges?)\b|\bpermission (?:\w+ ){0,4}denied\b"
    r"|\baccess to (?:\w+ ){1,6}(?:is )?denied\b|\bno (?:active )?subscription\b"
    r"|\b(?:organi[sz]ation|account|project|team|workspace|subscription|tenant) (?:\w+ ){0,5}"
    r"(?:restricted|suspended|disabled|deactivated|terminated|banned|closed|not active|inactive)\b"
    r"|\b(?:country|region|territory|location) (?:\w+ ){0,6}not (?:supported|available|allowed)\b"
    r"|\bip (?:address )?(?:\w+ ){0,3}not (?:allowed|authori[sz]ed|whitelisted)\b"
    r"|\bhas not been used in project\b|\bapi has not been enabled\b"
)
CREDIT_GONE = re.compile(
    r"\binsufficient (?:\w+ )?(?:balance|credits?|funds)\b|\bcredit balance (?:\w+ )?too low\b"
    r"|\bout of credits?\b|\bcredits? (?:\w+ ){0,2}(?:exhausted|depleted|used up)\b"
    r"|\bused all (?:\w+ ){0,2}credits\b|\bbalance is not enough\b"
)
CREDIT_PLAINLY = re.compile(
    rf"{CREDIT_GONE.pattern}|\bcheck your plan and billing\b"
    r"|\b(?:monthly|team|hard) spending (?:limit|cap)\b|\bin arrears\b|\boverdue\b"
    r"|\baccount (?:\w+ ){0,3}(?:balance is (?:\w+ )?(?:negative|insufficient)|arrear\w*)\b"
    r"|余额不足|欠费"
)
CREDIT = re.compile(
    rf"{CREDIT_PLAINLY.pattern}|\b(?:billing|unpaid|recharge|top ?up|purchase (?:\w+ )?credits)\b"
    r"|\b(?:any|more|no|enough) credits?\b|\bcredit limit\b|\bspending limit\b"
    r"|\b(?:quota|credits?|balance|allowance) (?:\w+ ){0,6}"
    r"(?:used up|exceeded|exhausted|insufficient|empty|too low|negative)\b"
    r"|\bexceeded (?:\w+ ){0,4}(?:quota|credits?|allowance)\b"
)
TOO_DEAR = re.compile(
    r"\bafford\w*|\bmax (?:completion )?tokens\b|\bfewer\b|\btoo (?:dear|expensive)\b"
    r"|\btokens? limit\b|\bthis request (?:requires|costs|would cost|needs)\b"
)
GONE = re.compile(
    r"\bmodel (?:\w+ ){0,6}(?:(?:does |do )?not exist|not found|decommissioned|retired|deprecated"
    r"|no longer (?:available|supported))\b|\binvalid model\b|\bunknown model\b"
    r"|\bmodel identifier is invalid\b|\bno such model\b"
)
TOO_LARGE = re.compile(
    r"\b(?:request|call|prompt|input|message) (?:\w+ ){0,3}too (?:large|long|big)\b"
    r"|\btoo (?:large|long|big) for\b|\breduce (?:\w+ ){0,3}(?:length|size|prompt|tokens)\b"
    r"|\bcontext length\b|\btoken count\b|\bexceeds (?:\w+ ){0,5}(?:tokens? )?(?:per|a) minute\b"
)
BUSY = re.compile(
    r"\bconcurren\w+|\boverload\w*|\bcapacity\b|\bbusy\b|\btry again\b|\bretry\b|\bslow down\b"
)
USED = re.compile(r"\bused \d|\bremaining 0\b")

_STATUS_NAMES = (
    (400, r"invalid (?:request|argument|value|type|input|prompt)|bad ?request|unsupported"),
    (400, r"unknown parameter|context length|string above|validation|unprocessable"),
    (400, r"content (?:filter|polic)"),
    (401, r"authentication|unauthenticated|unauthorized|invalid ?api ?key"),
    (403, r"permission|forbidden|moderation"),
    (404, r"not ?found|model not exist"),
    (402, r"payment required|insufficient (?:credits|balance|funds)"),
    (413, r"(?:request|payload) too large"),
    (429, r"rate ?limit|resource exhausted|too many requests|throttl|insufficient quota|tokens$"),
)  # fmt: skip
STATUS_OF_NAME = [(status, re.compile(f"^(?:{names})")) for status, names in _STATUS_NAMES]
