"""The versions of the warehouse's schema. A released one stays as it is: a change is a new one."""
