"""The web page of the averages consumer, and its API.

- collector: reads Redis and the warehouse, once for all clients
- view: makes the API's documents from what was read; schemas: their fields. Pure
- document_store: the current documents, encoded once, and the subscribers to their changes
- api: query parameters and the description of the API
- app: the HTTP routes and the page's files
- server: starts all of this; the HTTP server and its limits
"""
