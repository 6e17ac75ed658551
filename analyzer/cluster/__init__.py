"""Who is who and what was declared: inventory, configuration, roles, and the channel of each connection."""
