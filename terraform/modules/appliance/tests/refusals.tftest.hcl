# What each validation refuses, a run for each: everything else in it is good.

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

run "a_name_that_IAM_does_not_take" {
  command = plan

  variables {
    name = "Prod_1"
  }

  expect_failures = [var.name]
}

run "a_placement_that_there_is_not" {
  command = plan

  variables {
    placement = "vpc"
  }

  expect_failures = [var.placement]
}

run "two_tenants_in_one_tenants_network" {
  command = plan

  variables {
    placement = "tenant"
    tenants   = { acme = var.tenants.acme, blue = merge(var.tenants.acme, { device = 2, key = 8, shards = [{ shard = 0, platform = "10.9.0.51", tenant = "172.16.101.10" }] }) }
  }

  expect_failures = [var.placement]
}

run "no_way_to_hosts_from_a_tenants_network" {
  command = plan

  variables {
    placement = "tenant"
    platform  = merge(var.platform, { function_host_cidrs = [], function_host_security_groups = { hosts = "sg-0" } })
  }

  expect_failures = [var.placement]
}

run "a_group_in_a_tenants_network" {
  command = plan

  variables {
    placement   = "tenant"
    tunnel      = "wireguard"
    tenants     = { acme = merge(var.tenants.acme, { key = null, shards = [merge(var.tenants.acme.shards[0], { wireguard = { private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x", public_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=" } })] }) }
    nodes       = {}
    hosts       = {}
    autoscaling = {}
    directory   = { url = "https://directory.example", operator_token = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x" }
  }

  expect_failures = [var.placement]
}

run "no_subnet" {
  command = plan

  variables {
    platform = merge(var.platform, { subnets = {} })
  }

  expect_failures = [var.platform]
}

run "subnets_of_two_networks" {
  command = plan

  variables {
    platform = merge(var.platform, { subnets = merge(var.platform.subnets, { b = merge({ id = "subnet-0c", vpc_id = "vpc-0p", cidr_block = "10.9.1.0/24", availability_zone = "eu-central-1b" }, { vpc_id = "vpc-0q" }) }) })
    tenants  = { acme = merge(var.tenants.acme, { subnets = merge(var.tenants.acme.subnets, { b = merge({ id = "subnet-0d", vpc_id = "vpc-0t", cidr_block = "172.16.102.0/24", availability_zone = "eu-central-1b" }, { vpc_id = "vpc-0q" }) }) }) }
  }

  expect_failures = [var.platform]
}

run "hosts_nowhere" {
  command = plan

  variables {
    platform = merge(var.platform, { function_host_cidrs = [] })
  }

  expect_failures = [var.platform]
}

run "hosts_in_what_is_no_network" {
  command = plan

  variables {
    platform = merge(var.platform, { function_host_cidrs = ["10.9.64.1/18"] })
  }

  expect_failures = [var.platform]
}

run "an_mtu_too_small" {
  command = plan

  variables {
    platform = merge(var.platform, { mtu = 1280 })
  }

  expect_failures = [var.platform]
}

run "no_tenant" {
  command = plan

  variables {
    tenants = {}
  }

  expect_failures = [var.tenants]
}

run "a_tenants_name_with_a_space" {
  command = plan

  variables {
    tenants = { "acme inc" = var.tenants.acme }
  }

  expect_failures = [var.tenants]
}

run "a_tenant_without_a_subnet_where_the_platform_has_one" {
  command = plan

  variables {
    platform = merge(var.platform, { route_tables = ["rtb-0123456789abcdef0"], subnets = merge(var.platform.subnets, { b = { id = "subnet-0c", vpc_id = "vpc-0p", cidr_block = "10.9.1.0/24", availability_zone = "eu-central-1b" } }) })
    tenants  = { acme = merge(var.tenants.acme, { route_tables = ["rtb-0123456789abcdef0"], shards = [{ shard = 0, platform = "198.18.0.1", tenant = "198.19.0.1" }] }) }
  }

  expect_failures = [var.tenants]
}

run "a_tenant_of_two_networks" {
  command = plan

  variables {
    platform = merge(var.platform, { route_tables = ["rtb-0123456789abcdef0"], subnets = merge(var.platform.subnets, { b = { id = "subnet-0c", vpc_id = "vpc-0p", cidr_block = "10.9.1.0/24", availability_zone = "eu-central-1b" } }) })
    tenants  = { acme = merge(var.tenants.acme, { route_tables = ["rtb-0123456789abcdef0"], shards = [{ shard = 0, platform = "198.18.0.1", tenant = "198.19.0.1" }], subnets = merge(var.tenants.acme.subnets, { b = merge({ id = "subnet-0d", vpc_id = "vpc-0t", cidr_block = "172.16.102.0/24", availability_zone = "eu-central-1b" }, { vpc_id = "vpc-0x" }) }) }) }
  }

  expect_failures = [var.tenants]
}

run "a_subnet_of_another_zone" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { subnets = { a = merge(var.tenants.acme.subnets.a, { availability_zone = "eu-central-1b" }) } }) }
  }

  expect_failures = [var.tenants]
}

