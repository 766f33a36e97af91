"""The coordinator: takes a case from trigger to report."""
