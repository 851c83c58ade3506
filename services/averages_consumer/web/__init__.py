"""The web page of the averages consumer, and its API.

- collector: reads Redis and the warehouse, once for all clients
- snapshot: the collected state, as values
- view: makes the API's documents from a snapshot; problems: the list of problems. Both pure
- documents: the schemas of the API's documents
- board: the current documents, encoded once for all clients
- app: the HTTP routes; viewers: the event stream; history: averages of any time
- server: the HTTP server and its limits
- page: wires these modules together
"""
