"""The filters of the roles."""

import io
import json
import pathlib
import sys
import tarfile
import tempfile
import unittest

ROLES = pathlib.Path(__file__).parents[2] / "ansible/roles"
for role in ("portway", "portway_gateway"):
    sys.path.insert(0, str(ROLES / role / "filter_plugins"))
sys.dont_write_bytecode = True

from ansible.errors import AnsibleFilterError  # noqa: E402
from portway_keys import key_changes, key_files, key_round  # noqa: E402
from portway_package import package_version  # noqa: E402
from portway_status import gateway_faults, gateway_has, gateway_unmoved  # noqa: E402


def config(keys=(), shards=(), tenant=None):
    tenants = [{"name": "acme", "shards": [{"shard": number, "wireguard": wireguard} for number, wireguard in shards]}]
    if tenant:
        tenants = [{"name": "acme", "wireguard": tenant}]
    gateway = {"tenants": tenants}
    if keys:
        gateway["ha"] = {"keys": [{"id": number, "file": f"/etc/portway/ha-{number}.key"} for number in keys]}
    return {"gateway": gateway}


def ids(of):
    return [key["id"] for key in of["gateway"]["ha"]["keys"]]


def rounds(wanted, *group, active=()):
    return [key_round(wanted, group, number, active) for number in (1, 2, 3, 4)]


def wireguard(of, shard=0):
    return of["gateway"]["tenants"][0]["shards"][shard]["wireguard"]


OLD = {"private_key": "/etc/portway/acme.key"}
NEW = {"private_key": "/etc/portway/acme-2.key", "port": 51819}


class GroupKeys(unittest.TestCase):
    def test_add_then_swap_then_drop(self):
        written = rounds(config([2]), config([1]), config([1]))
        self.assertEqual([ids(of) for of in written], [[1], [1, 2], [2, 1], [2]])

    def test_nothing_changes_where_nothing_is_to_change(self):
        self.assertEqual(rounds(config([1]), config([1]), config([1])), [config([1])] * 4)
        self.assertEqual(rounds(config([1]), None), [config([1])] * 4)

    def test_a_run_that_was_cut_off_goes_on_where_it_ended(self):
        for group, expected in {
            ((1,), (1, 2)): [[1], [1, 2], [2, 1], [2]],
            ((1, 2), (2, 1)): [[2, 1], [2, 1], [2, 1], [2]],
            ((2,), (2, 1)): [[2], [2], [2], [2]],
        }.items():
            written = rounds(config([2]), *map(config, group))
            self.assertEqual([ids(of) for of in written], expected, group)

    def test_what_cannot_be_reached_is_refused(self):
        for wanted, group in [([2, 3], [[1]]), ([3], [[1], [2]])]:
            with self.assertRaisesRegex(AnsibleFilterError, "write one key"):
                key_round(config(wanted), map(config, group), 2)
        other = config([1])
        other["gateway"]["ha"]["keys"][0]["file"] = "/etc/portway/other.key"
        with self.assertRaisesRegex(AnsibleFilterError, "give it another"):
            key_round(other, [config([1])], 2)


class ShardKeys(unittest.TestCase):
    def test_whoever_does_not_have_the_shard_comes_first(self):
        wanted, group = config(shards=[(0, NEW)]), [config(shards=[(0, OLD)])] * 2
        with_next = {**OLD, "port": 51820, "next": NEW}
        here = [wireguard(of) for of in rounds(wanted, *group, active=["acme/0"])]
        self.assertEqual(here, [{**OLD, "port": 51820}, with_next, with_next, NEW])
        elsewhere = [wireguard(of) for of in rounds(wanted, *group)]
        self.assertEqual(elsewhere, [with_next, with_next, with_next, NEW])

    def test_a_run_that_was_cut_off_in_its_last_round_ends_it(self):
        offered = config(shards=[(0, {**OLD, "next": NEW})])
        written = rounds(config(shards=[(0, NEW)]), offered, config(shards=[(0, NEW)]))
        self.assertEqual([wireguard(of) for of in written], [NEW] * 4)

    def test_one_cut_off_before_begins_again(self):
        offered = config(shards=[(0, {**OLD, "next": NEW})])
        written = rounds(config(shards=[(0, NEW)]), offered, config(shards=[(0, OLD)]))
        self.assertEqual(wireguard(written[1]), {**OLD, "port": 51820, "next": NEW})

    def test_a_port_that_is_taken_is_told_with_the_free_one(self):
        for present, wanted, free in [(OLD, {"private_key": "/b"}, 51819), ({**NEW}, {"private_key": "/b", "port": 51819}, 51820)]:
            with self.assertRaisesRegex(AnsibleFilterError, f"write `port: {free}`"):
                key_round(config(shards=[(0, wanted)]), [config(shards=[(0, present)])], 2)

    def test_a_tenant_without_shards_has_shard_0(self):
        written = rounds(config(tenant=NEW), config(tenant=OLD))
        self.assertEqual(written[1]["gateway"]["tenants"][0]["wireguard"]["next"], NEW)
        self.assertEqual(written[3], config(tenant=NEW))

    def test_other_shards_stay(self):
        both = config(shards=[(0, NEW), (1, {"private_key": "/c"})])
        written = rounds(both, config(shards=[(0, OLD), (1, {"private_key": "/c"})]))
        self.assertEqual([wireguard(of, 1) for of in written], [{"private_key": "/c"}] * 4)


