"""The table of what operators can do, one file a noun: each operation is declared once, with its
body, bounds and choices. The admin API, the command line and the dashboard's forms are made of it.
"""
