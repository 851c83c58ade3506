"""The pipeline measured beside its limits: each figure next to its ceiling in the same run.

    figures    what a measurement is: values of each repeat, ratios, medians, curves (pure)
    rig        a fresh cluster, and the pipeline's steps as a process of each kind does them
    suite      the kinds of work by name, and running them
    report     as text, as data, as the page docs/benchmarks.md with its plots

Each of the other modules measures one kind of work: it takes a rig and yields findings. A new kind
is a new module and a line in `suite`.
"""
