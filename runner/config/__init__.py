"""The config: its schema, and the one way from what a user typed to a frozen `Run`."""
