"""The wing of credit and payments: vouchers, transfers, top-ups, saved cards, statements, exchange,
notices.

Rules and desks lie here, their tables in `stores/`, what operators do in `operations/`, who takes
money in `providers/`, who tells in `senders/`. What the house takes of it is `wing.py`.
"""
