"""What happens to tables and models once they run: profiles, drift, verdicts, accuracy, alerts, and the system tables."""
