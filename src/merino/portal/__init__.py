"""The portal of customers: signing in without a password, and the pages of one's own account. What
operators decide about customers is `control/people.py`'s."""
