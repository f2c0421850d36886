# What each validation refuses, a run for each: everything else in it is good.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name   = "fleet"
  vpc_id = "vpc-0p"
  appliances = [{
    tunnel  = "gre"
    tenants = { acme = { key = 7, cidrs = ["172.16.0.0/16"], shards = [{ shard = 0, gateway = "10.9.0.50", port = 51820, inner = { host-1 = "10.64.0.16" } }] } }
  }]
  hosts = { host-1 = { outer = "10.9.64.11" } }
}

run "a_name_that_IAM_does_not_take" {
  command = plan

  variables {
    name = "My fleet"
  }

  expect_failures = [var.name]
}

run "no_appliance" {
  command = plan

  variables {
    appliances = []
  }

  expect_failures = [var.appliances]
}

run "tunnels_of_two_kinds" {
  command = plan

  variables {
    appliances = concat(var.appliances, [{ tunnel = "wireguard", tenants = {} }])
  }

  expect_failures = [var.appliances]
}

run "a_tenant_of_two_appliances" {
  command = plan

  variables {
    appliances = [var.appliances[0], { tunnel = "gre", tenants = { acme = merge(var.appliances[0].tenants.acme, { key = 8 }) } }]
  }

  expect_failures = [var.appliances]
}

run "a_key_of_two_tenants" {
  command = plan

  variables {
    appliances = [var.appliances[0], { tunnel = "gre", tenants = { blue = var.appliances[0].tenants.acme } }]
  }

  expect_failures = [var.appliances]
}

run "a_hosts_name_with_a_slash" {
  command = plan

  variables {
    appliances = [{
      tunnel  = "gre"
      tenants = { acme = { key = 7, cidrs = ["172.16.0.0/16"], shards = [{ shard = 0, gateway = "10.9.0.50", port = 51820, inner = { "host/1" = "10.64.0.16" } }] } }
    }]
    hosts = { "host/1" = { outer = "10.9.64.11" } }
  }

  expect_failures = [var.hosts]
}

run "a_host_without_an_address" {
  command = plan

  variables {
    hosts = { host-1 = { outer = "10.9.64.11/18" } }
  }

  expect_failures = [var.hosts]
}

run "a_host_that_gateways_do_not_know" {
  command = plan

  variables {
    hosts = { host-2 = { outer = "10.9.64.12" } }
  }

  expect_failures = [var.hosts]
}

run "wireguard_without_a_key" {
  command = plan

  variables {
    appliances = [merge(var.appliances[0], { tunnel = "wireguard" })]
  }

  expect_failures = [var.hosts]
}

run "a_directory_without_a_token" {
  command = plan

  variables {
    appliances = [merge(var.appliances[0], { tunnel = "wireguard", directory = { url = "https://directory.example" } })]
    hosts      = { host-1 = { outer = "10.9.64.11", private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/host-1" } }
  }

  expect_failures = [var.hosts]
}

run "a_key_in_clear" {
  command = plan

  variables {
    hosts = { host-1 = { outer = "10.9.64.11", private_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=" } }
  }

  expect_failures = [var.hosts]
}

run "a_package_of_nowhere" {
  command = plan

  variables {
    package = { sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
  }

  expect_failures = [var.package]
}

run "a_package_over_http" {
  command = plan

  variables {
    package = { sha256 = "0000000000000000000000000000000000000000000000000000000000000000", url = "http://example.com/portway.deb" }
  }

  expect_failures = [var.package]
}

run "a_package_without_a_digest" {
  command = plan

  variables {
    package = { sha256 = "latest", url = "https://example.com/portway.deb" }
  }

  expect_failures = [var.package]
}

run "more_HaVips_than_a_group_takes_rules" {
  command = plan

  variables {
    appliances = [{
      tunnel  = "gre"
      tenants = { for key in range(51) : "tenant-${key}" => { key = key, cidrs = ["172.16.0.0/16"], shards = [{ shard = 0, gateway = "10.9.0.${key + 50}", port = 51820, inner = { host-1 = "10.64.0.16" } }] } }
    }]
  }

  expect_failures = [var.havip_cidrs]
}

run "egress_to_what_is_no_network" {
  command = plan

  variables {
    egress = { "anywhere" = [443] }
  }

  expect_failures = [var.egress]
}

run "an_alias_for_a_key" {
  command = plan

  variables {
    kms_keys = ["alias/aws/ssm"]
  }

  expect_failures = [var.kms_keys]
}
