# Whether it is a plan: a group in two zones, with a directory.

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
}

variables {
  platform  = { subnets = { a = "subnet-0a", b = "subnet-0b" }, route_tables = ["rtb-0123456789abcdef0"] }
  acme      = { subnets = { a = "subnet-0c", b = "subnet-0d" }, route_tables = ["rtb-0123456789abcdef1"] }
  directory = { url = "https://directory.example:9473", operator_token = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/elastic/operator" }
  secrets   = { for name in ["ha", "acme-0", "acme-1", "acme-2", "acme-3"] : name => "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/elastic/${name}" }
  hosts     = { host-1 = { outer = "10.9.64.11", enroll_token = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/elastic/host-1" } }
}

run "a_group_for_one_tenant" {
  command = apply

  assert {
    condition     = length(yamldecode(output.gateway_yaml).gateway.tenants[0].shards) == 4 && yamldecode(output.gateway_yaml).gateway.ha.nodes == "directory"
    error_message = output.gateway_yaml
  }

  assert {
    condition     = yamldecode(output.autoscaler.yaml).autoscaler.nodes == { min = 2, max = 4 }
    error_message = output.autoscaler.yaml
  }
}

run "a_shard_without_a_key" {
  command = plan

  variables {
    secrets = { ha = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/elastic/ha" }
  }

  expect_failures = [var.secrets]
}