class Guards(unittest.TestCase):
    def test_what_changes_at_once_is_named(self):
        self.assertEqual(key_changes(config([2]), config([1])), ["ha.keys: 1 (/etc/portway/ha-1.key) in force, 2 (/etc/portway/ha-2.key) wanted"])
        wanted, present = config(shards=[(0, NEW)]), config(shards=[(0, OLD)])
        self.assertEqual(key_changes(wanted, present), ["acme/0: /etc/portway/acme.key in force, /etc/portway/acme-2.key wanted"])

    def test_what_is_new_or_stays_is_none(self):
        self.assertEqual(key_changes(config([1], [(0, NEW)]), {}), [])
        self.assertEqual(key_changes(config([1], [(0, NEW), (1, OLD)]), config([1], [(0, NEW)])), [])

    def test_files_of_keys(self):
        self.assertEqual(
            key_files(config([1], [(0, {**OLD, "next": NEW})])),
            ["/etc/portway/acme-2.key", "/etc/portway/acme.key", "/etc/portway/ha-1.key"],
        )


def told(**of):
    return [json.dumps({"role": "host", "ready": True}), json.dumps({"role": "gateway", "ready": True, "failures": [], **of})]


def shard(**of):
    return {"ha": {"shards": [{"tenant": "acme", "shard": 0, "state": "active", "able": True, "in_sync": True, "drained": False, **of}]}}


class Faults(unittest.TestCase):
    def test_none_of_a_gateway_that_is_well(self):
        for of in ({}, shard(), shard(state="backup")):
            self.assertEqual(gateway_faults(told(**of)), [])

    def test_each_is_named(self):
        refused = {"configuration": {"times": 2, "refused": {"why": "bad", "at_start": False}}}
        for of, fault in [
            ({"ready": False}, "it is not ready"),
            ({"ready": False, "failures": ["cannot make pw-1"]}, "cannot make pw-1"),
            ({"error": "it hangs"}, "it hangs"),
            (refused, "the configuration on disk is not in force: bad"),
            (shard(in_sync=False), "acme/0: nobody else has its connections"),
            (shard(in_sync=False, state="backup"), "acme/0: this node does not have its connections"),
            (shard(state="offering"), "acme/0 is offering"),
            (shard(drained=True), "acme/0 is drained here"),
            (shard(able=False), "acme/0 cannot be served here"),
            (shard(warnings=["another interval"]), "acme/0: another interval"),
        ]:
            self.assertEqual(gateway_faults(told(**of)), [fault])
        self.assertEqual(gateway_faults([]), ["no gateway answers"])

    def test_shards_that_are_here(self):
        self.assertEqual(gateway_has(told(**shard())), ["acme/0"])
        self.assertEqual(gateway_has(told(**shard(state="backup"))), [])

    def test_hosts_that_have_not_moved(self):
        tenants = {"tenants": [{"name": "acme", "shard": 0, "peers": 3, "beside": {"heard": 2}}]}
        said = ["acme/0: 2 of 3 hosts have moved to the next key"]
        self.assertEqual(gateway_unmoved(told(**tenants)), said)
        self.assertEqual(gateway_unmoved(told(**tenants, **shard())), said)
        self.assertEqual(gateway_unmoved(told(**tenants, **shard(state="backup"))), [])
        tenants["tenants"][0]["beside"]["heard"] = 3
        self.assertEqual(gateway_unmoved(told(**tenants)), [])


def control(mode):
    text = b"Package: portway\nVersion: 1:0.2.0~rc1\n"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        info = tarfile.TarInfo("./control")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    return packed.getvalue()


def version(*members, magic=b"!<arch>\n"):
    """Of an archive with these members after `debian-binary`."""
    with tempfile.NamedTemporaryFile(suffix=".deb") as file:
        file.write(magic)
        for name, content in (("debian-binary", b"2.0\n"), *members):
            file.write(f"{name:<16}{'0':<12}{'0':<6}{'0':<6}{'100644':<8}{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2))
        file.flush()
        return package_version(file.name)


class Packages(unittest.TestCase):
    def test_the_version_is_read_however_it_is_packed(self):
        for end in ("", "gz", "xz"):
            self.assertEqual(version((f"control.tar.{end}".rstrip("."), control(f"w:{end}"))), "1:0.2.0~rc1", end)

    def test_what_python_cannot_unpack_has_none(self):
        self.assertEqual(version(("control.tar.zst", b"\x28\xb5\x2f\xfd odd")), "")

    def test_what_is_no_package_is_refused(self):
        with self.assertRaisesRegex(AnsibleFilterError, "is no Debian package"):
            version(magic=b"\x7fELF....")
        with self.assertRaisesRegex(AnsibleFilterError, "no control file"):
            version(("data.tar.xz", b""))


if __name__ == "__main__":
    unittest.main()