run "the_primary_interfaces_device" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { device = 0 }) }
  }

  expect_failures = [var.tenants]
}

run "a_device_of_two_tenants" {
  command = plan

  variables {
    tenants = { acme = var.tenants.acme, blue = merge(var.tenants.acme, { key = 8, shards = [{ shard = 0, platform = "10.9.0.51", tenant = "172.16.101.10" }] }) }
  }

  expect_failures = [var.tenants]
}

run "a_tenant_without_a_key" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { key = null }) }
  }

  expect_failures = [var.tenants]
}

run "a_key_with_wireguard" {
  command = plan

  variables {
    tunnel  = "wireguard"
    tenants = { acme = merge(var.tenants.acme, { shards = [merge(var.tenants.acme.shards[0], { wireguard = { private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x", public_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=" } })] }) }
    hosts   = {}
  }

  expect_failures = [var.tenants]
}

run "a_key_of_two_tenants" {
  command = plan

  variables {
    tenants = { acme = var.tenants.acme, blue = merge(var.tenants.acme, { device = 2, shards = [{ shard = 0, platform = "10.9.0.51", tenant = "172.16.101.10" }] }) }
  }

  expect_failures = [var.tenants]
}

run "an_inner_that_is_no_network" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { inner = "10.64.0.1/16" }) }
  }

  expect_failures = [var.tenants]
}

run "a_destination_that_is_no_network" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { allow = [{ to = "172.16.1.0/16", tcp = ["5432"] }] }) }
  }

  expect_failures = [var.tenants]
}

run "the_whole_Internet_as_a_destination" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { allow = [{ to = "0.0.0.0/0", tcp = ["5432"] }] }) }
  }

  expect_failures = [var.tenants]
}

run "nothing_allowed" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { allow = [] }) }
  }

  expect_failures = [var.tenants]
}

run "an_entry_that_allows_nothing" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { allow = [{ to = "172.16.0.0/16" }] }) }
  }

  expect_failures = [var.tenants]
}

run "a_port_that_there_is_not" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { allow = [{ to = "172.16.0.0/16", udp = ["65536"] }] }) }
  }

  expect_failures = [var.tenants]
}

run "ports_the_wrong_way_round" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { allow = [{ to = "172.16.0.0/16", tcp = ["8099-8000"] }] }) }
  }

  expect_failures = [var.tenants]
}

run "a_range_of_sources_that_is_none" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { snat_ports = "65535-1024" }) }
  }

  expect_failures = [var.tenants]
}

run "no_shard" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { shards = [] }) }
  }

  expect_failures = [var.tenants]
}

run "a_shard_beyond_the_inner_addresses" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { shards = [merge(var.tenants.acme.shards[0], { shard = 16 })] }) }
  }

  expect_failures = [var.tenants]
}

run "a_vrid_that_there_is_not" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { shards = [merge(var.tenants.acme.shards[0], { vrid = 256 })] }) }
  }

  expect_failures = [var.tenants]
}

run "a_vrid_of_two_shards" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { shards = [var.tenants.acme.shards[0], { shard = 1, vrid = 1, platform = "10.9.0.51", tenant = "172.16.101.11" }] }) }
  }

  expect_failures = [var.tenants]
}

