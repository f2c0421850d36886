# A pair of fixed nodes in the platform's VPC, over GRE: the least there is.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name = "prod"
  platform = {
    subnets             = { a = { id = "subnet-0a", vpc_id = "vpc-0p", cidr_block = "10.9.0.0/24", availability_zone = "eu-central-1a" } }
    function_host_cidrs = ["10.9.64.0/18"]
  }
  tenants = {
    acme = {
      subnets = { a = { id = "subnet-0b", vpc_id = "vpc-0t", cidr_block = "172.16.101.0/24", availability_zone = "eu-central-1a" } }
      key     = 7
      inner   = "10.64.0.0/16"
      allow   = [{ to = "172.16.0.0/16", tcp = ["5432", "8000-8099"], icmp = true }]
      shards = [
        { shard = 0, platform = "10.9.0.50", tenant = "172.16.101.10" },
        { shard = 1, platform = "10.9.0.51", tenant = "172.16.101.11" },
      ]
    }
  }
  nodes = {
    gw-1 = { subnet = "a", platform = "10.9.0.11", tenants = { acme = "172.16.101.5" } }
    gw-2 = { subnet = "a", platform = "10.9.0.12" }
  }
  ha    = { keys = [{ secret = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/ha" }] }
  hosts = { host-1 = { number = 1, outer = "10.9.64.11" }, host-2 = { number = 2, outer = "10.9.64.12" } }
}

run "two_nodes_share_two_shards" {
  command = apply

  assert {
    condition = yamldecode(output.gateway_yaml["gw-2"]) == yamldecode(<<-EOT
      gateway:
        node: gw-2
        platform: { interface: ens5, address: 10.9.0.12 }
        tunnel: gre
        cloud: { aws: { region: eu-central-1 } }
        ha:
          nodes: { gw-1: 10.9.0.11, gw-2: 10.9.0.12 }
          keys: [{ id: 1, file: /etc/portway/ha-1.key }]
          interval: 100ms
          preempt: 0s
          sync_port: 3790
        tenants:
          - name: acme
            key: 7
            interface: tenant1
            router: 172.16.101.1
            allow: [{ to: 172.16.0.0/16, tcp: ["5432", "8000-8099"], icmp: true }]
            snat: { ports: 1024-65535 }
            inner: 10.64.0.0/16
            shards:
              - { shard: 0, vrid: 1, platform: 10.9.0.50, tenant: 172.16.101.10 }
              - { shard: 1, vrid: 2, platform: 10.9.0.51, tenant: 172.16.101.11 }
      peers:
        static:
          - { host: host-1, outer: 10.9.64.11, inner: { acme: [10.64.0.16], acme/1: [10.64.0.17] } }
          - { host: host-2, outer: 10.9.64.12, inner: { acme: [10.64.0.32], acme/1: [10.64.0.33] } }
    EOT
    )
    error_message = "gateway.yaml is another:\n${output.gateway_yaml["gw-2"]}"
  }

  assert {
    condition     = alltrue([for one in concat(values(aws_network_interface.platform), values(aws_network_interface.tenant)) : !one.source_dest_check])
    error_message = "An interface checks sources and destinations: it would drop what is for others."
  }

  assert {
    condition     = length(aws_network_interface.tenant) == 2 && length(aws_network_interface_attachment.tenant) == 2 && alltrue([for one in aws_network_interface_attachment.tenant : one.device_index == 1])
    error_message = "Not each node has one interface of the tenant, at its device index."
  }

  assert {
    condition     = alltrue([for one in aws_instance.node : one.metadata_options[0].http_tokens == "required" && one.root_block_device[0].encrypted])
    error_message = "Metadata without a token, or a volume in clear."
  }

  # GRE is protocol 47 (RFC 2784), VRRP 112 (RFC 9568).
  assert {
    condition = jsonencode({ for label, rule in aws_vpc_security_group_ingress_rule.platform : label => [rule.ip_protocol, rule.from_port, rule.to_port, rule.cidr_ipv4] }) == jsonencode({
      "gre from 10.9.64.0/18"                  = ["47", null, null, "10.9.64.0/18"]
      "fragmentation needed from 10.9.64.0/18" = ["icmp", 3, 4, "10.9.64.0/18"]
      "vrrp among nodes"                       = ["112", null, null, null]
      "sync among nodes"                       = ["udp", 3790, 3790, null]
    })
    error_message = "Other rules of the platform's group than these: ${join(", ", keys(aws_vpc_security_group_ingress_rule.platform))}."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.platform["vrrp among nodes"].referenced_security_group_id == aws_security_group.platform.id
    error_message = "Somebody else's VRRP is let in."
  }

  # To an interface that took an address over, answers are the first packets of all.
  assert {
    condition = { for label, rule in aws_vpc_security_group_ingress_rule.tenant : label => [rule.ip_protocol, rule.from_port, rule.to_port, rule.cidr_ipv4] } == {
      "acme: tcp from 172.16.0.0/16"  = ["tcp", 1024, 65535, "172.16.0.0/16"]
      "acme: udp from 172.16.0.0/16"  = ["udp", 1024, 65535, "172.16.0.0/16"]
      "acme: icmp from 172.16.0.0/16" = ["icmp", -1, -1, "172.16.0.0/16"]
    }
    error_message = "Other rules inbound on the tenant's side than these: ${join(", ", keys(aws_vpc_security_group_ingress_rule.tenant))}."
  }

  assert {
    condition = { for label, rule in aws_vpc_security_group_egress_rule.tenant : label => [rule.ip_protocol, rule.from_port, rule.to_port] } == {
      "acme: tcp 5432 to 172.16.0.0/16"      = ["tcp", 5432, 5432]
      "acme: tcp 8000-8099 to 172.16.0.0/16" = ["tcp", 8000, 8099]
      "acme: icmp to 172.16.0.0/16"          = ["icmp", -1, -1]
    }
    error_message = "Other rules outbound on the tenant's side than these: ${join(", ", keys(aws_vpc_security_group_egress_rule.tenant))}."
  }

  # Each statement, and nothing that is not needed here.
  assert {
    condition     = join(" ", sort([for statement in jsondecode(output.policy).Statement : statement.Sid])) == "Look MoveAddresses ReadParameters"
    error_message = output.policy
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(output.policy).Statement : statement.Effect == "Allow" && (statement.Sid == "Look") == contains(statement.Resource, "*") && (
        !anytrue([for action in statement.Action : strcontains(action, "*")])
      )
    ])
    error_message = "A statement that changes something is about anything: ${output.policy}"
  }

  assert {
    condition     = sort(one([for statement in jsondecode(output.policy).Statement : statement.Resource if statement.Sid == "MoveAddresses"])) == sort(concat(values(aws_network_interface.platform)[*].arn, values(aws_network_interface.tenant)[*].arn))
    error_message = "Addresses may move to other interfaces than the nodes': ${output.policy}"
  }

  assert {
    condition     = one([for statement in jsondecode(output.policy).Statement : statement.Resource if statement.Sid == "ReadParameters"]) == ["arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/ha"]
    error_message = output.policy
  }

  assert {
    condition     = join(" ", sort([for one in concat(values(aws_ec2_subnet_cidr_reservation.platform), values(aws_ec2_subnet_cidr_reservation.tenant)) : one.cidr_block])) == "10.9.0.50/32 10.9.0.51/32 172.16.101.10/32 172.16.101.11/32"
    error_message = "A HaVip may be given to somebody else."
  }

  assert {
    condition     = output.function_host.tenants.acme.shards[1].inner["host-2"] == "10.64.0.33" && output.function_host.tenants.acme.shards[1].gateway == "10.9.0.51"
    error_message = "A host's file would differ from the gateways'."
  }

  assert {
    condition     = yamldecode(output.ansible_inventory).portway_gateways.hosts["gw-1"].portway_gateway_config == yamldecode(output.gateway_yaml["gw-1"])
    error_message = output.ansible_inventory
  }

  assert {
    condition     = aws_placement_group.nodes[0].strategy == "spread" && alltrue([for one in aws_instance.node : one.placement_group == "portway-prod"])
    error_message = "Both nodes may be on one machine."
  }
}

