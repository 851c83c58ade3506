"""What proves and measures the product, and is no part of it.

drill        faults on purpose, and what becomes of every reading
alert_drill  which alert each of these faults fires
bench        each kind of work beside its ceiling in the same run
"""
