# Two tenants with the same addresses, in VPCs of their own, on one pair of gateways in two zones: encrypted tunnels, and HaVips that lie in no subnet,
# to which routes lead. The VPCs are there already.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.88"
    }
  }
}

provider "aws" {
  region = var.region
}

data "aws_subnet" "platform" {
  for_each = var.platform.subnets
  id       = each.value
}

data "aws_subnet" "acme" {
  for_each = var.acme.subnets
  id       = each.value
}

data "aws_subnet" "globex" {
  for_each = var.globex.subnets
  id       = each.value
}

locals {
  hosts = {
    host-1 = { number = 1, outer = "10.9.64.11", public_key = var.host_public_keys["host-1"], private_key = var.host_private_keys["host-1"] }
    host-2 = { number = 2, outer = "10.9.64.12", public_key = var.host_public_keys["host-2"], private_key = var.host_private_keys["host-2"] }
  }
}

module "gateways" {
  source = "../../modules/appliance"

  name   = "shared"
  tunnel = "wireguard"
  platform = {
    subnets             = data.aws_subnet.platform
    route_tables        = var.platform.route_tables
    function_host_cidrs = ["10.9.64.0/18"]
  }
  tenants = {
    acme = {
      device       = 1
      subnets      = data.aws_subnet.acme
      route_tables = var.acme.route_tables
      inner        = "10.64.0.0/16"
      allow        = [{ to = "172.16.0.0/16", tcp = ["5432", "8000-8099"], icmp = true }]
      track        = [{ icmp = "172.16.101.1", every = "1s" }]
      # 198.18.0.0/15 is no network of a VPC here. Each node has one of the shards, and the other as its Backup.
      shards = [
        { shard = 0, platform = "198.18.0.1", tenant = "198.19.0.1", wireguard = var.shard_keys["acme/0"] },
        { shard = 1, platform = "198.18.0.2", tenant = "198.19.0.2", wireguard = var.shard_keys["acme/1"] },
      ]
    }
    globex = {
      device       = 2
      subnets      = data.aws_subnet.globex
      route_tables = var.globex.route_tables
      inner        = "10.64.0.0/16"
      allow        = [{ to = "172.16.0.0/16", tcp = ["all"] }]
      shards       = [{ shard = 0, platform = "198.18.0.3", tenant = "198.19.0.1", wireguard = merge(var.shard_keys["globex/0"], { port = 51830 }) }]
    }
  }
  nodes = {
    gw-a = { subnet = "a", platform = "10.9.0.11" }
    gw-b = { subnet = "b", platform = "10.9.1.11" }
  }
  hosts   = { for name, host in local.hosts : name => { number = host.number, public_key = host.public_key } }
  ha      = { keys = [{ secret = var.ha_key }] }
  admin   = { cidrs = ["10.9.0.0/16"] }
  package = var.package
}

module "hosts" {
  source = "../../modules/function-host"

  name       = "shared"
  vpc_id     = values(data.aws_subnet.platform)[0].vpc_id
  appliances = [module.gateways.function_host]
  hosts      = { for name, host in local.hosts : name => { outer = host.outer, private_key = host.private_key } }
  package    = var.package
}
