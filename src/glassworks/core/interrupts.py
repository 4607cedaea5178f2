"""What a request to end (SIGTERM, SIGHUP) does to a command: the same as Ctrl-C."""


def interrupt(*_: object) -> None:
    """A handler of signals. Raises KeyboardInterrupt."""
    raise KeyboardInterrupt
