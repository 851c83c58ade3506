"""The web page of the averages consumer, and its API.

- collector: asks Redis and the warehouse, once for all viewers
- snapshot: what was found, as values
- view: what the page shows of it, as documents; troubles: what is wrong now. Both pure
- board: the documents as they stand, encoded once
- app: serves them: the page, the API; viewers: the event stream; history: the warehouse's past
- server: the HTTP server, and its limits
- page: puts them together
"""
