# Whether it is a plan: two VPCs with the same addresses, two zones.

mock_provider "aws" {
  source = "../../modules/appliance/tests/mocks"

  override_data {
    target = data.aws_subnet.platform["a"]
    values = { id = "subnet-0a", vpc_id = "vpc-0p", cidr_block = "10.9.0.0/24", availability_zone = "eu-central-1a" }
  }

  override_data {
    target = data.aws_subnet.platform["b"]
    values = { id = "subnet-0b", vpc_id = "vpc-0p", cidr_block = "10.9.1.0/24", availability_zone = "eu-central-1b" }
  }

  override_data {
    target = data.aws_subnet.acme["a"]
    values = { id = "subnet-0c", vpc_id = "vpc-0t", cidr_block = "172.16.101.0/24", availability_zone = "eu-central-1a" }
  }

  override_data {
    target = data.aws_subnet.acme["b"]
    values = { id = "subnet-0d", vpc_id = "vpc-0t", cidr_block = "172.16.102.0/24", availability_zone = "eu-central-1b" }
  }

  override_data {
    target = data.aws_subnet.globex["a"]
    values = { id = "subnet-0e", vpc_id = "vpc-0g", cidr_block = "172.16.101.0/24", availability_zone = "eu-central-1a" }
  }

  override_data {
    target = data.aws_subnet.globex["b"]
    values = { id = "subnet-0f", vpc_id = "vpc-0g", cidr_block = "172.16.102.0/24", availability_zone = "eu-central-1b" }
  }
}

variables {
  platform = { subnets = { a = "subnet-0a", b = "subnet-0b" }, route_tables = ["rtb-0123456789abcdef0"] }
  acme     = { subnets = { a = "subnet-0c", b = "subnet-0d" }, route_tables = ["rtb-0123456789abcdef1"] }
  globex   = { subnets = { a = "subnet-0e", b = "subnet-0f" }, route_tables = ["rtb-0123456789abcdef3"] }
  ha_key   = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/shared/ha"
  shard_keys = {
    for shard in ["acme/0", "acme/1", "globex/0"] : shard => {
      private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/shared/${replace(shard, "/", "-")}"
      public_key  = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
    }
  }
  host_public_keys  = { host-1 = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=", host-2 = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=" }
  host_private_keys = { host-1 = "arn:aws:ssm:eu-central-1:123456789012:parameter/host-1", host-2 = "arn:aws:ssm:eu-central-1:123456789012:parameter/host-2" }
}

run "a_pair_for_two_tenants" {
  command = apply

  assert {
    condition     = join(" ", [for tenant in yamldecode(output.gateway_yaml["gw-b"]).gateway.tenants : "${tenant.name} ${tenant.interface} ${tenant.router}"]) == "acme tenant1 172.16.102.1 globex tenant2 172.16.102.1"
    error_message = output.gateway_yaml["gw-b"]
  }

  assert {
    condition     = length(yamldecode(output.host_yaml["host-2"]).host.tenants) == 2
    error_message = output.host_yaml["host-2"]
  }
}