run "a_HaVip_that_is_a_name" {
  command = plan

  variables {
    platform = merge(var.platform, { route_tables = ["rtb-0123456789abcdef0"] })
    tenants  = { acme = merge(var.tenants.acme, { shards = [merge(var.tenants.acme.shards[0], { platform = "gateway.example" })] }) }
  }

  expect_failures = [var.tenants]
}

run "a_HaVip_of_two_shards" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { shards = [var.tenants.acme.shards[0], { shard = 1, platform = "10.9.0.50", tenant = "172.16.101.11" }] }) }
  }

  expect_failures = [var.tenants]
}

run "a_HaVip_in_a_subnet_of_two_zones" {
  command = plan

  variables {
    platform = merge(var.platform, { subnets = merge(var.platform.subnets, { b = { id = "subnet-0c", vpc_id = "vpc-0p", cidr_block = "10.9.1.0/24", availability_zone = "eu-central-1b" } }) })
    tenants  = { acme = merge(var.tenants.acme, { subnets = merge(var.tenants.acme.subnets, { b = { id = "subnet-0d", vpc_id = "vpc-0t", cidr_block = "172.16.102.0/24", availability_zone = "eu-central-1b" } }) }) }
  }

  expect_failures = [var.tenants]
}

run "a_HaVip_to_which_nothing_leads" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { shards = [merge(var.tenants.acme.shards[0], { tenant = "198.19.0.1" })] }) }
  }

  expect_failures = [var.tenants]
}

run "a_HaVip_that_is_the_router" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { shards = [merge(var.tenants.acme.shards[0], { tenant = "172.16.101.1" })] }) }
  }

  expect_failures = [var.tenants]
}

run "wireguard_keys_with_GRE" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { shards = [merge(var.tenants.acme.shards[0], { wireguard = { private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x", public_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=" } })] }) }
  }

  expect_failures = [var.tenants]
}

run "wireguard_without_keys" {
  command = plan

  variables {
    tunnel  = "wireguard"
    tenants = { acme = merge(var.tenants.acme, { key = null }) }
    hosts   = {}
  }

  expect_failures = [var.tenants]
}

run "a_private_key_in_clear" {
  command = plan

  variables {
    tunnel  = "wireguard"
    tenants = { acme = merge(var.tenants.acme, { key = null, shards = [merge(var.tenants.acme.shards[0], { wireguard = { private_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=", public_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=" } })] }) }
    hosts   = {}
  }

  expect_failures = [var.tenants]
}

run "a_port_of_two_shards" {
  command = plan

  variables {
    tunnel  = "wireguard"
    tenants = { acme = merge(var.tenants.acme, { key = null, shards = [merge(var.tenants.acme.shards[0], { wireguard = { private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x", public_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=" } }), { shard = 1, platform = "10.9.0.51", tenant = "172.16.101.11", wireguard = { private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x", public_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=", port = 51820 } }] }) }
    hosts   = {}
  }

  expect_failures = [var.tenants]
}

run "no_public_key_and_no_directory" {
  command = plan

  variables {
    tunnel  = "wireguard"
    tenants = { acme = merge(var.tenants.acme, { key = null, shards = [merge(var.tenants.acme.shards[0], { wireguard = { private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x" } })] }) }
    hosts   = {}
  }

  expect_failures = [var.tenants]
}

run "a_public_address_that_is_none" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { shards = [merge(var.tenants.acme.shards[0], { public = "198.51.100.7" })] }) }
  }

  expect_failures = [var.tenants]
}

run "a_public_address_of_no_subnet" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { route_tables = ["rtb-0123456789abcdef0"], shards = [{ shard = 0, platform = "10.9.0.50", tenant = "198.19.0.1", public = "new" }] }) }
  }

  expect_failures = [var.tenants]
}

run "more_rules_than_a_group_takes" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { allow = [for number in range(21) : { to = "172.16.${number}.0/24", tcp = ["5432"] }] }) }
  }

  expect_failures = [var.tenants]
}

