# What is more than a machine can have.

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
      allow   = [{ to = "172.16.0.0/16", tcp = ["5432"] }]
      shards  = [{ shard = 0, platform = "10.9.0.50", tenant = "172.16.101.10" }]
    }
  }
  nodes = { gw-1 = { subnet = "a" }, gw-2 = { subnet = "a" } }
  ha    = { keys = [{ secret = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/ha" }] }
  hosts = { host-1 = { number = 1, outer = "10.9.64.11" } }
}

run "more_tenants_than_a_machine_has_interfaces_for" {
  command = plan

  variables {
    tenants = {
      for number in [1, 2, 3] : "tenant-${number}" => merge(var.tenants.acme, {
        device = number, key = number, shards = [{ shard = 0, platform = "10.9.0.5${number}", tenant = "172.16.101.10" }]
      })
    }
  }

  expect_failures = [data.aws_ec2_instance_type.this]
}

run "more_shards_than_an_interface_has_addresses_for" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { shards = [for number in range(10) : { shard = number, platform = "10.9.0.5${number}", tenant = "172.16.101.1${number}" }] }) }
  }

  expect_failures = [data.aws_ec2_instance_type.this]
}
