"""The demos of `crh demo`: every step on bundled data, from training to a report."""
