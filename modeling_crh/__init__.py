"""Center-Reassigned Hashing."""
