"""Makes up suppliers, orders, receipts and invoices, honest and hostile, with the truth about each."""