run "a_tunnel_that_there_is_not" {
  command = plan

  variables {
    tunnel = "ipsec"
  }

  expect_failures = [var.tunnel]
}

run "a_hosts_name_with_a_slash" {
  command = plan

  variables {
    hosts = { "host/1" = { number = 1, outer = "10.9.64.11" } }
  }

  expect_failures = [var.hosts]
}

run "a_number_of_two_hosts" {
  command = plan

  variables {
    hosts = { host-1 = { number = 1, outer = "10.9.64.11" }, host-2 = { number = 1, outer = "10.9.64.12" } }
  }

  expect_failures = [var.hosts]
}

run "a_number_beyond_the_inner_addresses" {
  command = plan

  variables {
    hosts = { host-1 = { number = 4096, outer = "10.9.64.11" } }
  }

  expect_failures = [var.hosts]
}

run "a_host_without_an_address" {
  command = plan

  variables {
    hosts = { host-1 = { number = 1 } }
  }

  expect_failures = [var.hosts]
}

run "a_host_without_a_key" {
  command = plan

  variables {
    tunnel  = "wireguard"
    tenants = { acme = merge(var.tenants.acme, { key = null, shards = [merge(var.tenants.acme.shards[0], { wireguard = { private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x", public_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=" } })] }) }
    hosts   = { host-1 = { number = 1, public_key = "short" } }
  }

  expect_failures = [var.hosts]
}

run "one_node" {
  command = plan

  variables {
    nodes = { gw-1 = { subnet = "a" } }
  }

  expect_failures = [var.nodes]
}

run "a_nodes_name_with_a_space" {
  command = plan

  variables {
    nodes = { "gw 1" = { subnet = "a" }, gw-2 = { subnet = "a" } }
  }

  expect_failures = [var.nodes]
}

run "a_node_in_no_subnet" {
  command = plan

  variables {
    nodes = { gw-1 = { subnet = "a" }, gw-2 = { subnet = "b" } }
  }

  expect_failures = [var.nodes]
}

run "more_nodes_than_a_spread_takes" {
  command = plan

  variables {
    nodes = { for number in range(8) : "gw-${number}" => { subnet = "a" } }
  }

  expect_failures = [var.nodes]
}

run "a_nodes_address_elsewhere" {
  command = plan

  variables {
    nodes = { gw-1 = { subnet = "a", platform = "10.9.1.11" }, gw-2 = { subnet = "a" } }
  }

  expect_failures = [var.nodes]
}

run "a_nodes_address_of_a_tenant_elsewhere" {
  command = plan

  variables {
    nodes = { gw-1 = { subnet = "a", tenants = { acme = "172.16.102.5" } }, gw-2 = { subnet = "a" } }
  }

  expect_failures = [var.nodes]
}

run "a_HaVip_as_a_nodes_address" {
  command = plan

  variables {
    nodes = { gw-1 = { subnet = "a", platform = "10.9.0.50" }, gw-2 = { subnet = "a" } }
  }

  expect_failures = [var.nodes]
}

run "a_priority_of_nobody" {
  command = plan

  variables {
    tenants = { acme = merge(var.tenants.acme, { shards = [merge(var.tenants.acme.shards[0], { priority = { gw-3 = 200 } })] }) }
  }

  expect_failures = [var.nodes]
}

