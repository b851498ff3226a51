"""What vendors and spreadsheets export: tables of usage and costs, in CSV or JSON."""
