"""What a request can be refused with."""


class ConfigError(Exception):
    """The request cannot be run; the message lists every problem with what to type instead."""


class NotSearched(ConfigError):
    """The method has nothing to search: a mistake in a single job, passed over in a sweep over methods."""
