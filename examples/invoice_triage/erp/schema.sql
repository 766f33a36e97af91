CREATE TABLE IF NOT EXISTS supplier (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, street TEXT, city TEXT, country TEXT NOT NULL,
    vat_id TEXT NOT NULL, currency TEXT NOT NULL, terms_days INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'active'              -- active or blocked
);
CREATE TABLE IF NOT EXISTS bank_account (
    supplier TEXT NOT NULL REFERENCES supplier, iban TEXT NOT NULL, bic TEXT, PRIMARY KEY (supplier, iban)
);
CREATE TABLE IF NOT EXISTS purchase_order (
    number TEXT PRIMARY KEY, supplier TEXT NOT NULL REFERENCES supplier, date TEXT NOT NULL, currency TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS order_line (
    purchase_order TEXT NOT NULL REFERENCES purchase_order, line INTEGER NOT NULL, article TEXT NOT NULL,
    description TEXT NOT NULL, unit TEXT NOT NULL, quantity TEXT NOT NULL, price TEXT NOT NULL,
    discount TEXT NOT NULL, PRIMARY KEY (purchase_order, line)
);
CREATE TABLE IF NOT EXISTS goods_receipt (
    id INTEGER PRIMARY KEY, purchase_order TEXT NOT NULL, line INTEGER NOT NULL, quantity TEXT NOT NULL,
    date TEXT NOT NULL, FOREIGN KEY (purchase_order, line) REFERENCES order_line
);
CREATE TABLE IF NOT EXISTS invoice (
    id INTEGER PRIMARY KEY, supplier TEXT NOT NULL REFERENCES supplier, number TEXT NOT NULL, kind TEXT NOT NULL,
    date TEXT NOT NULL, purchase_order TEXT NOT NULL, currency TEXT NOT NULL, net TEXT NOT NULL, gross TEXT NOT NULL,
    status TEXT NOT NULL,                              -- paid, queued or credited
    digest TEXT NOT NULL DEFAULT '', UNIQUE (supplier, number)
);
CREATE TABLE IF NOT EXISTS invoice_line (
    invoice INTEGER NOT NULL REFERENCES invoice, line INTEGER NOT NULL, quantity TEXT NOT NULL, price TEXT NOT NULL,
    amount TEXT NOT NULL, PRIMARY KEY (invoice, line)
);
CREATE TABLE IF NOT EXISTS payment (
    id INTEGER PRIMARY KEY, invoice INTEGER NOT NULL UNIQUE REFERENCES invoice, iban TEXT NOT NULL,
    amount TEXT NOT NULL, currency TEXT NOT NULL, due TEXT NOT NULL, queued TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS review (
    digest TEXT PRIMARY KEY, reasons TEXT NOT NULL, opened TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS invoice_by_order ON invoice (purchase_order);
