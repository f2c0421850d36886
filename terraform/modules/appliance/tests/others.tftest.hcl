# Two zones and two tenants with the same addresses over WireGuard; a group; gateways in the tenant's network.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name   = "prod"
  tunnel = "wireguard"
  platform = {
    subnets = {
      a = { id = "subnet-0a", vpc_id = "vpc-0p", cidr_block = "10.9.0.0/24", availability_zone = "eu-central-1a" }
      b = { id = "subnet-0b", vpc_id = "vpc-0p", cidr_block = "10.9.1.0/24", availability_zone = "eu-central-1b" }
    }
    route_tables        = ["rtb-0123456789abcdef0"]
    function_host_cidrs = ["10.9.64.0/18"]
  }
  tenants = {
    acme = {
      subnets = {
        a = { id = "subnet-0c", vpc_id = "vpc-0t", cidr_block = "172.16.101.0/24", availability_zone = "eu-central-1a" }
        b = { id = "subnet-0d", vpc_id = "vpc-0t", cidr_block = "172.16.102.0/24", availability_zone = "eu-central-1b" }
      }
      route_tables = ["rtb-0123456789abcdef1", "rtb-0123456789abcdef2"]
      inner        = "10.64.0.0/16"
      allow        = [{ to = "172.16.0.0/16", tcp = ["5432"] }]
      shards = [
        { shard = 0, platform = "198.18.0.1", tenant = "198.19.0.1", wireguard = { private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/acme-0" } },
        {
          shard = 1, platform = "198.18.0.2", tenant = "198.19.0.2"
          wireguard = {
            private_key = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:acme-1"
            next        = { private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/acme-1-next" }
          }
        },
      ]
    }
  }
  directory = {
    url            = "https://directory.example:9473"
    ca             = "-----BEGIN CERTIFICATE-----\n"
    tokens         = { gw-1 = "arn:aws:ssm:eu-central-1:123456789012:parameter/gw-1", gw-2 = "arn:aws:ssm:eu-central-1:123456789012:parameter/gw-2" }
    operator_token = "arn:aws:ssm:eu-central-1:123456789012:parameter/operator"
  }
  ha = { keys = [{ secret = "arn:aws:ssm:eu-central-1:123456789012:parameter/ha" }] }
}

run "a_node_in_each_of_two_zones" {
  command = apply

  variables {
    nodes = { gw-1 = { subnet = "a", platform = "10.9.0.11" }, gw-2 = { subnet = "b", platform = "10.9.1.11" } }
  }

  assert {
    condition = yamldecode(output.gateway_yaml["gw-2"]) == yamldecode(<<-EOT
      gateway:
        node: gw-2
        platform: { interface: ens5, address: 10.9.1.11 }
        tunnel: wireguard
        cloud:
          aws:
            region: eu-central-1
            platform: { route_tables: [rtb-0123456789abcdef0] }
            tenants: { acme: { route_tables: [rtb-0123456789abcdef1, rtb-0123456789abcdef2] } }
        ha:
          nodes: { gw-1: 10.9.0.11, gw-2: 10.9.1.11 }
          keys: [{ id: 1, file: /etc/portway/ha-1.key }]
          interval: 100ms
          preempt: 0s
          sync_port: 3790
        directory: { url: "https://directory.example:9473", token_file: /etc/portway/directory.token, ca: /etc/portway/directory-ca.pem }
        tenants:
          - name: acme
            interface: tenant1
            router: 172.16.102.1
            allow: [{ to: 172.16.0.0/16, tcp: ["5432"] }]
            snat: { ports: 1024-65535 }
            inner: 10.64.0.0/16
            shards:
              - { shard: 0, vrid: 1, platform: 198.18.0.1, tenant: 198.19.0.1, wireguard: { private_key: /etc/portway/acme-0.key, port: 51820 } }
              - shard: 1
                vrid: 2
                platform: 198.18.0.2
                tenant: 198.19.0.2
                wireguard: { private_key: /etc/portway/acme-1.key, port: 51821, next: { private_key: /etc/portway/acme-1.next.key, port: 51818 } }
      peers: { static: [] }
    EOT
    )
    error_message = "gateway.yaml is another:\n${output.gateway_yaml["gw-2"]}"
  }

  assert {
    condition     = sort([for route in concat(values(aws_route.platform), values(aws_route.tenant)) : "${route.route_table_id} ${route.destination_cidr_block}"]) == sort(["rtb-0123456789abcdef0 198.18.0.1/32", "rtb-0123456789abcdef0 198.18.0.2/32", "rtb-0123456789abcdef1 198.19.0.1/32", "rtb-0123456789abcdef1 198.19.0.2/32", "rtb-0123456789abcdef2 198.19.0.1/32", "rtb-0123456789abcdef2 198.19.0.2/32"])
    error_message = "Other routes than to each HaVip in each table of its side."
  }

  assert {
    condition     = join(" ", sort([for statement in jsondecode(output.policy).Statement : statement.Sid])) == "Look MoveAddresses MoveRoutes ReadParameters ReadSecrets"
    error_message = output.policy
  }

  assert {
    condition     = sort(one([for statement in jsondecode(output.policy).Statement : statement.Resource if statement.Sid == "MoveRoutes"])) == sort([for id in ["rtb-0123456789abcdef0", "rtb-0123456789abcdef1", "rtb-0123456789abcdef2"] : "arn:aws:ec2:eu-central-1:123456789012:route-table/${id}"])
    error_message = output.policy
  }

  assert {
    condition     = sort([for label, rule in aws_vpc_security_group_ingress_rule.platform : rule.from_port if rule.ip_protocol == "udp"]) == sort([3790, 51818, 51820, 51821])
    error_message = "Other UDP ports than those of state sync, of the shards and of the key that is to come."
  }

  assert {
    condition     = strcontains(output.user_data["gw-1"], "parameter/gw-1") && !strcontains(output.user_data["gw-1"], "parameter/gw-2") && !strcontains(output.user_data["gw-1"], "parameter/operator")
    error_message = "A node gets another's token, or an operator's."
  }

  assert {
    condition     = jsonencode(output.directory_commands) == jsonencode(["portway directory tenant add acme --inner 10.64.0.0/16 --shards 0,1", "portway directory gateway add gw-1 --shard acme/0 --shard acme/1", "portway directory gateway add gw-2 --shard acme/0 --shard acme/1"])
    error_message = join("\n", output.directory_commands)
  }
}

run "a_group" {
  command = apply

  variables {
    autoscaling = { max_size = 3 }
    admin       = { cidrs = ["10.9.0.0/16"] }
  }

  assert {
    condition = yamldecode(output.gateway_yaml["@node@"]).gateway.ha == {
      nodes = "directory", lifecycle = { aws = { look = "2s" } }, keys = [{ id = 1, file = "/etc/portway/ha-1.key" }], interval = "100ms", preempt = "0s", sync_port = 3790
    }
    error_message = output.gateway_yaml["@node@"]
  }

  assert {
    condition = yamldecode(output.gateway_yaml["@node@"]).gateway.cloud.aws.tenants.acme == {
      route_tables = ["rtb-0123456789abcdef1", "rtb-0123456789abcdef2"], attach = { device = 1, tags = { "portway:appliance" = "prod", "portway:tenant" = "acme" } }
    }
    error_message = output.gateway_yaml["@node@"]
  }

  assert {
    condition = [yamldecode(output.gateway_yaml["@node@"]).gateway.node, yamldecode(output.gateway_yaml["@node@"]).gateway.admin, yamldecode(output.gateway_yaml["@node@"]).gateway.tenants[0].router] == [
      "@node@", "@primary_address@:9470", "@router.tenant1@",
    ]
    error_message = output.gateway_yaml["@node@"]
  }

  # Of both zones: as many as the group may have, and one.
  assert {
    condition     = length(aws_network_interface.pool) == 8 && length([for one in aws_network_interface.pool : one if one.subnet_id == "subnet-0d" && one.tags["portway:tenant"] == "acme" && one.tags["portway:appliance"] == "prod" && !one.source_dest_check]) == 4
    error_message = "Other interfaces than an instance in either zone finds by these tags."
  }

  assert {
    condition     = one(aws_autoscaling_group.nodes[0].initial_lifecycle_hook).lifecycle_transition == "autoscaling:EC2_INSTANCE_TERMINATING" && one(aws_autoscaling_group.nodes[0].initial_lifecycle_hook).default_result == "CONTINUE" && one(aws_autoscaling_group.nodes[0].initial_lifecycle_hook).heartbeat_timeout == 420
    error_message = "Instances end before they have drained, or never."
  }

  assert {
    condition     = alltrue([for kind in ["instance", "network-interface"] : contains([for one in aws_launch_template.node[0].tag_specifications : one.resource_type if one.tags["portway:appliance"] == "prod"], kind)])
    error_message = "What comes with an instance lacks the tag by which the policy knows it."
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(output.policy).Statement : contains(["Look", "ReadParameters", "ReadSecrets", "MoveRoutes"], statement.Sid) || try(statement.Condition.StringEquals["ec2:ResourceTag/portway:appliance"], "") == "prod"
    ])
    error_message = "A statement is about what is not of this appliance: ${output.policy}"
  }

  assert {
    condition     = length([for statement in jsondecode(output.policy).Statement : statement if contains(["TakeInterfaces", "TakeInterfacesToInstances", "ForwardForOthers"], statement.Sid)]) == 3
    error_message = output.policy
  }

  # Not an instance's own.
  assert {
    condition = alltrue([
      for statement in jsondecode(output.policy).Statement : try(statement.Condition.StringEquals["ec2:ResourceTag/portway:side"], "") == "tenant" && alltrue([for resource in statement.Resource : endswith(resource, ":network-interface/*")])
      if statement.Sid == "TakeInterfaces"
    ]) && alltrue([for one in aws_network_interface.pool : one.tags["portway:side"] == "tenant"])
    error_message = "Nodes may take, and take away, other interfaces than those of the pool, or not these: ${output.policy}"
  }

  assert {
    condition     = yamldecode(output.autoscaler_yaml).autoscaler.actuator.aws == { group = "portway-prod", region = "eu-central-1", hook = "portway-drain" } && strcontains(output.autoscaler_policy, "autoScalingGroupName/portway-prod")
    error_message = output.autoscaler_yaml
  }

  assert {
    condition     = length(aws_instance.node) == 0 && length(aws_route.platform) == 0 && length(aws_route.tenant) == 4
    error_message = "A group has fixed nodes too, or a route to an interface that there is not."
  }

  assert {
    condition     = strcontains(output.user_data["@node@"], "router.tenant1") && strcontains(output.user_data["@node@"], "172.16.102.1") && strcontains(output.user_data["@node@"], "parameter/operator")
    error_message = "An instance would not know its tenant's router, or how to make itself known."
  }
}

