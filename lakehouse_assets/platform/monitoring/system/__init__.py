"""The system tables: what they hold, what writes them, and the views. Reading and masking them is the reader's."""
