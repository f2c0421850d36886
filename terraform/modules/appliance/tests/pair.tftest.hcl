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
    condition     = yamldecode(output.gateway_yaml["gw-1"]).gateway.platform.interface == "ens5"
    error_message = output.gateway_yaml["gw-1"]
  }
}
