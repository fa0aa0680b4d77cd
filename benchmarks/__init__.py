"""plbook against its peers: accuracy is asserted before a time counts. Run `python -m benchmarks kernel` or `hessian`.

The records are kept in results/ and shown on the status page of the book. Linux only: memory is read from /proc.
"""
