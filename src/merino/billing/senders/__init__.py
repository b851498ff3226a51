"""The ways on which notices reach their readers."""
