"""What pages are made of, those that stand alone and the dashboard's: palette, tables, charts."""
