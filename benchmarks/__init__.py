"""plbook against its peers: accuracy is asserted before a time counts. Run `python -m benchmarks kernel`.

The record is kept in results/ and shown on the status page of the book. Linux only: memory is read from /proc.
"""
