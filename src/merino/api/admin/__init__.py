"""The admin API, one file a subject; `app` puts them together."""
