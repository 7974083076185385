"""The audit trail: who saw and did what, in rows that are only added, each sealing the last."""
