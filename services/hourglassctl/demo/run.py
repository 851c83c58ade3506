"""The demo: runs ten days in a minute, with the whole pipeline and an embedded Redis Cluster."""

from __future__ import annotations

from contextlib import ExitStack

from rich.console import Console

from averages_consumer.warehouse import Warehouse
from hourglass.cluster.connect import connect
from hourglass.model.clock import PipelineClock
from hourglass.model.keys import Keyspace
from hourglassctl.demo.scenario import (
    AGGREGATORS,
    ENVIRONMENT,
    LISTENERS,
    PAGE,
    PRODUCERS,
    SERVICES,
    SPEED,
    DemoScenario,
)
from hourglassctl.demo.screen import View
from hourglassctl.interrupts import interruptible
from hourglassctl.local.bootstrap import free_ports
from hourglassctl.local.embedded import EmbeddedCluster
from hourglassctl.local.process_group import ProcessGroup
from hourglassctl.local.processes import Processes


def demo(days: int, *, lanes: int, keep: bool, console: Console) -> bool:
    """Run the demo; return whether every reading was counted once. It leaves no process and no
    file."""
    with interruptible() as check, ExitStack() as resources:
        server = resources.enter_context(EmbeddedCluster())
        cluster = connect(server.url, keyspace=Keyspace())
        resources.callback(cluster.close)
        guard = resources.enter_context(ProcessGroup("hourglass-demo-"))
        warehouse_url = f"sqlite:///{guard.directory}/warehouse.db"
        warehouse = resources.enter_context(Warehouse(warehouse_url))
        warehouse.create()
        processes = Processes(
            guard,
            {
                **ENVIRONMENT,
                "HOURGLASS_LANES": str(lanes),
                "HOURGLASS_REDIS_URL": server.url,
                "HOURGLASS_WAREHOUSE_URL": warehouse_url,
            },
        )
        resources.callback(processes.stop)
        free = free_ports(len(LISTENERS))
        ports = {name: port for name, (port, _) in zip(LISTENERS, free, strict=True)}
        console.print(
            f"{days} {'day' if days == 1 else 'days'}, {SPEED:,.0f} times real time: "
            f"a {server.version} Cluster of three shards, {len(PRODUCERS)} producers, "
            f"{len(AGGREGATORS)} aggregators, one averages consumer",
            highlight=False,
            soft_wrap=True,
        )
        page = f"http://127.0.0.1:{ports[PAGE]}/"
        console.print(f"web page: {page}", soft_wrap=True, highlight=False)
        with View(console, "live partitions") as view:
            rehearsal = DemoScenario(
                days=days,
                view=view,
                cluster=cluster,
                clock=PipelineClock(cluster),
                processes=processes,
                ports=ports,
                warehouse=warehouse,
                check=check,
            )
            verdict = rehearsal.run()
        for name, value in verdict.lines():
            console.print(f"{name:34}{value:>12}", highlight=False, soft_wrap=True)
        console.print(verdict.outcome, soft_wrap=True)
        if keep:
            console.print(f"HOURGLASS_REDIS_URL={server.url}", soft_wrap=True, highlight=False)
            console.print(f"HOURGLASS_WAREHOUSE_URL={warehouse_url}", soft_wrap=True)
            for name in SERVICES:
                if name != AGGREGATORS[0]:
                    console.print(f"{name}: http://127.0.0.1:{ports[name]}/metrics", soft_wrap=True)
            console.print(f"web page: {page}", soft_wrap=True, highlight=False)
            console.print("the pipeline keeps running, an hour per minute, until Ctrl-C")
            with View(console, "live partitions") as view:
                rehearsal.view = view
                rehearsal.go_on()
    return verdict.good