run "gateways_in_the_tenants_network" {
  command = apply

  variables {
    placement = "tenant"
    nodes     = { gw-1 = { subnet = "a", platform = "10.9.0.11", tenants = { acme = "172.16.101.5" } }, gw-2 = { subnet = "b", platform = "10.9.1.11" } }
  }

  assert {
    condition     = yamldecode(output.gateway_yaml["gw-1"]).gateway.platform == { interface = "platform1", address = "10.9.0.11" } && yamldecode(output.gateway_yaml["gw-1"]).gateway.tenants[0].interface == "ens5"
    error_message = output.gateway_yaml["gw-1"]
  }

  assert {
    condition     = length(aws_network_interface_attachment.platform) == 2 && length(aws_network_interface_attachment.tenant) == 0
    error_message = "It is the platform's interface that comes from another network."
  }

  assert {
    condition     = strcontains(output.user_data["gw-1"], "Destination=10.9.64.0/18\\nGateway=10.9.0.1") && strcontains(output.user_data["gw-1"], "Destination=10.9.1.0/24")
    error_message = "No way leads to the function hosts, or to the other node: ${output.user_data["gw-1"]}"
  }

  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_egress_rule.own : rule.security_group_id == aws_security_group.tenant["acme"].id])
    error_message = "The machine's own business goes by its primary interface, the tenant's."
  }

  assert {
    condition     = yamldecode(output.ansible_inventory).portway_gateways.hosts["gw-1"].ansible_host == "172.16.101.5"
    error_message = output.ansible_inventory
  }
}
