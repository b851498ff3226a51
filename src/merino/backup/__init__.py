"""Backups of a data folder: taken beside a running relay, kept as increments, restored to a moment.

It needs no relay and asks none; `storage/folder_copy.py` says why what it copies is consistent."""