run "a_node_without_a_token" {
  command = plan

  variables {
    tunnel    = "wireguard"
    tenants   = { acme = merge(var.tenants.acme, { key = null, shards = [merge(var.tenants.acme.shards[0], { wireguard = { private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x", public_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=" } })] }) }
    hosts     = {}
    directory = { url = "https://directory.example:9473", tokens = { gw-1 = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x" } }
  }

  expect_failures = [var.nodes]
}

run "a_group_of_one" {
  command = plan

  variables {
    tunnel      = "wireguard"
    tenants     = { acme = merge(var.tenants.acme, { key = null, shards = [merge(var.tenants.acme.shards[0], { wireguard = { private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x", public_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=" } })] }) }
    nodes       = {}
    hosts       = {}
    autoscaling = { min_size = 1 }
    directory   = { url = "https://directory.example", operator_token = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x" }
  }

  expect_failures = [var.autoscaling]
}

run "a_drain_of_no_time" {
  command = plan

  variables {
    tunnel      = "wireguard"
    tenants     = { acme = merge(var.tenants.acme, { key = null, shards = [merge(var.tenants.acme.shards[0], { wireguard = { private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x", public_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=" } })] }) }
    nodes       = {}
    hosts       = {}
    autoscaling = { drain_timeout = 5 }
    directory   = { url = "https://directory.example", operator_token = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x" }
  }

  expect_failures = [var.autoscaling]
}

run "a_group_that_nobody_knows" {
  command = plan

  variables {
    nodes       = {}
    autoscaling = {}
  }

  expect_failures = [var.autoscaling]
}

run "three_keys" {
  command = plan

  variables {
    ha = { keys = [for id in [1, 2, 3] : { id = id, secret = var.ha.keys[0].secret }] }
  }

  expect_failures = [var.ha]
}

run "a_key_in_clear" {
  command = plan

  variables {
    ha = { keys = [{ secret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }] }
  }

  expect_failures = [var.ha]
}

run "an_interval_that_VRRP_does_not_send" {
  command = plan

  variables {
    ha = { keys = var.ha.keys, interval = "15ms" }
  }

  expect_failures = [var.ha]
}

run "a_sync_port_that_there_is_not" {
  command = plan

  variables {
    ha = { keys = var.ha.keys, sync_port = 65536 }
  }

  expect_failures = [var.ha]
}

run "a_directory_with_GRE" {
  command = plan

  variables {
    directory = { url = "https://directory.example:9473", tokens = { gw-1 = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x", gw-2 = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x" } }
  }

  expect_failures = [var.directory]
}

run "a_directory_in_clear" {
  command = plan

  variables {
    tunnel    = "wireguard"
    tenants   = { acme = merge(var.tenants.acme, { key = null, shards = [merge(var.tenants.acme.shards[0], { wireguard = { private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x", public_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=" } })] }) }
    hosts     = {}
    directory = merge({ url = "https://directory.example:9473", tokens = { gw-1 = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x", gw-2 = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x" } }, { url = "http://directory.example:9473" })
  }

  expect_failures = [var.directory]
}

run "a_token_in_clear" {
  command = plan

  variables {
    tunnel    = "wireguard"
    tenants   = { acme = merge(var.tenants.acme, { key = null, shards = [merge(var.tenants.acme.shards[0], { wireguard = { private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x", public_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=" } })] }) }
    hosts     = {}
    directory = { url = "https://directory.example:9473", tokens = { gw-1 = "pwt_1_secret", gw-2 = "pwt_2_secret" } }
  }

  expect_failures = [var.directory]
}

run "a_CA_that_is_a_files_name" {
  command = plan

  variables {
    tunnel    = "wireguard"
    tenants   = { acme = merge(var.tenants.acme, { key = null, shards = [merge(var.tenants.acme.shards[0], { wireguard = { private_key = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x", public_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=" } })] }) }
    hosts     = {}
    directory = merge({ url = "https://directory.example:9473", tokens = { gw-1 = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x", gw-2 = "arn:aws:ssm:eu-central-1:123456789012:parameter/portway/prod/x" } }, { ca = "ca.pem" })
  }

  expect_failures = [var.directory]
}

run "what_is_no_image_and_no_network" {
  command = plan

  variables {
    instance  = { image = "debian-12" }
    ssh_cidrs = ["0.0.0.0/0"]
    admin     = { cidrs = ["0.0.0.0/0"] }
    egress    = { "anywhere" = [443] }
    kms_keys  = ["alias/aws/ssm"]
  }

  expect_failures = [var.instance, var.ssh_cidrs, var.admin, var.egress, var.kms_keys]
}

run "an_architecture_that_there_is_not" {
  command = plan

  variables {
    instance = { architecture = "x86_64" }
    package  = { sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }
    egress   = { "0.0.0.0/0" = [0] }
  }

  expect_failures = [var.instance, var.package, var.egress]
}

run "a_package_over_http" {
  command = plan

  variables {
    package = { sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", url = "http://example.com/portway.deb" }
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
