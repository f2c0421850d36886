# Function hosts of two appliances: over GRE, over WireGuard, and with a directory.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name   = "fleet"
  vpc_id = "vpc-0p"
  appliances = [
    {
      tunnel = "gre"
      tenants = {
        acme = {
          key   = 7
          cidrs = ["172.16.0.0/16"]
          shards = [
            { shard = 0, gateway = "10.9.0.50", port = 51820, inner = { host-1 = "10.64.0.16" } },
            { shard = 1, gateway = "10.9.0.51", port = 51821, inner = { host-1 = "10.64.0.17" } },
          ]
        }
      }
    },
    {
      tunnel  = "gre"
      tenants = { blue = { key = 8, cidrs = ["172.16.0.0/16"], shards = [{ shard = 0, gateway = "10.9.0.52", port = 51820, inner = { host-1 = "10.64.0.16" } }] } }
    },
  ]
  hosts   = { host-1 = { outer = "10.9.64.11" } }
  package = { sha256 = "0000000000000000000000000000000000000000000000000000000000000000", s3 = { bucket = "packages", key = "portway.deb" } }
}

run "over_GRE" {
  command = apply

  assert {
    condition = yamldecode(output.host_yaml["host-1"]) == yamldecode(<<-EOT
      host:
        node: host-1
        platform: { interface: ens5, address: 10.9.64.11 }
        tunnel: gre
        tenants:
          - name: acme
            key: 7
            cidrs: [172.16.0.0/16]
            shards:
              - { shard: 0, gateway: 10.9.0.50, inner: 10.64.0.16 }
              - { shard: 1, gateway: 10.9.0.51, inner: 10.64.0.17 }
          - name: blue
            key: 8
            cidrs: [172.16.0.0/16]
            shards:
              - { shard: 0, gateway: 10.9.0.52, inner: 10.64.0.16 }
    EOT
    )
    error_message = "host.yaml is another:\n${output.host_yaml["host-1"]}"
  }

  assert {
    condition     = keys(aws_vpc_security_group_ingress_rule.tunnel) == ["10.9.0.50/32", "10.9.0.51/32", "10.9.0.52/32"] && alltrue([for rule in concat(values(aws_vpc_security_group_ingress_rule.tunnel), values(aws_vpc_security_group_egress_rule.tunnel)) : rule.ip_protocol == "47"])
    error_message = "Tunnels to others than the HaVips, or of another kind."
  }

  assert {
    condition     = join(" ", sort([for statement in jsondecode(aws_iam_role_policy.host.policy).Statement : "${statement.Effect} ${statement.Sid}"])) == "Allow FetchPackage Deny NoOtherRole"
    error_message = aws_iam_role_policy.host.policy
  }

  assert {
    condition     = yamldecode(output.ansible_inventory).portway_hosts.hosts["host-1"].portway_host_config == yamldecode(output.host_yaml["host-1"])
    error_message = output.ansible_inventory
  }
}

run "over_WireGuard_with_a_directory" {
  command = plan

  variables {
    appliances = [{
      tunnel    = "wireguard"
      directory = { url = "https://directory.example:9473", ca = "-----BEGIN CERTIFICATE-----\n" }
      tenants   = { acme = { cidrs = ["172.16.0.0/16"], shards = [{ shard = 0, gateway = "10.9.0.50", port = 51820, next = 51819, inner = {} }] } }
    }]
    hosts = { host-1 = { outer = "10.9.64.11", interface = "eth0", enroll_token = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:enrol" } }
  }

  assert {
    condition = yamldecode(output.host_yaml["host-1"]) == yamldecode(<<-EOT
      host:
        node: host-1
        platform: { interface: eth0, address: 10.9.64.11 }
        tunnel: wireguard
        directory: { url: "https://directory.example:9473", ca: /etc/portway/directory-ca.pem }
        tenants: [{ name: acme, cidrs: [172.16.0.0/16] }]
    EOT
    )
    error_message = "host.yaml is another:\n${output.host_yaml["host-1"]}"
  }

  assert {
    condition     = [aws_vpc_security_group_egress_rule.tunnel["10.9.0.50/32"].from_port, aws_vpc_security_group_egress_rule.tunnel["10.9.0.50/32"].to_port, aws_vpc_security_group_egress_rule.open["directory"].from_port] == [51819, 51820, 9473]
    error_message = "Other ports than those of the shard, of its next key, and of the directory."
  }

  assert {
    condition     = strcontains(output.user_data["host-1"], "secret:enrol")
    error_message = "The host would not enrol."
  }
}

run "over_WireGuard_alone" {
  command = plan

  variables {
    appliances = [{
      tunnel  = "wireguard"
      tenants = { acme = { cidrs = ["172.16.0.0/16"], shards = [{ shard = 0, gateway = "10.9.0.50", port = 51830, public_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=", inner = { host-1 = "10.64.0.16" } }] } }
    }]
    hosts = { host-1 = { outer = "10.9.64.11", private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/host-1" } }
  }

  assert {
    condition     = yamldecode(output.host_yaml["host-1"]).host.wireguard == { private_key = "/etc/portway/host.key" } && yamldecode(output.host_yaml["host-1"]).host.tenants[0].shards[0].wireguard == { public_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=", port = 51830 }
    error_message = output.host_yaml["host-1"]
  }
}
