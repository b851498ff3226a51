"""Coming over from another relay: what its files say, as settings, accounts and keys of Merino.

Pure: files in, a `Move` out. `cli/import.py` carries it out over the admin API.
"""
