"""moto's server, with what EC2 has and moto 5.2 lacks: rules of protocols without ports, descriptions of rules about groups and of reservations,
placement groups, an instance's security groups where they came with its interface, interfaces that come off an instance and say so."""

import inspect
import sys

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.instances import Instance
from moto.ec2.models.security_groups import SecurityGroupRule
from moto.ec2.responses import EC2Response
from moto.server import main

WITH_PORTS = {"tcp", "udp", "icmp", "icmpv6", "-1", "6", "17", "1", "58"}
placement_groups = {}
detached = set()


def with_any_protocol(make):
    names = list(inspect.signature(make).parameters)

    def made(*arguments, **named):
        named.update(zip(names, arguments))
        if named["ip_protocol"] not in WITH_PORTS:
            named.update(from_port="-1", to_port="-1")
        make(**named)

    return made


def description(rule):
    return (rule.ip_range or rule.source_group).get("Description")


def known(run):
    def run_instances(self):
        answer = run(self)
        for instance in answer.result.instances:
            instance.placement.group_name = self._get_param("Placement.GroupName") or ""
            instance.security_groups = instance.security_groups or list(instance.nics[0].group_set)
        return answer

    return run_instances


def described(create):
    def create_subnet_cidr_reservation(self):
        answer = create(self)
        answer.result["SubnetCidrReservation"].description = self._get_param("Description")
        return answer

    return create_subnet_cidr_reservation


def detaching(detach):
    def detach_network_interface(self):
        detached.add(self._get_param("AttachmentId"))
        return detach(self)

    return detach_network_interface


def knowing_the_detached(describe):
    def describe_network_interfaces(self):
        asked = self._filters_from_querystring().get("attachment.attachment-id", [])
        if detached.issuperset(asked) and asked:
            return ActionResult({"NetworkInterfaces": [{"Attachment": {"AttachmentId": one, "Status": "detached"}} for one in asked]})
        return describe(self)

    return describe_network_interfaces


def letting_go(terminate):
    def terminated(self):
        state = terminate(self)
        attached = dict(self.nics)
        for interface in attached.values():
            self.detach_eni(interface)
        self.nics = attached
        return state

    return terminated


def create_placement_group(self):
    name = self._get_param("GroupName")
    tags = self._parse_tag_specification("placement-group").get("placement-group", {})
    placement_groups[name] = {
        "GroupName": name,
        "GroupId": f"pg-{len(placement_groups):017x}",
        "GroupArn": f"arn:aws:ec2:{self.region}:{self.current_account}:placement-group/{name}",
        "State": "available",
        "Strategy": self._get_param("Strategy"),
        "SpreadLevel": self._get_param("SpreadLevel"),
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }
    return ActionResult({"PlacementGroup": placement_groups[name]})


def describe_placement_groups(self):
    names = self._get_param("GroupNames", [])
    return ActionResult({"PlacementGroups": [group for name, group in placement_groups.items() if not names or name in names]})


def delete_placement_group(self):
    placement_groups.pop(self._get_param("GroupName"), None)
    return EmptyResult()


SecurityGroupRule.__init__ = with_any_protocol(SecurityGroupRule.__init__)
SecurityGroupRule.description = property(description)
NetworkInterface.group_set = property(lambda interface: interface._group_set or getattr(interface.instance, "security_groups", []))
Instance.terminate = letting_go(Instance.terminate)
EC2Response.detach_network_interface = detaching(EC2Response.detach_network_interface)
EC2Response.describe_network_interfaces = knowing_the_detached(EC2Response.describe_network_interfaces)
EC2Response.run_instances = known(EC2Response.run_instances)
EC2Response.create_subnet_cidr_reservation = described(EC2Response.create_subnet_cidr_reservation)
EC2Response.create_placement_group = create_placement_group
EC2Response.describe_placement_groups = describe_placement_groups
EC2Response.delete_placement_group = delete_placement_group

if __name__ == "__main__":
    main(sys.argv[1:])
