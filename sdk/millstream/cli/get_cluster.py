"""`millstream get cluster` and `get pool`: who works, as the leader sees it."""

from typing import Final

from millstream._cluster_files import Pids, url_of_endpoint
from millstream._cluster_probe import describe
from millstream._views import Json, View
from millstream.cli.outcome import DONE
from millstream.cli.output import DEFAULTS, OutputOptions, emit, emit_one
from millstream.cli.reach import Reached, on_cluster
from millstream_events.commands import AgentDescribed, ShardDescribed
from millstream_events.errors import ClusterNotReachedError

#: Longest wait for the leader's answer; without one the rest is shown.
_DESCRIBE_S: Final = 2.0
_POOL_COLUMNS: Final = ("pool", "region", "agents", "slots", "running", "workers")


def get_cluster(*, common: OutputOptions = DEFAULTS) -> int:
    """Show the cluster: where it is reached, who leads, which agents and processes it has."""
    emit_one(on_cluster(_cluster_view, live=True), common.output, name="nats")
    return DONE


def get_pool(name: str = "", /, *, common: OutputOptions = DEFAULTS) -> int:
    """Show the pools and what they offer.

    Args:
        name: One pool only.
        common: Options of every command.
    """

    async def body(place: Reached) -> list[View]:
        shard = await describe(place.endpoint, deadline_s=_DESCRIBE_S)
        if shard is None:
            raise ClusterNotReachedError(place.endpoint.url, "nobody leads the shard")
        return _pool_views(shard)

    pools = on_cluster(body, live=True)
    shown = [pool for pool in pools if not name or pool["pool"] == name]
    emit(shown, common.output, columns=_POOL_COLUMNS, name="pool")
    return DONE


async def _cluster_view(place: Reached) -> View:
    shard = await describe(place.endpoint, deadline_s=_DESCRIBE_S)
    ready = place.ready
    pids = Pids() if ready is None else ready.pids
    agents = () if shard is None else shard.agents
    shards: list[Json] = []
    schedulers: list[Json] = []
    if shard is not None:
        shards.append({"shard": shard.shard, "leader": shard.leader, "epoch": shard.epoch})
        schedulers.append({"node": shard.leader, "pid": shard.pid, "leads": [shard.shard]})
    return {
        "nats": url_of_endpoint(place.endpoint),
        "console": None if ready is None else ready.console,
        "data_dir": None if ready is None else ready.data_dir,
        "durability": place.connection.durability,
        "server_version": place.connection.server_version,
        "shards": shards,
        "schedulers": schedulers,
        "agents": [_agent_view(agent) for agent in agents],
        "pids": {
            "dev": pids.dev,
            "nats": pids.nats,
            "scheduler": pids.scheduler,
            "agent": pids.agent,
            "console": pids.console,
            "workers": [pid for agent in agents for pid in agent.workers],
        },
        "runs_live": None if shard is None else shard.runs_live,
        "actions_queued": None if shard is None else shard.actions_queued,
    }


def _agent_view(agent: AgentDescribed) -> View:
    return {
        "agent": agent.agent,
        "pool": agent.pool,
        "region": agent.region,
        "cluster": agent.cluster,
        "labels": dict(agent.labels),
        "slots": agent.slots,
        "workers": len(agent.workers),
        "running": agent.running,
        "credit": agent.credit,
        "silence_ms": agent.silence_ms,
        "pid": agent.pid,
        "worker_pids": list(agent.workers),
    }


def _pool_views(shard: ShardDescribed) -> list[View]:
    pools: dict[str, list[AgentDescribed]] = {}
    for agent in shard.agents:
        pools.setdefault(agent.pool, []).append(agent)
    return [
        {
            "pool": pool,
            "region": ",".join(sorted({agent.region for agent in agents})),
            "agents": len(agents),
            "slots": sum(agent.slots for agent in agents),
            "running": sum(agent.running for agent in agents),
            "workers": sum(len(agent.workers) for agent in agents),
            "members": [_agent_view(agent) for agent in agents],
        }
        for pool, agents in sorted(pools.items())
    ]
