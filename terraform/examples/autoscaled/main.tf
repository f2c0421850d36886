# Gateways that come and go: an Auto Scaling group in two zones, whose size Portway's autoscaler says; a directory knows gateways and function hosts. The
# VPCs, the directory and the tokens are there already (docs/directory.md).

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

locals {
  shards = range(4)
}

module "gateways" {
  source = "../../modules/appliance"

  name   = "elastic"
  tunnel = "wireguard"
  platform = {
    subnets             = data.aws_subnet.platform
    route_tables        = var.platform.route_tables
    function_host_cidrs = ["10.9.64.0/18"]
  }
  tenants = {
    acme = {
      subnets      = data.aws_subnet.acme
      route_tables = var.acme.route_tables
      inner        = "10.64.0.0/16"
      allow        = [{ to = "172.16.0.0/16", tcp = ["5432"] }]
      # As many as there shall ever be nodes: what scales is how many of them a node has.
      shards = [
        for shard in local.shards : {
          shard     = shard, platform = cidrhost("198.18.0.0/24", shard + 1), tenant = cidrhost("198.19.0.0/24", shard + 1)
          wireguard = { private_key = var.secrets["acme-${shard}"] }
        }
      ]
    }
  }
  autoscaling = { min_size = 2, max_size = 4 }
  directory   = var.directory
  ha          = { keys = [{ secret = var.secrets["ha"] }] }
  # The autoscaler's.
  admin   = { cidrs = ["10.9.0.0/16"] }
  package = var.package
}

module "hosts" {
  source = "../../modules/function-host"

  name       = "elastic"
  vpc_id     = values(data.aws_subnet.platform)[0].vpc_id
  appliances = [module.gateways.function_host]
  hosts      = { for name, host in var.hosts : name => { outer = host.outer, enroll_token = host.enroll_token } }
  package    = var.package
}
