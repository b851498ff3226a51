"""What operators can do in the wing, a file a noun; `table.py` has them all."""
