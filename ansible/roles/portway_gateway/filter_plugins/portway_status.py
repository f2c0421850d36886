"""What `portway status --json` says of a gateway, judged."""

import json

# Of a planned move; it is over within seconds.
MOVING = {"offering", "releasing", "initialize"}


def gateway_faults(lines):
    """Why a gateway should not be touched, nor its neighbour, in words; nothing if all is well."""
    daemons = gateways(lines)
    if not daemons:
        return ["no gateway answers"]
    return [fault for daemon in daemons for fault in faults(daemon)]


def gateways(lines):
    return [daemon for daemon in map(json.loads, lines) if daemon.get("role") == "gateway"]


def faults(daemon):
    if "error" in daemon:
        return [daemon["error"]]
    found = list(daemon.get("failures") or [])
    if not daemon.get("ready") and not found:
        found.append("it is not ready")
    refused = (daemon.get("configuration") or {}).get("refused")
    if refused:
        found.append(f"the configuration on disk is not in force: {refused['why']}")
    for shard in (daemon.get("ha") or {}).get("shards") or []:
        of = f"{shard['tenant']}/{shard['shard']}"
        if not shard.get("able", True):
            found.append(f"{of} cannot be served here")
        if shard["state"] in MOVING:
            found.append(f"{of} is {shard['state']}")
        elif shard.get("drained"):
            found.append(f"{of} is drained here")
        elif not shard.get("in_sync"):
            found.append(f"{of}: {'nobody else has' if shard['state'] == 'active' else 'this node does not have'} its connections")
        found += [f"{of}: {warning}" for warning in shard.get("warnings") or []]
    return found


def gateway_has(lines):
    """TENANT/SHARD of those that are here; without a group all are."""
    return [
        f"{shard['tenant']}/{shard['shard']}"
        for daemon in gateways(lines)
        for shard in (daemon.get("ha") or {}).get("shards") or []
        if shard["state"] not in ("backup", "initialize")
    ]


def gateway_unmoved(lines):
    """Shards that are here of which not every host has been heard under the next key."""
    daemons, here = gateways(lines), gateway_has(lines)
    if not daemons:
        return ["no gateway answers"]
    return [
        f"{tenant['name']}/{tenant['shard']}: {tenant['beside']['heard']} of {tenant['peers']} hosts have moved to the next key"
        for daemon in daemons
        for tenant in daemon.get("tenants") or []
        if tenant.get("beside") and (not daemon.get("ha") or f"{tenant['name']}/{tenant['shard']}" in here)
        if tenant["beside"]["heard"] < tenant["peers"]
    ]


class FilterModule:
    def filters(self):
        return {
            "portway_gateway_faults": gateway_faults,
            "portway_gateway_has": gateway_has,
            "portway_gateway_unmoved": gateway_unmoved,
        }
