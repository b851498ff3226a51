"""Pure state machines of failure handling, shared by the relay and the SDK.

Nothing here reads a clock, waits or does I/O: `now` is a reading of a monotonic clock in seconds,
given by the caller, and chance comes from a function that is passed in.
"""
