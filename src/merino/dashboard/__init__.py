"""The pages for operators and account owners, and the status page."""