run "what_may_be_left_to_AWS_or_said_otherwise" {
  command = apply

  variables {
    nodes          = { gw-1 = { subnet = "a", platform = "10.9.0.11" }, gw-2 = { subnet = "a", platform = "10.9.0.12" } }
    reserve_havips = false
    ssh_cidrs      = ["10.9.200.0/24"]
    admin          = { cidrs = ["10.9.128.0/24"], security_groups = { prometheus = "sg-0p" } }
    egress         = { "10.9.0.0/16" = [443] }
    instance       = { image = "ami-0fedcba9876543210", architecture = "arm64", type = "c7gn.medium" }
    package        = { sha256 = sha256(""), s3 = { bucket = "packages", key = "portway.deb" } }
    kms_keys       = ["arn:aws:kms:eu-central-1:123456789012:key/0"]
    tenants = { acme = merge(var.tenants.acme, {
      snat_ports = "32768-65535"
      shards = [
        { shard = 0, platform = "10.9.0.50", tenant = "172.16.101.10", public = "new", priority = { gw-1 = 200, gw-2 = 100 } },
        { shard = 1, platform = "10.9.0.51", tenant = "172.16.101.11", public = "eipalloc-0123456789abcdef1" },
      ]
    }) }
  }

  assert {
    condition     = length(aws_ec2_subnet_cidr_reservation.platform) == 0 && length(data.aws_ssm_parameter.image) == 0 && length(aws_eip.public) == 1
    error_message = "Something is made that nobody asked for."
  }

  # One that is made, and one that was there.
  assert {
    condition     = jsonencode(yamldecode(output.gateway_yaml["gw-1"]).gateway.cloud.aws.tenants.acme.public) == jsonencode({ "0" = "eipalloc-0123456789abcdef0", "1" = "eipalloc-0123456789abcdef1" })
    error_message = output.gateway_yaml["gw-1"]
  }

  assert {
    condition = jsonencode({ for statement in jsondecode(output.policy).Statement : statement.Sid => sort(statement.Resource) if startswith(statement.Sid, "MovePublic") }) == jsonencode({
      MovePublicAddresses             = [for id in ["0", "1"] : "arn:aws:ec2:eu-central-1:123456789012:elastic-ip/eipalloc-0123456789abcdef${id}"]
      MovePublicAddressesToInterfaces = sort(concat(values(aws_network_interface.platform)[*].arn, values(aws_network_interface.tenant)[*].arn))
    })
    error_message = output.policy
  }

  assert {
    condition     = keys(aws_vpc_security_group_ingress_rule.ssh) == ["10.9.200.0/24"] && keys(aws_vpc_security_group_egress_rule.own) == ["tcp 443 to 10.9.0.0/16"]
    error_message = "Other ways in or out than said."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.platform["admin from group prometheus"].from_port == 9470 && aws_vpc_security_group_ingress_rule.tenant["acme: udp from 172.16.0.0/16"].from_port == 32768
    error_message = "Other ports than said."
  }
}
