"""Who may see and do what, and who did: accounts, roles, sessions, tokens, the audit trail."""
