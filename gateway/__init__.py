"""The gateway: every tool call takes its one road, is decided by policy and stands in the ledger."""
