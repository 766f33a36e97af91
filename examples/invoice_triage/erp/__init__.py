"""A small ERP: suppliers, orders, goods receipts, invoices and the payment queue in one SQLite file."""
