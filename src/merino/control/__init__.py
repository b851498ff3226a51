"""The control plane: what operators do, for the admin API, the dashboard and the command line.

Free of HTTP and SQL: it takes and returns the glossary's nouns. How they look in JSON is the
operations'.
"""
