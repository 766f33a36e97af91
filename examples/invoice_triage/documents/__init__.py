"""Reads invoices: the page as a person sees it, the fields on it, and what does not fit together."""
