"""Who belongs to a tenant: profiles, status, preferences, settings, and the groups they are in."""
