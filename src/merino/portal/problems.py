"""What went wrong, in the customer's language: by its code where we know it, else as it is."""

from __future__ import annotations

from collections.abc import Mapping

from merino.domain.errors import MerinoError, StoreUnavailable
from merino.portal.catalogues import Words

_BY_CODE: Mapping[str, str] = {
    "invalid_email": "This is not a mail address such as ada@example.org.",
    "too_many_letters": "Too many letters were asked for. Try again in an hour.",
    "too_many_tries": "Too many wrong codes came from your network. Try again in an hour.",
    "too_many_sign_ups": "Too many new customers come from your network. Try again tomorrow.",
    "wrong_code": "This code is wrong, was used, or is too old. Type it again, or ask for another.",
    "terms_changed": "The terms have changed meanwhile. Read and accept them.",
    "terms_missing": "Accept the terms to go on.",
    "sign_up_closed": "Nobody can sign up this way here.",
    "address_of_another": (
        "This address belongs to somebody else here. Ask whoever runs this portal."
    ),
    "not_signed_in": "You were not signed in. Try again, or choose another way.",
    "invitation_used": "This invitation was used, withdrawn or is too old. Ask for another.",
    "invitation_for_another": "This invitation is for another address. Sign in with that one.",
    "not_new": "You have an account already.",
    "not_from_here": "This form is too old, or not from this page. Reload and try again.",
    "not_allowed": "Your role in this account does not allow that. Ask an owner.",
    "last_owner": "An account has at least one owner.",
    "invalid_amount": (
        "This amount is not possible: it is out of bounds, or not written like 25 or 25.50."
    ),
    "invalid_name": "Use up to 60 letters, digits, spaces and . _ -, a letter or digit first.",
    "name_taken": "There is one of this name already. Choose another.",
    "page_not_found": "There is no such page.",
    "topup_not_found": "There is no such payment.",
    "account_not_found": "There is no such account.",
    "invitation_not_found": "There is no such invitation.",
    "invalid_month": "There is no statement of this month.",
    "key_not_found": "There is no such key.",
    "voucher_not_found": "There is no voucher with this code.",
    "voucher_redeemed": "This voucher was used already.",
    "voucher_void": "This voucher is void.",
    "voucher_expired": "This voucher has expired.",
    "invalid_voucher": "This is not the code of a voucher.",
    "half_a_rule": "Fill in both amounts, or leave both empty.",
    "no_saved_card": "There is no saved card.",
    "no_saved_cards": "A card cannot be saved this way.",
    "invalid_details": "This is too long, or has characters that cannot be printed.",
    "invalid_tax_id": "Use letters, digits, spaces and . / - such as DE123456789.",
    "invoice_not_found": "There is no invoice of what was not paid.",
    "no_payment_provider": "Nothing can be paid here now. Ask whoever runs this portal.",
    "not_confirmed": "Type your address exactly as it stands there.",
    "member_not_found": "There is no such member.",
    "invalid_language": "This language is not there.",
}


def problem_text(error: MerinoError, words: Words) -> str:
    said = _BY_CODE.get(error.code or "")
    if said is not None:
        return words(said)
    if isinstance(error, StoreUnavailable):
        return words("The relay cannot write now. Try again in a minute.")
    return error.message
