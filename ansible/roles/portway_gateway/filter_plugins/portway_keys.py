"""Keys of a gateway's configuration: those in force, those wanted, and the rounds from the ones to the others.

A key that is replaced at once on one node cuts it off from the others, or hosts from it. docs/gateway-pair.md, "Change the key", and
docs/directory.md, "A shard's", say in which order it is done; here is what each round writes.
"""

from copy import deepcopy

from ansible.errors import AnsibleFilterError

# 1: whoever does not have a shard answers under its next key too. 2: so does whoever has it; the group's new key is known.
# 3: the group's new key signs. 4: the former keys are gone.
OFFER, ADD, SIGN, DROP = 1, 2, 3, 4


def gateway(config):
    return (config or {}).get("gateway") or {}


def group_keys(config):
    """[(id, file)] of `ha.keys`; the first signs."""
    return [(key["id"], key["file"]) for key in (gateway(config).get("ha") or {}).get("keys") or []]


def shards(config):
    """TENANT/SHARD: the mapping in which its `wireguard` stands, and its number."""
    found = {}
    for tenant in gateway(config).get("tenants") or []:
        places = [(shard["shard"], shard) for shard in tenant.get("shards") or []] or [(0, tenant)]
        found.update({f"{tenant['name']}/{number}": (place, number) for number, place in places if place.get("wireguard")})
    return found


def port(wireguard, number):
    return wireguard.get("port", 51820 + number)


def own(wireguard, number):
    return (wireguard["private_key"], port(wireguard, number))


def key_changes(wanted, present):
    """What a configuration would replace at once, in words; nothing where there is none yet."""
    changes = []
    if group_keys(present) and group_keys(wanted) and group_keys(present) != group_keys(wanted):
        changes.append(f"ha.keys: {shown(present)} in force, {shown(wanted)} wanted")
    before = shards(present)
    for of, (place, _) in shards(wanted).items():
        now, then = before[of][0]["wireguard"]["private_key"] if of in before else None, place["wireguard"]["private_key"]
        if now not in (None, then):
            changes.append(f"{of}: {now} in force, {then} wanted")
    return changes


def shown(config):
    return ", ".join(f"{number} ({file})" for number, file in group_keys(config))


def key_files(config):
    """Files with keys, whose content is for good: another key is another file."""
    files = [file for _, file in group_keys(config)]
    for place, _ in shards(config).values():
        wireguard = place["wireguard"]
        files += [wireguard["private_key"], (wireguard.get("next") or {}).get("private_key")]
    return sorted({file for file in files if file})


def bridged_group(wanted, group, number):
    """`ha.keys` of a round, given what is in force on all nodes of the group."""
    new = group_keys(wanted)
    former = {key for node in group for key in group_keys(node)} - set(new)
    if not former:
        return new
    if len(new) != 1 or len(former) != 1:
        raise AnsibleFilterError(
            f"ha.keys: {shown(wanted)} wanted, {sorted(former)} in force: write one key, the new one; while it comes, the former one is added"
        )
    if new[0][0] in {key[0] for key in former}:
        raise AnsibleFilterError(f"ha.keys: the new key has the id of the former one, {new[0][0]}: give it another, 1 to 255")
    # Where an earlier run ended: no node may go back behind what others rely on.
    if any(group_keys(node) == new for node in group):
        number = DROP
    elif any(group_keys(node)[:1] == new for node in group):
        number = max(number, SIGN)
    return {OFFER: list(former), ADD: [*former, *new], SIGN: [*new, *former], DROP: new}[number]


def bridged_shard(of, wanted, group, number, active):
    """`wireguard` of a shard in a round."""
    place, shard = wanted
    key = own(place["wireguard"], shard)
    standing = [found[of] for found in map(shards, group) if of in found]
    former = {own(there["wireguard"], n) for there, n in standing}
    if not former or number == DROP or any(file == key[0] for file, _ in former):
        return place["wireguard"]
    if len(former) != 1:
        raise AnsibleFilterError(f"{of}: nodes have different keys in force, {sorted(former)}: see to that first")
    [(private_key, taken)] = former
    if taken == key[1]:
        raise AnsibleFilterError(
            f"{of}: the next key needs a port of its own, as {taken} is the present one's: write `port: {51819 - shard if taken == 51820 + shard else 51820 + shard}`"
        )
    present = {"private_key": private_key, "port": taken}
    if number == OFFER and of in active:
        return present
    return {**present, "next": {"private_key": key[0], "port": key[1]}}


def key_round(wanted, group, number, active=()):
    """What a node's file says in a round. `group`: what is in force on every node that has a configuration; `active`: TENANT/SHARD of
    those that are here."""
    number, group = int(number), [config for config in group if config]
    bridged = deepcopy(wanted)
    if group_keys(wanted):
        bridged["gateway"]["ha"]["keys"] = [{"id": of, "file": file} for of, file in bridged_group(wanted, group, number)]
    for of, (place, shard) in shards(bridged).items():
        place["wireguard"] = bridged_shard(of, (place, shard), group, number, set(active))
    return bridged


class FilterModule:
    def filters(self):
        return {
            "portway_key_changes": key_changes,
            "portway_key_files": key_files,
            "portway_key_round": key_round,
        }
