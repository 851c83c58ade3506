"""The versions of the warehouse's schema. A released version never changes: add a new one."""
