"""The drill: faults on purpose, against a cluster of its own, and what became of every reading.

catalogue   which faults there are, what each promises, and what the promise rests on
stage       a cluster, its services under load, and a warehouse
evidence    what can be found afterwards: raw readings, records, rows, producers' own words
reckoning   what that amounts to: lost, and counted twice (pure)
report      whether the promise was kept, and how it is shown (pure)
"""
