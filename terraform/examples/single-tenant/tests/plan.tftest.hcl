# What stands before anything is asked of AWS.

mock_provider "aws" {
  source = "../../modules/appliance/tests/mocks"
}

variables {
  package  = "main.tf"
  ssh_key  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJJ0 you@example"
  ssh_from = "198.51.100.7/32"
  ha_key   = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/portway-try/ha"
}

run "a_pair_for_one_tenant" {
  command = plan

  assert {
    condition     = yamldecode(output.host_yaml["host-1"]).host.tenants[0].shards[0].gateway == yamldecode(output.gateway_yaml["gw-1"]).gateway.tenants[0].shards[0].platform
    error_message = "The host's tunnel does not lead to the gateways."
  }
}

run "no_package" {
  command = plan

  variables {
    package = "there-is-none.deb"
  }

  expect_failures = [var.package]
}

run "a_private_key" {
  command = plan

  variables {
    ssh_key = "-----BEGIN OPENSSH PRIVATE KEY-----"
  }

  expect_failures = [var.ssh_key]
}

run "the_whole_Internet" {
  command = plan

  variables {
    ssh_from = "0.0.0.0/0"
  }

  expect_failures = [var.ssh_from]
}
